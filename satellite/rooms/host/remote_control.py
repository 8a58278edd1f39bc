"""Home Assistant as the program that controls the host's room, by Wyoming's events."""

import asyncio
import logging
import time
from pathlib import Path

from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.event import Event
from wyoming.pipeline import PipelineStage, RunPipeline
from wyoming.snd import Played
from wyoming.wake import Detection

from satellite.audio.pcm import CANONICAL, AudioFormat, audio_after, seconds_of
from satellite.audio.sound_files import read_sound
from satellite.config.host import HomeAssistantSatelliteSettings
from satellite.engines.protocols import WakeStream
from satellite.errors import ProtocolError, SatelliteError, shown
from satellite.pipeline.stages import Stages
from satellite.rooms.host.host_room import HostRoom
from satellite.rooms.host.remote_timers import RemoteTimers
from satellite.rooms.host.speaker import Utterance
from satellite.rooms.stop_words import StopListener
from satellite.tasks import begin_task, end_tasks
from satellite.wire.connection import Connection
from satellite.wire.parsing import Faults, parsed

_LOGGER = logging.getLogger(__name__)

SND_FORMAT = AudioFormat(22_050)
"""What Home Assistant sends; anything is taken."""

_LONGEST_STREAM_SECONDS = 30.0
"""A command that the server has not ended by then is over; Home Assistant does so after 15 s at the latest."""

_STALLED_SECONDS = 30.0
"""A sound of which nothing more comes for so long, and no end, is over: the room's own wait for it."""

_MUTED_AFTER_SECONDS = 0.5
"""How much longer than the sound that says that it listens the microphone is muted: the room echoes."""


class HomeAssistantController:
    """What one server does with the room (a `Controller`)."""

    name = "Home Assistant"

    def __init__(
        self, connection: Connection, room: HostRoom, stages: Stages, settings: HomeAssistantSatelliteSettings
    ) -> None:
        self.muted = False
        """Whether the server has paused the room, which it has controlled before."""

        self.faults = Faults()
        """What the server has sent that makes no sense."""

        self._paused = True
        self._connection = connection
        self._room = room
        self._stages = stages
        self._settings = settings
        self._utterance: Utterance | None = None
        """The sound that is being received."""

        self._stream: WakeStream | None = None
        self._fed_seconds = 0.0
        self._streaming_since: float | None = None
        self._muted_until = 0.0
        self._no_wake_until = 0.0
        self._timers = RemoteTimers(room, stages)
        self._stop_listener = StopListener(stages, room.settings, self._may_stop, self._silence)
        self._sounds: set[asyncio.Task[None]] = set()

    async def take(self, event: Event) -> None:
        """Do what the server says. Raises `ProtocolError` for what makes no sense."""
        match event.type:
            case "run-satellite":
                self._paused = self.muted = False
                self._stop_streaming()
                self._room.give_control(self)
            case "pause-satellite":
                self.muted = self._paused = True
                self._stop_streaming()
            case "transcript":
                self._stop_streaming()
                self._play(self._settings.done_wav)
            case "error":
                self._stop_streaming()
                self._warn(f"Home Assistant: {shown(event.data.get('text'), 200)}")
            case "transcribe":
                self._play(self._settings.awake_wav, mute=True)
            case "audio-start" | "audio-chunk" | "audio-stop":
                self._take_sound(event)
            case "timer-started" | "timer-cancelled" | "timer-finished":
                self._timers.take(event)

    async def hear(self, pcm: bytes) -> None:
        """Take what the room hears: to the server once the wake word was heard."""
        if self._paused or time.monotonic() < self._muted_until:
            return
        try:
            if self._streaming_since is None:
                await self._detect(pcm)
                await self._stop_listener.hear(pcm)
            elif time.monotonic() - self._streaming_since > _LONGEST_STREAM_SECONDS:
                self._warn("Home Assistant did not end the command")
                self._stop_streaming()
                await self._connection.send(AudioStop())
            else:
                await self._send_audio(pcm)
        except (ConnectionError, ProtocolError) as error:
            _LOGGER.debug("%s: %s", self._connection.peer, error)  # its reader sees the same end
        except Exception as error:  # noqa: BLE001 - whatever an engine raises, the room must go on hearing
            self._close_stream()
            seconds = self._stages.background.note(f"wake word {self._room.settings.name}", error)
            self._no_wake_until = time.monotonic() + seconds

    async def close(self) -> None:
        """Give the room back; may be called twice."""
        self._paused = True
        self._stop_streaming()
        if self._room.controller is self:
            self._room.speaker.drop(self)
            self._room.end_control(self)
        await self._timers.close()
        await self._stop_listener.close()
        await end_tasks(*self._sounds)

    # The wake word.

    async def _detect(self, pcm: bytes) -> None:
        stream = await self._wake_stream()
        if stream is None:
            return
        self._fed_seconds += seconds_of(pcm)
        detections = await stream.feed(pcm)
        if not detections or self._paused or self._stream is not stream:  # the server may have paused meanwhile
            return
        after = audio_after(pcm, self._fed_seconds, detections[0].seconds)
        await self._called(detections[0].name)
        if after:
            await self._send_audio(after)

    async def _called(self, wake_word: str) -> None:
        self._close_stream()
        self._streaming_since = time.monotonic()
        await self._silence()
        self._room.conversation.await_command(_LONGEST_STREAM_SECONDS)
        end = PipelineStage.TTS if self._room.capabilities.speaker else PipelineStage.HANDLE
        run = RunPipeline(PipelineStage.ASR, end, wake_word_name=wake_word, restart_on_end=False).event()
        # wyoming 1.10 has dropped the field, older servers go by it
        run.data["snd_format"] = {"rate": SND_FORMAT.rate, "width": SND_FORMAT.width, "channels": SND_FORMAT.channels}
        detection = Detection(name=wake_word, timestamp=time.monotonic_ns() // 1_000_000)
        await self._connection.send(detection, run)

    def _may_stop(self) -> bool:
        """Return whether something sounds that "stop" would end."""
        room = self._room
        sounds = self._timers.ringing or room.speaker.busy or room.conversation.sounding is not None
        return sounds and self._streaming_since is None and not self._paused

    async def _silence(self) -> None:
        """Be silent, now: timers, announcements, and what the server plays."""
        self._timers.silence()
        interrupted = self._room.speaker.drop(self)
        self._room.speaker.drop()
        await self._room.conversation.stop()
        if interrupted:
            await self._report_played()

    async def _wake_stream(self) -> WakeStream | None:
        if self._stream is None and time.monotonic() >= self._no_wake_until:
            engine = await self._stages.wake_engine()
            self._stream = await engine.stream(self._room.settings.wake_words)
            self._fed_seconds = 0.0
        return self._stream

    def _stop_streaming(self) -> None:
        """Listen for the wake word again, from now on."""
        if self._streaming_since is not None:
            self._room.conversation.await_command(0.0)
        self._streaming_since = None
        self._close_stream()

    def _close_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    async def _send_audio(self, pcm: bytes) -> None:
        await self._connection.send(AudioChunk(CANONICAL.rate, CANONICAL.width, CANONICAL.channels, pcm))

    # Sound.

    def _take_sound(self, event: Event) -> None:
        """Play what the server sends; each utterance is reported as `played` once it was heard."""
        match event.type:
            case "audio-start":
                self._end_sound()
                start = parsed(AudioStart.from_event, event)
                self._begin_sound(AudioFormat(start.rate, start.width, start.channels))
            case "audio-chunk":
                chunk = parsed(AudioChunk.from_event, event)
                utterance = self._utterance or self._begin_sound(AudioFormat(chunk.rate, chunk.width, chunk.channels))
                self._room.speaker.feed(utterance, chunk.audio)
            case "audio-stop":
                self._end_sound()

    def _begin_sound(self, layout: AudioFormat) -> Utterance:
        self._utterance = self._room.speaker.begin(layout, self._report_played, self, _STALLED_SECONDS)
        return self._utterance

    def _end_sound(self) -> None:
        utterance, self._utterance = self._utterance, None
        if utterance is not None:
            utterance.end()

    async def _report_played(self) -> None:
        try:
            await self._connection.send(Played())
        except (ConnectionError, ProtocolError):
            return  # its reader sees the same end

    def _play(self, wav: Path | None, *, mute: bool = False) -> None:
        """Play one of the room's own sounds."""
        if wav is not None and self._room.capabilities.speaker:
            self._sounds = {task for task in self._sounds if not task.done()}
            self._sounds.add(begin_task(self._play_wav(wav, mute=mute), f"sound {self._room.settings.name}"))

    async def _play_wav(self, wav: Path, *, mute: bool) -> None:
        try:
            pcm = await asyncio.to_thread(read_sound, wav)
        except SatelliteError as error:
            self._warn(f"a sound cannot be played: {error}")
            return
        if mute:
            heard_seconds = self._room.speaker.lead_in.due_seconds + seconds_of(pcm)
            self._muted_until = time.monotonic() + heard_seconds + _MUTED_AFTER_SECONDS
        await self._room.speaker.play(CANONICAL, pcm)

    def _warn(self, message: str) -> None:
        name = self._room.settings.name
        _LOGGER.warning("room %s: %s", name, message, extra={"room": name})
