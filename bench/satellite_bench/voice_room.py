"""Our side of the voice part: a satellite with a wake word of its own, in whose room recordings are played."""

import asyncio
import math
import time
from collections.abc import Callable

from wyoming.asr import Transcript
from wyoming.audio import AudioChunk
from wyoming.event import Event

from satellite.audio.pcm import RATE, seconds_of
from satellite.errors import SatelliteError
from satellite_bench.splicing import Spliced
from satellite_bench.tts import Playback
from satellite_bench.voice import Turn, turn_of
from tests.doubles.satellite import ScriptedSatellite

CHUNK_SECONDS = 0.01
"""Sound that a microphone hands on at once."""

_TURN_SECONDS = 40.0
_CLAIM_SECONDS = 60.0


class VoiceRoom(ScriptedSatellite):
    """A satellite that knows when it has sent what, and when what came back."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.samples_per_chunk = int(CHUNK_SECONDS * RATE)
        self._forget_turn()

    def _forget_turn(self) -> None:
        self._unseen.clear()
        self._came_at: dict[str, float] = {}
        self._words = self._error = ""
        self._playback = Playback()
        self._stream_began = math.inf
        self._sent_seconds = self._said_from = 0.0

    async def send(self, event: Event) -> None:
        """Send an event; of sound, keep when the stream must have begun for it to go now."""
        if event.type == "audio-chunk":
            self._sent_seconds += seconds_of(event.payload or b"")
            # A chunk that is late does not move the microphone's clock: it runs as the earliest one shows.
            self._stream_began = min(self._stream_began, time.monotonic() - self._sent_seconds)
        await super().send(event)

    def _note(self, event: Event) -> None:
        now = time.monotonic()
        self._came_at.setdefault(event.type, now)
        match event.type:
            case "audio-chunk":
                self._playback.take(AudioChunk.from_event(event), 1000 * now)
            case "transcript":
                self._words = self._words or Transcript.from_event(event).text
            case "error":
                self._error = self._error or str(event.data.get("text"))
        super()._note(event)

    async def claimed_again(self) -> None:
        """Wait until a server has this room; raises `SatelliteError` where none takes it."""
        try:
            await self.until("run-satellite", seconds=_CLAIM_SECONDS)
        except TimeoutError as error:
            raise SatelliteError(f"no server connects to the room: {error}", code="bench-voice") from error

    async def turn(self, recording: Spliced, *, answered: bool) -> Turn:
        """Detect the wake word, play the recording, and return its turn; then disconnect and let the server reconnect.

        Without `answered` all that is waited for is the end of the command.
        """
        self._forget_turn()
        if not await self.wake():
            raise SatelliteError("the satellite was not ready for a command", code="bench-voice")
        saying = asyncio.create_task(self._say(recording.pcm))
        try:
            await self._happens(self._is_answered if answered else self._has_ended)
            return self._told(recording)
        finally:
            saying.cancel()
            await asyncio.gather(saying, return_exceptions=True)
            self._unseen.clear()
            self.vanish()
            await self.claimed_again()

    async def _say(self, pcm: bytes) -> None:
        self._said_from = self._sent_seconds
        await self.say(pcm)

    async def _happens(self, condition: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(_TURN_SECONDS):
                while not condition():
                    await self._news.wait()
        except TimeoutError:
            self._error = self._error or f"no answer within {_TURN_SECONDS:g} s"

    def _has_ended(self) -> bool:
        return bool(self._came_at.keys() & {"voice-stopped", "error"})

    def _is_answered(self) -> bool:
        return self._playback.first_audible_ms is not None or bool(self._came_at.keys() & {"error", "audio-stop"})

    def _told(self, recording: Spliced) -> Turn:
        spoken_ms = 1000 * (self._stream_began + self._said_from + recording.speech_end_seconds)
        endpoint, transcript, answer = map(self._came_at.get, ("voice-stopped", "transcript", "handled"))
        moments = endpoint, transcript, answer
        return turn_of(recording, spoken_ms, moments, self._playback, words=self._words, error=self._error)
