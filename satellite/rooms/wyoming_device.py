"""A connected Wyoming satellite as the device of a conversation, with the quirks of the satellites in use."""

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import suppress

from wyoming.asr import Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event, Eventable
from wyoming.pipeline import RunPipeline
from wyoming.timer import TimerCancelled, TimerFinished, TimerStarted, TimerUpdated
from wyoming.wake import Detection

from satellite.audio.pcm import BYTES_PER_SECOND, AudioFormat, Converter
from satellite.config.rooms import RoomSettings
from satellite.errors import ProtocolError, SatelliteError, Stage
from satellite.events import RunEvent, RunFailed, RunStart, SttEnd
from satellite.rooms.chimes import PLAIN
from satellite.rooms.conversation import Conversation
from satellite.rooms.device import Activity, Capabilities, RoomContext, RoomModes, room_request
from satellite.rooms.lead_in import LeadIn
from satellite.skills.timers.timers import TimerEvent, TimerEventKind, TimerState
from satellite.wire.connection import Connection
from satellite.wire.parsing import parsed
from satellite.wire.run_events import STAGES, wyoming_events

_LOGGER = logging.getLogger(__name__)

_REMIND_SECONDS = 1.0
"""How long after a run a satellite may go on streaming before it is reminded."""

_STOP_SECONDS = 0.5
"""How long after `audio-stop` a satellite may still go on."""

_PLAYED_SECONDS = 2.0
"""How much longer than its sound lasts a satellite may take to say that it has played it."""

_PRE_BUFFER_BYTES = 2 * BYTES_PER_SECOND
"""What a satellite that streams when somebody speaks sends first, emptied with zeros when it has just streamed
(wyoming-satellite 1.4.1, `vad.buffer_seconds`)."""


class WyomingDevice:
    """One satellite while it is connected, with the conversation that is held there."""

    capabilities = Capabilities(timers=True)
    media_output = None

    def __init__(
        self, connection: Connection, room: RoomSettings, context: RoomContext, modes: RoomModes | None = None
    ) -> None:
        self.output = WyomingOutput(connection, LeadIn(room.lead_in_seconds))
        self.conversation = Conversation(self, room, context, modes)
        self._connection = connection
        self._room = room
        self._converter: Converter | None = None
        self._zeros_left = 0
        self._streams_for_wake = False
        self._detects_wake_words = False
        """Whether it streams only after a wake word that it has detected itself."""

        self._detected: str | None = None
        self._repeats: Stage | None = None
        """The end of the runs of a satellite that asks once for a run from the wake word, without `restart_on_end`."""

        self._end_sent = False
        """Whether the satellite has been sent an end of the present run, at which it stops streaming."""

        self._reminded_at = float("-inf")
        self._audio_end: asyncio.TimerHandle | None = None

    def described(self, satellite: Mapping[str, object]) -> None:
        """Take what the satellite says of itself in its `info`."""
        self._detects_wake_words = bool(satellite.get("active_wake_words"))

    async def take(self, event: Event) -> None:
        """Handle an event of the satellite. Raises `ProtocolError` for what makes no sense."""
        if AudioChunk.is_type(event.type):
            await self._audio(parsed(AudioChunk.from_event, event))
        elif event.type == "audio-stop":
            self._audio_stopped()
        elif RunPipeline.is_type(event.type):
            await self._run_requested(event)
        elif Detection.is_type(event.type):
            self._detected = parsed(Detection.from_event, event).name or "wake word"
            self.conversation.await_command()
        elif event.type == "played":
            self.output.note_played()

    async def close(self) -> None:
        """End the conversation; may be called twice."""
        self._expect_more_audio()
        await self.conversation.close()

    async def show(self, step: RunEvent, activity: Activity) -> None:
        """Send the step as Wyoming's events, where it has any."""
        if isinstance(step, RunStart):
            self._end_sent = False
        elif isinstance(step, RunFailed) and step.code == "wake-not-detected":
            self._end_sent = True  # the satellite itself has ended its audio
            return
        if events := wyoming_events(step):
            await self._connection.send(*events)
            self._end_sent = self._end_sent or isinstance(step, SttEnd | RunFailed)

    async def show_timer(self, event: TimerEvent) -> None:
        """Send the timer's event, where Wyoming has one for it."""
        if (sent := timer_event(event)) is not None:
            await self._connection.send(sent)

    async def interrupted(self, wake_word: str | None) -> None:
        """Send a detection, as at the beginning of a command."""
        self._end_sent = False
        await self._connection.send(Detection(name=wake_word))

    async def stop_listening(self) -> None:
        """Send a `transcript` if nothing has ended the stream yet: a satellite streams until it gets one."""
        if not self._end_sent:
            await self._connection.send(Transcript(text=""))
        self._end_sent = False

    async def open_microphone(self) -> None:
        """Do nothing where the satellite streams all the time, or when somebody speaks; the protocol opens no other."""
        if self._detects_wake_words:
            raise SatelliteError(f"{self._room.name} listens only after its own wake word", code="room-cannot-start")

    async def set_muted(self, muted: bool) -> None:
        """Do nothing: the protocol has no way to say so."""

    async def set_volume(self, volume: float) -> bool:
        """Return False: the protocol knows no volume."""
        return False

    def fail(self) -> None:
        """Cut the connection."""
        self._connection.abort()

    async def _run_requested(self, event: Event) -> None:
        try:
            request = parsed(RunPipeline.from_event, event)
            if wanted := event.data.get("snd_format"):
                sound = parsed(AudioStart.from_event, Event("snd_format", wanted))
                self.output.format = AudioFormat(sound.rate, sound.width, sound.channels)
        except ProtocolError as error:
            _LOGGER.warning(
                "room %s: run-pipeline is refused: %s", self._room.name, error, extra={"room": self._room.name}
            )
            await self._connection.send(Error(text=str(error), code=error.code))
            return
        start, end = STAGES[request.start_stage], STAGES[request.end_stage]
        self._streams_for_wake = start is Stage.WAKE
        self._detects_wake_words = start is Stage.STT
        if start is Stage.WAKE and self.conversation.engaged:
            # It streams again in the middle of a command or an answer, which only the wake word may interrupt. Without
            # its pre-buffer's zeros, which would end the command as silence does.
            self._expect_more_audio()
            self._zeros_left = _PRE_BUFFER_BYTES
            return
        restart = bool(request.restart_on_end)
        await self._begin(start, end, restart=restart)
        self._repeats = end if start is Stage.WAKE and not restart else None

    async def _begin(self, start: Stage, end: Stage, *, restart: bool) -> None:
        self._expect_more_audio()
        detected, self._detected = self._detected, None
        self._repeats = None
        await self.conversation.begin(room_request(self._room, start, end), restart=restart, wake_word=detected)

    def _audio_stopped(self) -> None:
        """End the audio, unless the satellite asks at once for another run.

        One that streams when somebody speaks does so after five seconds, in the middle of a command
        (wyoming-satellite 1.4.1, `vad.wake_word_timeout`).
        """
        self._expect_more_audio()
        grace_seconds = _STOP_SECONDS if self._streams_for_wake else 0.0
        self._audio_end = asyncio.get_running_loop().call_later(grace_seconds, self.conversation.end_audio)

    def _expect_more_audio(self) -> None:
        if self._audio_end is not None:
            self._audio_end.cancel()

    async def _audio(self, chunk: AudioChunk) -> None:
        source = AudioFormat(chunk.rate, chunk.width, chunk.channels)
        if self._converter is None or self._converter.source != source:
            self._converter = Converter(source)
        pcm = self._without_zeros(self._converter.convert(chunk.audio))
        if not self.conversation.active and self._detected is not None:
            await self._begin(Stage.STT, Stage.TTS, restart=False)  # some satellites send no `run-pipeline`
        await self.conversation.hear(pcm)
        idle_since = max(self.conversation.ended_at, self._reminded_at)
        if not self.conversation.active and time.monotonic() - idle_since > _REMIND_SECONDS:
            await self._end_stream()

    async def _end_stream(self) -> None:
        """Begin the next run, or send the end once more: audio arrives though no run is under way.

        wyoming-satellite 1.0.0 asks once for all runs, and closes its microphone at a `transcript` only.
        """
        self._reminded_at = time.monotonic()
        if self._repeats is not None and not self.conversation.audio_ended:
            end = self._repeats
            await self._begin(Stage.WAKE, end, restart=False)
            self._repeats = end
        else:
            await self._connection.send(Transcript(text=""))

    def _without_zeros(self, pcm: bytes) -> bytes:
        if not self._zeros_left:
            return pcm
        zeros = len(pcm) - len(pcm.lstrip(b"\0"))
        zeros = min(zeros // 2 * 2, self._zeros_left)
        self._zeros_left = self._zeros_left - zeros if zeros == len(pcm) else 0
        return pcm[zeros:]


class WyomingOutput:
    """The loudspeaker of a satellite, which says `played` when it has played a sound."""

    paced = True
    trouble = ""

    def __init__(self, connection: Connection, lead_in: LeadIn) -> None:
        self.format: AudioFormat | None = None
        """What the satellite has asked for in `run-pipeline`."""

        self._connection = connection
        self._lead_in = lead_in
        self._sending = AudioFormat()
        self._played = asyncio.Event()

    @property
    def media_format(self) -> AudioFormat:
        """Return what the satellite has asked for, or what satellites take that ask for nothing: a voice's format."""
        return self.format or PLAIN

    async def start(self, layout: AudioFormat) -> float:
        """Send `audio-start`, and silence that wakes up the speaker; return how long that lasts."""
        self._sending = layout
        await self._connection.send(AudioStart(rate=layout.rate, width=layout.width, channels=layout.channels))
        bytes_per_second = layout.rate * layout.frame_bytes
        silence = self._lead_in.begin(layout)
        # All at once, and not at the pace of playback: it is no sound that anyone would want to stop.
        step = bytes_per_second // 10 // layout.frame_bytes * layout.frame_bytes
        for at in range(0, len(silence), step):
            await self.write(silence[at : at + step])
        return len(silence) / bytes_per_second

    async def write(self, pcm: bytes) -> None:
        """Send a chunk."""
        layout = self._sending
        await self._connection.send(
            AudioChunk(rate=layout.rate, width=layout.width, channels=layout.channels, audio=pcm)
        )

    async def stop(self) -> None:
        """Send `audio-stop`."""
        self._played.clear()
        self._lead_in.end()
        await self._connection.send(AudioStop())

    async def played(self, left_seconds: float) -> None:
        """Wait for `played`, which not every satellite sends, for little longer than the sound should last."""
        with suppress(TimeoutError):
            async with asyncio.timeout(left_seconds + _PLAYED_SECONDS):
                await self._played.wait()

    def note_played(self) -> None:
        """The satellite has said `played`."""
        self._played.set()

    def drop(self) -> None:
        """Do nothing: a satellite plays what it has received."""


def timer_event(event: TimerEvent) -> Eventable | None:
    """Return the event for a satellite; None for what Wyoming has no event for."""
    timer = event.timer
    match event.kind:
        case TimerEventKind.STARTED:
            return TimerStarted(
                id=timer.id,
                total_seconds=timer.total_seconds,
                name=timer.name,
                start_hours=timer.start.hours,
                start_minutes=timer.start.minutes,
                start_seconds=timer.start.seconds,
            )
        case TimerEventKind.UPDATED:
            return TimerUpdated(
                id=timer.id, is_active=timer.state is TimerState.RUNNING, total_seconds=event.seconds_left
            )
        case TimerEventKind.CANCELLED:
            return TimerCancelled(id=timer.id)
        case TimerEventKind.FINISHED:
            return TimerFinished(id=timer.id)
        case TimerEventKind.SILENCED | TimerEventKind.MISSED:
            return None
