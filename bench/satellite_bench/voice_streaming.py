"""A room that streams all the time, through which a command is taken up again if its speaker goes on after the end."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from wyoming.event import Event

from satellite.audio.gain import mixed
from satellite.audio.pcm import WIDTH
from satellite.config.endpoint import EndpointSettings
from satellite.errors import SatelliteError
from satellite_bench import own
from satellite_bench.chat_servers import ready
from satellite_bench.endpoint import with_television
from satellite_bench.server import started
from satellite_bench.splicing import Spliced, room_tone
from satellite_bench.tts import Playback
from satellite_bench.voice import Streamed, StreamingFigures
from satellite_bench.voice_room import VoiceRoom

REPAIRED_MS = (600, 800, 1000, 1200)
"""Pauses after which all that was said is answered as one."""

_ANSWER_TOKENS = 12
"""Longest answer: each is heard to its end, since the wake word would interrupt it."""

_CALLS = 5
_QUIET_SECONDS = 0.5
"""Room tone before the wake word: digital silence beside it makes it harder to hear."""

_DETECTION_SECONDS = 3.0
_ANSWER_SECONDS = 60.0
_TELEVISION_TURNS = 15
_SEED = 20_26


class StreamingRoom(VoiceRoom):
    """A satellite whose wake word the server hears; of several ends of a command the last counts."""

    def __post_init__(self) -> None:
        self.mode = "always"
        super().__post_init__()

    def _forget_turn(self) -> None:
        super()._forget_turn()
        self._withdrawn, self._stuttered = 0, False

    def _note(self, event: Event) -> None:
        if event.type == "voice-stopped":
            self._withdrawn += "voice-stopped" in self._came_at
            self._stuttered = self._stuttered or self._playback.first_audible_ms is not None
            for kind in ("voice-stopped", "transcript", "handled", "audio-stop"):
                self._came_at.pop(kind, None)
            self._words, self._playback = "", Playback()
        super()._note(event)

    async def streamed(self, wake_word: bytes, recording: Spliced) -> Streamed:
        """Say the wake word and the recording, and return its turn once the answer was heard."""
        self._forget_turn()
        # All of it in one room: what begins in a quieter one is a louder sound, not a command in that room.
        tone = room_tone(np.frombuffer(recording.pcm, np.int16), len(wake_word) // WIDTH, np.random.default_rng(_SEED))
        self.microphone.hear_room(tone.tobytes())
        await self._wake(mixed(wake_word, tone.tobytes()))
        await asyncio.sleep(_QUIET_SECONDS)
        saying = asyncio.create_task(self._say(recording.pcm))
        try:
            repairs = EndpointSettings().repair_seconds + 1.0
            await asyncio.sleep(recording.speech_end_seconds + repairs)  # later the command is not taken up again
            await self._happens(self._is_answered)
            found = Streamed(self._told(recording), self._withdrawn, self._stuttered)
            await self.until("detect", seconds=_ANSWER_SECONDS)  # it listens for the wake word again
        except TimeoutError as error:
            raise SatelliteError(f"the room that streams: {error}", code="bench-voice") from error
        finally:
            saying.cancel()
            await asyncio.gather(saying, return_exceptions=True)
        return found

    async def _wake(self, wake_word: bytes) -> None:
        """Say the wake word until it is heard; raises `SatelliteError`."""
        for _ in range(_CALLS):
            await asyncio.sleep(_QUIET_SECONDS)
            await self.say(wake_word)
            with suppress(TimeoutError):
                await self.until("detection", seconds=_DETECTION_SECONDS)
                return
        raise SatelliteError("the wake word is not heard", code="bench-voice")


@dataclass(frozen=True, slots=True)
class StreamingBench:
    """Plays recordings in a room that streams."""

    folder: Path
    models: Path
    threads: int
    wake_word: bytes
    on_status: Callable[[str], None]
    language: str = "en"

    async def measure(
        self, chat: Mapping[str, Any], plain: Sequence[Spliced], paused: Sequence[Spliced]
    ) -> StreamingFigures:
        """Play the recordings as they are, each before one with a pause, then some while a television speaks on."""
        found = StreamingFigures()
        television = with_television(plain, np.random.default_rng(_SEED))[:_TELEVISION_TURNS]
        async with self._room(chat) as room:
            for number in range(max(len(plain), len(paused))):
                self.on_status(f"voice: a room that streams, {number} of {max(len(plain), len(paused))} commands")
                # By an answer that is heard to its end the daemon learns that the room does not hear itself.
                for turns, recordings in ((found.plain, plain), (found.paused, paused)):
                    if number < len(recordings):
                        turns.append(await room.streamed(self.wake_word, recordings[number]))
            for number, recording in enumerate(television):
                self.on_status(f"voice: a television, {number} of {len(television)} commands")
                found.television.append(await room.streamed(self.wake_word, recording))
        return found

    @asynccontextmanager
    async def _room(self, chat: Mapping[str, Any]) -> AsyncIterator[StreamingRoom]:
        async with StreamingRoom(name="streaming") as room:
            settings = {
                "rooms": [{"name": "streaming", "uri": room.uri, "follow_up": "never"}],
                "commands": {"enabled": False},
                "chat": {**chat, "max_tokens": _ANSWER_TOKENS},
            }
            command = own.daemon(self.folder, self.models, self.threads, language=self.language, settings=settings)
            async with started(command) as server:
                await ready(server)
                await room.claimed_again()
                await room.until("detect", seconds=_ANSWER_SECONDS)
                yield room
