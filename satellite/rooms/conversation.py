"""What happens between one connected satellite and the daemon: its audio, its runs, their sound.

A conversation is a chain of runs: the wake word or the satellite's own detection begins it, an answer that asks
something goes on with it, and the wake word in the middle of an answer silences that and begins anew. However a run
ends, the satellite is told by `transcript` or `error`, since it streams until then.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import Any

from wyoming.asr import Transcript
from wyoming.audio import AudioChunk, AudioStart
from wyoming.error import Error
from wyoming.event import Event
from wyoming.pipeline import RunPipeline
from wyoming.wake import Detection

from satellite.audio.pcm import AudioFormat
from satellite.config.rooms import Hub, Place
from satellite.engines.protocols import VoiceChoice
from satellite.errors import ProtocolError, Stage, TextToSpeechError
from satellite.events import EventBus, RunEvent, RunEventType
from satellite.pipeline.audio_queue import AudioInbox
from satellite.pipeline.request import RunRequest, Speech
from satellite.pipeline.run import Run
from satellite.pipeline.stages import Stages
from satellite.rooms.arbitration import Arbiter
from satellite.rooms.barge_in import Interrupter
from satellite.rooms.microphone_input import Ear
from satellite.rooms.playback import Making, Peer, Playback
from satellite.rooms.run_outcome import NOBODY_CALLED, NOBODY_SPOKE, End, rest_seconds, wants_more
from satellite.services.run_pipeline import STAGES, room_events
from satellite.tasks import begin_task, end_tasks, failure_of
from satellite.wire.parsing import parsed

_LOGGER = logging.getLogger(__name__)

_INBOX_SECONDS = 20.0
"""More than the longest command, so that the connection's reader never waits for a run."""

_STILL_SECONDS = 1.0
"""How long after a run a satellite may go on streaming before it is reminded."""

_ANNOUNCED_SECONDS = 1.0
"""How much of an announcement has to be heard: cut off before that by somebody who calls, it is made again."""

_STOP_SECONDS = 0.5
"""How long after `audio-stop` a satellite may still go on."""

_DOING = {
    RunEventType.WAKE_WORD_START: "waiting for the wake word",
    RunEventType.STT_START: "listening",
    RunEventType.STT_END: "thinking",
    RunEventType.TTS_START: "speaking",
}


class Conversation:
    """The runs of one satellite while it is connected."""

    def __init__(
        self,
        connection: Peer,
        stages: Stages,
        bus: EventBus,
        room: Place,
        hub: Hub,
        arbiter: Arbiter,
        drop_sound: Callable[[], object] = lambda: None,
    ) -> None:
        """Prepare to talk in `room`; `drop_sound` takes back what its speaker has not played, where that can be."""
        self.room = room
        self.doing = "idle"
        """What the room is doing, for the status."""

        self.on_call: Callable[[], None] = _nothing
        """Called when somebody calls whom nobody is speaking with."""

        self._connection = connection
        self._stages = stages
        self._bus = bus
        self._hub = hub
        self._arbiter = arbiter
        self._playback = Playback(connection.send, hub.lead_seconds, drop_sound)
        self._ear = Ear()
        self._inbox = AudioInbox(_INBOX_SECONDS)
        self._task: asyncio.Task[None] | None = None
        self._run: asyncio.Task[bool] | None = None
        self._follows = self._told = self._streams_for_wake = False
        self._interrupted: End | None = None
        self._failed_with = ""
        self._ended_at = math.inf
        self._again: Stage | None = None
        """The end of the runs that a satellite wants which goes on streaming and asks only once."""

        self._last_heard = b""
        self._detected: str | None = None
        self._listens_until = float("-inf")
        self._answering = asyncio.Event()
        self._unengaged = asyncio.Event()
        self._unengaged.set()
        self._announcing = asyncio.Lock()
        self._quiet_time: asyncio.Timeout | None = None
        """Ends the announcement that is heard."""

        self._audio_end: asyncio.Handle = asyncio.get_running_loop().call_soon(_nothing)

    async def take(self, event: Event) -> None:
        """Handle what the satellite says."""
        if AudioChunk.is_type(event.type):
            await self._audio(parsed(AudioChunk.from_event, event))
        elif event.type == "audio-stop":
            self._stopped()
        elif RunPipeline.is_type(event.type):
            await self._requested(event)
        elif Detection.is_type(event.type):
            self._detected = parsed(Detection.from_event, event).name or "wake word"
        elif event.type == "played":
            self._playback.note_played()

    async def close(self) -> None:
        """End whatever is under way; may be called twice."""
        self._audio_end.cancel()
        task, self._task = self._task, None
        if task is not None:
            await end_tasks(task)

    async def announce(self, source: AudioFormat, pcm: bytes, more: Making | None = None) -> None:
        """Play `pcm`, and `more`, while nobody speaks with the room; cancelling or failing silences it.

        Whoever calls meanwhile silences it too, for good if they have heard its beginning.
        """
        announced = False
        while not announced:
            await self._unengaged.wait()
            async with self._announcing:
                if self._unengaged.is_set():  # somebody may have called while another announcement was heard
                    announced = await self._announced(source, pcm, more)

    async def _announced(self, source: AudioFormat, pcm: bytes, more: Making | None) -> bool:
        """Play an announcement, and return whether enough of it was heard."""
        try:
            async with asyncio.timeout(None) as self._quiet_time:
                try:
                    await self._playback.play(source, pcm, more)
                    await self._playback.finish()
                finally:
                    self._quiet_time = None
        except (asyncio.CancelledError, TextToSpeechError):
            await self._playback.silence()
            raise
        except TimeoutError:
            heard_seconds = self._playback.heard_seconds()
            await self._playback.silence()
            return heard_seconds >= _ANNOUNCED_SECONDS
        return True

    def _engage(self) -> None:
        """Somebody speaks with the room: an announcement gives way."""
        self._unengaged.clear()
        quiet_time, self._quiet_time = self._quiet_time, None  # it may be ended once
        if quiet_time is not None:
            quiet_time.reschedule(asyncio.get_running_loop().time())

    # What the satellite wants.

    async def _requested(self, event: Event) -> None:
        try:
            request = parsed(RunPipeline.from_event, event)
            if wanted := event.data.get("snd_format"):
                sound = parsed(AudioStart.from_event, Event("snd_format", wanted))
                self._playback.format = AudioFormat(sound.rate, sound.width, sound.channels)
        except ProtocolError as error:
            _LOGGER.warning(
                "room %s: run-pipeline is refused: %s", self.room.name, error, extra={"room": self.room.name}
            )
            await self._connection.send(Error(text=str(error), code=error.code))
            return
        start, end = STAGES[request.start_stage], STAGES[request.end_stage]
        self._streams_for_wake = start is Stage.WAKE
        if start is Stage.WAKE and not self._unengaged.is_set():
            self._audio_end.cancel()  # it goes on, amid a command or an answer: only the wake word may interrupt
            self._ear.goes_on()
            return
        await self._begin(start, end, restart=bool(request.restart_on_end))

    def _stopped(self) -> None:
        """The satellite's audio is over, unless it asks at once for another run.

        One that streams when somebody speaks does so after five seconds, in the middle of a command
        (wyoming-satellite 1.4.1, `vad.wake_word_timeout`).
        """
        self._audio_end.cancel()
        grace = _STOP_SECONDS if self._streams_for_wake else 0.0
        self._audio_end = asyncio.get_running_loop().call_later(grace, self._end_audio)

    def _end_audio(self) -> None:
        if not self._answering.is_set():  # else the command is over, and the next audio may interrupt the answer
            self._inbox.end()

    async def _audio(self, chunk: AudioChunk) -> None:
        pcm = self._ear.hear(chunk)
        if self._task is None and self._detected is not None:
            await self._begin(Stage.STT, Stage.TTS, restart=False)  # some satellites ask for no run
        if self._task is not None:
            await self._inbox.put(pcm)
        elif time.monotonic() - self._ended_at > _STILL_SECONDS:
            await self._still_heard()

    async def _still_heard(self) -> None:
        """Audio comes though no run is under way: the next one begins, or the microphone is closed once more.

        wyoming-satellite 1.0.0 asks once for all runs, and closes its microphone at a `transcript` only.
        """
        self._ended_at = time.monotonic()
        if self._again is not None:
            await self._begin(Stage.WAKE, self._again, restart=False)
        else:
            await self._connection.send(Transcript(text=""))

    async def _begin(self, start: Stage, end: Stage, *, restart: bool) -> None:
        """Begin a conversation, in place of one that is under way."""
        if start is Stage.STT and self._unengaged.is_set():
            self.on_call()
        await self.close()
        if start is Stage.WAKE and time.monotonic() < self._listens_until:
            start = Stage.STT  # it streams again because somebody speaks: the answer to what was asked
            self._follows = True
        detected, self._detected = self._detected, None
        self._inbox = AudioInbox(_INBOX_SECONDS)
        self._listens_until = float("-inf")
        if start is Stage.STT and detected is not None and not self._claim(detected):
            await self._connection.send(Transcript(text=""))
            return
        self._task = begin_task(self._converse(start, end, restart=restart), f"room {self.room.name}")
        self._task.add_done_callback(self._ended_unexpectedly)

    def _claim(self, wake_word: str) -> bool:
        """Return whether this room is the one that answers."""
        return self._arbiter.claim(self.room.name, wake_word, self._ear.speech_to_noise_db, self._lose)

    def _lose(self) -> None:
        """Another room hears the same call better."""
        _LOGGER.info("room %s: another room hears better", self.room.name, extra={"room": self.room.name})
        if self._run is not None:
            self._run.cancel()

    def _ended_unexpectedly(self, task: asyncio.Task[None]) -> None:
        if (error := failure_of(task)) is not None:
            if not isinstance(error, ConnectionError):
                _LOGGER.error("room %s has broken off", self.room.name, exc_info=error, extra={"room": self.room.name})
            self._connection.abort()

    # The chain of runs.

    async def _converse(self, start: Stage, end: Stage, *, restart: bool) -> None:
        stage, rest, outcome = start, 0.0, End.DONE
        try:
            while True:
                run = self._next_run(stage, end, called=outcome is End.CALLED)
                outcome = await self._outcome(run)
                self._follows = outcome is End.DONE and wants_more(run.answer, self.room.follow_up)
                if outcome is End.CALLED:
                    stage = Stage.STT
                    continue
                await self._tell_end()
                if not restart or self._inbox.ended:
                    break
                rest = rest_seconds(outcome, self._failed_with, rest)
                stage = Stage.STT if self._follows else start
                if stage is Stage.WAKE and outcome is not End.STOPPED:
                    self._inbox.unread(self._last_heard)
                await asyncio.sleep(rest)
            if self._follows and start is not Stage.STT:
                self._listens_until = time.monotonic() + self._hub.follow_up_seconds
        finally:
            self._follows = False
            self._again = end if start is Stage.WAKE and not restart and not self._inbox.ended else None
            self._ended_at = time.monotonic()
            self.doing = "idle"
            self._unengaged.set()
            if self._task is asyncio.current_task():
                self._task = None

    def _next_run(self, stage: Stage, end: Stage, *, called: bool) -> Run:
        room = self.room
        request = RunRequest(
            room=room.name,
            named_room=room.name,
            start=stage,
            end=end,
            wake_words=room.wake_words,
            language=room.language,
            persona=room.persona,
            no_speech_seconds=self._hub.follow_up_seconds if self._follows else None,
            after_wake_word=called,
            voice=VoiceChoice(room.voice, room.language),
        )
        return Run(self._stages, self._bus, request, self._emit, heard_seconds=self._playback.heard_seconds)

    async def _outcome(self, run: Run) -> End:
        self._told = False
        self._interrupted = None
        self._failed_with = ""
        self._answering.clear()
        interrupter = Interrupter(self._stages, self.room, self._inbox)
        self._run = current = begin_task(run.execute(self._inbox), f"run {self.room.name}")
        watch = self._stages.background.run(f"barge-in {self.room.name}", lambda: self._watch(current, interrupter))
        try:
            await asyncio.wait([self._run])
        finally:
            await end_tasks(self._run, watch.task)
        await self._silence()
        self._last_heard = interrupter.last_heard
        if self._run.cancelled():
            return self._interrupted or End.LOST
        return End.DONE if self._run.result() else End.FAILED

    async def _watch(self, run: asyncio.Task[bool], interrupter: Interrupter) -> None:
        """End the run when somebody speaks up while the answer is made and heard."""
        await self._answering.wait()
        interruption = await interrupter.wait()
        self._interrupted = End.CALLED if interruption.wake_word else End.STOPPED
        run.cancel()
        await self._playback.silence()
        if interruption.wake_word:  # whom somebody interrupts is meant, however badly it hears amid its own sound
            self._arbiter.claim(self.room.name, interruption.wake_word, math.inf, self._lose)
            await self._connection.send(Detection(name=interruption.wake_word))

    async def _silence(self) -> None:
        """End the sound of a run that is over, but not an announcement."""
        if not self._announcing.locked():
            await self._playback.silence()

    async def _tell_end(self) -> None:
        """Make sure that the satellite knows: it streams until it does."""
        if not self._told:
            await self._connection.send(Transcript(text=""))

    async def _emit(self, step: RunEvent | Speech) -> None:
        """Do in the room what a step of a run means there."""
        if isinstance(step, Speech):
            async with self._announcing:
                await self._playback.play(step.format, step.pcm)
            return
        self.doing = _DOING.get(step.type, self.doing)
        match step.type:
            case RunEventType.WAKE_WORD_START:
                self._unengaged.set()
            case RunEventType.WAKE_WORD_END:
                await self._heard_wake_word(step.data)
            case RunEventType.STT_START:
                self._engage()
            case RunEventType.STT_END:
                self._answering.set()
            case RunEventType.TTS_END:
                await self._playback.finish()
            case RunEventType.ERROR:
                self._failed_with = step.data["code"]
                await self._silence()
                if self._failed_with == NOBODY_CALLED:
                    self._told = True  # it was the satellite that has ended its audio
                    return
                if self._follows and self._failed_with in NOBODY_SPOKE:
                    return  # nobody went on: that is no error in the room
        events = room_events(step)
        if events:
            await self._connection.send(*events)
            self._told = self._told or step.type in (RunEventType.STT_END, RunEventType.ERROR)

    async def _heard_wake_word(self, data: dict[str, Any]) -> None:
        self._engage()
        self.on_call()
        if not self._claim(data["name"]):
            self._lose()
            await asyncio.sleep(0)  # the cancellation arrives here, before anything is sent


def _nothing() -> None:
    """Stand for a timer that was never set, and for somebody who listens."""
