"""Home Assistant as the one who drives the host's room, by Wyoming's events."""

import asyncio
import logging
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from wyoming.audio import AudioChunk, AudioStop
from wyoming.event import Event
from wyoming.pipeline import PipelineStage, RunPipeline
from wyoming.snd import Played
from wyoming.wake import Detection

from satellite.audio.pcm import CANONICAL, AudioFormat, audio_after, seconds_of
from satellite.audio.sound_files import read_sound
from satellite.config.settings import Config
from satellite.engines.protocols import WakeStream
from satellite.errors import ProtocolError, SatelliteError, shown
from satellite.pipeline.stages import Stages
from satellite.rooms.host.remote_timers import GuestTimers
from satellite.rooms.host.room import LocalRoom
from satellite.rooms.host.speaker import SoundEvents
from satellite.tasks import begin_task, end_tasks
from satellite.wire.connection import Connection
from satellite.wire.parsing import Faults

_LOGGER = logging.getLogger(__name__)

SND_FORMAT = AudioFormat(22_050)
"""What Home Assistant sends; anything is taken."""

LONGEST_STREAM_SECONDS = 30.0
"""Home Assistant ends a command after 15 s at the latest."""

_MUTED_AFTER_SECONDS = 0.5
"""How much longer than the sound that says that it listens the microphone is muted: the room echoes."""


class HomeAssistantGuest:
    """What one server does with the room (`Guest`)."""

    def __init__(
        self,
        connection: Connection,
        room: LocalRoom,
        stages: Stages,
        config: Config,
        longest_stream_seconds: float = LONGEST_STREAM_SECONDS,
    ) -> None:
        self.muted = False
        """Whether the server has paused the room, which it once drove."""

        self.pings = False
        """Whether the server pings, or answers pings: one that does must go on doing so."""

        self._paused = True
        self._connection = connection
        self._room = room
        self._stages = stages
        self._longest_stream_seconds = longest_stream_seconds
        self._settings = config.home_assistant_satellite
        self._sound = SoundEvents(room.speaker, self._played)
        self._stream: WakeStream | None = None
        self._fed_seconds = 0.0
        self._streaming_since: float | None = None
        self.faults = Faults()
        """What the server has sent that makes no sense."""

        self._muted_until = 0.0
        self._no_wake_until = 0.0
        self._timers = GuestTimers(room, stages, lambda: self._streaming_since is not None)
        self._sounds: set[asyncio.Task[None]] = set()

    async def take(self, event: Event) -> None:
        """Do what the server says."""
        match event.type:
            case "run-satellite":
                self._paused = self.muted = False
                self._stop_streaming()
                self._room.lend(self, "Home Assistant")
            case "pause-satellite":
                self.muted = self._paused = True
                self._stop_streaming()
            case "transcript":
                self._stop_streaming()
                self._play(self._settings.done_wav)
            case "error":
                self._stop_streaming()
                _LOGGER.warning(
                    "room %s: Home Assistant: %s",
                    self._room.room.name,
                    shown(event.data.get("text"), 200),
                    extra={"room": self._room.room.name},
                )
            case "transcribe":
                self._play(self._settings.awake_wav, mute=True)
            case "audio-start" | "audio-chunk" | "audio-stop":
                self._sound.take(event)
            case "timer-started" | "timer-cancelled" | "timer-finished":
                self._timers.take(event)

    async def heard(self, pcm: bytes) -> None:
        """Take what the room hears: to the server once the wake word was heard."""
        if self._paused or time.monotonic() < self._muted_until:
            return
        try:
            if self._streaming_since is None:
                await self._detect(pcm)
            elif time.monotonic() - self._streaming_since > self._longest_stream_seconds:
                _LOGGER.warning(
                    "room %s: Home Assistant did not end the command",
                    self._room.room.name,
                    extra={"room": self._room.room.name},
                )
                self._stop_streaming()
                await self._connection.send(AudioStop())
            else:
                await self._send_audio(pcm)
        except (ConnectionError, ProtocolError) as error:
            _LOGGER.debug("%s: %s", self._connection.peer, error)  # its reader sees the same end
        except Exception as error:  # noqa: BLE001 - whatever it is, the room must not go deaf of it
            self._close_stream()
            seconds = self._stages.background.note(f"wake word {self._room.room.name}", error)
            self._no_wake_until = time.monotonic() + seconds

    async def close(self) -> None:
        """Give the room back; may be called twice."""
        self._paused = True
        self._stop_streaming()
        if self._room.guest is self:
            self._sound.drop()
            self._room.take_back(self)
        await self._timers.close()
        await end_tasks(*self._sounds)

    # The wake word.

    async def _detect(self, pcm: bytes) -> None:
        stream = await self._wake_stream()
        if stream is None:
            return
        self._fed_seconds += seconds_of(pcm)
        detections = await stream.feed(pcm)
        if not detections or self._paused or self._stream is not stream:
            return
        after = audio_after(pcm, self._fed_seconds, detections[0].seconds)
        await self._called(detections[0].name)
        if after:
            await self._send_audio(after)

    async def _called(self, wake_word: str) -> None:
        self._close_stream()
        self._streaming_since = time.monotonic()
        self._room.silence_rings()
        self._timers.silence()
        interrupted = self._sound.drop()
        if self._room.speaker is not None:
            self._room.speaker.drop()
        if interrupted:
            await self._connection.send(Played())
        end = PipelineStage.TTS if self._room.speaker is not None else PipelineStage.HANDLE
        run = RunPipeline(PipelineStage.ASR, end, wake_word_name=wake_word, restart_on_end=False).event()
        # wyoming 1.10 has dropped the field, older servers go by it
        run.data["snd_format"] = {"rate": SND_FORMAT.rate, "width": SND_FORMAT.width, "channels": SND_FORMAT.channels}
        detection = Detection(name=wake_word, timestamp=time.monotonic_ns() // 1_000_000)
        await self._connection.send(detection, run)

    async def _wake_stream(self) -> WakeStream | None:
        if self._stream is None and time.monotonic() >= self._no_wake_until:
            engine = await self._stages.wake_engine()
            self._stream = await engine.stream(self._room.room.wake_words)
            self._fed_seconds = 0.0
        return self._stream

    def _stop_streaming(self) -> None:
        """Listen for the wake word again, from now on."""
        self._streaming_since = None
        self._close_stream()

    def _close_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    async def _send_audio(self, pcm: bytes) -> None:
        await self._connection.send(AudioChunk(CANONICAL.rate, CANONICAL.width, CANONICAL.channels, pcm))

    # Sound.

    async def _played(self) -> None:
        try:
            await self._connection.send(Played())
        except (ConnectionError, ProtocolError):
            return  # its reader sees the same end

    def _play(self, wav: Path | None, *, mute: bool = False) -> None:
        """Play one of the room's own sounds."""
        if wav is not None and self._room.speaker is not None:
            self._own(self._play_wav(wav, mute=mute))

    async def _play_wav(self, wav: Path, *, mute: bool) -> None:
        try:
            pcm = await asyncio.to_thread(read_sound, wav)
        except SatelliteError as error:
            room = self._room.room.name
            _LOGGER.warning(
                "room %s: a sound cannot be played: %s", room, error, extra={"room": room, "code": error.code}
            )
            return
        if mute:
            self._muted_until = time.monotonic() + seconds_of(pcm) + _MUTED_AFTER_SECONDS
        await self._room.play(CANONICAL, pcm)

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        self._sounds = {task for task in self._sounds if not task.done()}
        self._sounds.add(begin_task(work, f"sound {self._room.room.name}"))
