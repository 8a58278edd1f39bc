"""The runs of one room, one after the other: their audio, their sound, and what interrupts them.

The wake word, or the device's own detection, begins a chain of runs; an answer that asks something goes on with it; and
the wake word during an answer silences that and begins the next command. However a run ends, the device is told to stop
listening.
"""

import asyncio
import logging
import math
import time
from dataclasses import replace

from satellite.backoff import Backoff
from satellite.config.rooms import RoomSettings
from satellite.engines.protocols import Transcription
from satellite.errors import SatelliteError, Stage
from satellite.events import (
    RunEvent,
    RunFailed,
    SttEnd,
    SttResumed,
    SttStart,
    TtsEnd,
    WakeWordEnd,
    WakeWordStart,
    new_run_id,
)
from satellite.pipeline.audio_queue import AudioInbox
from satellite.pipeline.request import RunRequest, Speech
from satellite.pipeline.run import Run
from satellite.rooms.arbitration import Loudness
from satellite.rooms.barge_in import BargeIn, Interruption
from satellite.rooms.device import Activity, Device, RoomContext, RoomModes
from satellite.rooms.expectation import Expectation, Expectations
from satellite.rooms.ringing import Ringing, rung_by_device
from satellite.rooms.room_sound import RoomSound
from satellite.rooms.run_steps import ACTIVITIES, CUES, NOBODY_SPOKE, RunOutcome, wants_more
from satellite.tasks import begin_task, end_tasks, failure_of

_LOGGER = logging.getLogger(__name__)

_INBOX_SECONDS = 20.0
"""More than the longest command, so that the connection's reader never waits for a run."""

_FIRST_REST_SECONDS = 1.0
_LONGEST_REST_SECONDS = 30.0
"""Between runs that fail one after the other: a broken stage must not spin."""


class RunChain:
    """The runs of one room while its device is connected."""

    def __init__(self, device: Device, room: RoomSettings, context: RoomContext, modes: RoomModes) -> None:
        """Run what `device` begins, in the `modes` that were set for the room."""
        self.room = room
        self.modes = modes
        """What is set for the room; what is set at the device itself is to be noted here."""

        self.activity = Activity.IDLE
        self.ended_at = math.inf
        """When the latest chain of runs has ended, by `time.monotonic`; infinite before the first."""

        self._device = device
        self._context = context
        elsewhere = None if context.speakers is None else context.speakers.output(room.speaker)
        self._is_heard_elsewhere = elsewhere is not None
        self._speaks = self._is_heard_elsewhere or device.capabilities.speaker
        self._sound = RoomSound(
            elsewhere or device.output,
            None if self._is_heard_elsewhere else device.media_output,
            modes,
            lambda: context.stages.config.hub.send_ahead_seconds,
        )
        self.ringing: Ringing | None = None
        """The timers, to be run while the device is connected; None where none can ring."""

        can = device.capabilities
        if context.scheduler is not None and (self._is_heard_elsewhere or can.sounds or can.timers):
            ring = rung_by_device if can.rings else self._sound.ring
            self.ringing = Ringing(context.scheduler, context.stages, room, device.show_timer, ring)
        self._loudness = Loudness()
        self._inbox = AudioInbox(_INBOX_SECONDS)
        self.audio_ended = False
        """Whether the device has ended the audio of the present, or latest, chain of runs."""

        self._task: asyncio.Task[None] | None = None
        self._run: asyncio.Task[bool] | None = None
        self._expected = Expectations()
        """What the next run is to listen to without the wake word."""

        self._present: Expectation | None = None
        """What the present run listens to without the wake word."""

        self._after_wake_word = False
        """Whether the audio of the next run begins with the end of a wake word."""

        self._streams = False
        """Whether the microphone is heard after a command."""

        self._barge_in = BargeIn(context.stages, room, speech_interrupts=can.speech_interrupts)
        self._sounded = False
        """Whether the present run was heard."""

        self._interruption: Interruption | None = None
        self._failed_with: RunFailed | None = None
        self._transcript = Transcription("", "")
        self._answering = asyncio.Event()
        self.engaged = False
        """Whether somebody speaks with the room, or hears an answer."""

    @property
    def active(self) -> bool:
        """Whether a chain of runs is under way."""
        return self._task is not None

    @property
    def expects_command(self) -> bool:
        """Whether what the device begins next is a command without the wake word."""
        return self._expected.seconds_left > 0

    async def hear(self, pcm: bytes) -> None:
        """Take canonical audio of the microphone; without a run under way it only counts for the room's loudness."""
        if self.modes.muted:
            return
        self._loudness.feed(pcm)
        if self._task is not None:
            await self._inbox.put(pcm)

    def end_audio(self) -> None:
        """The device's audio is over."""
        if not self._answering.is_set():  # else the command is over, and the next audio may interrupt the answer
            self.audio_ended = True
            self._inbox.end()

    async def begin(self, request: RunRequest, *, restart: bool = False, wake_word: str | None = None) -> None:
        """Begin a chain of runs, in place of one that is under way; `request` is the first.

        With `restart` a run follows each, until the audio ends. `wake_word` is one that the device itself has heard:
        then the room only answers if none hears it better.
        """
        start = request.start
        if start is not Stage.WAKE:
            self._sound.hold()  # before anything is awaited: an announcement would sound into the command
        if start is Stage.STT and not self.engaged:
            self.silence_ringing()
        await self._end_chain()
        if wake_word is None and start in (Stage.WAKE, Stage.STT) and self._expected.seconds_left:
            # A satellite that streams when it hears speech, or listens again, does so for what was asked.
            start = Stage.STT
        else:
            self._expected.put(None)
        self._streams = request.start is Stage.WAKE or self._device.capabilities.speech_interrupts
        self._inbox = AudioInbox(_INBOX_SECONDS)
        self.audio_ended = False
        if start is Stage.STT and (self.modes.muted or (wake_word is not None and not self._claim(wake_word))):
            self._rest()
            await self._device.stop_listening()
            return
        if start is Stage.STT:
            self._engage()
        # A device without a speaker asks for no sound, but is heard elsewhere.
        end = Stage.TTS if self._is_heard_elsewhere and request.end is Stage.CHAT else request.end
        self._task = begin_task(
            self._converse(replace(request, start=start, end=end), restart=restart), f"room {self.room.name}"
        )
        self._task.add_done_callback(self._ended_unexpectedly)

    async def close(self) -> None:
        """End all that is under way, since the device has gone; may be called twice."""
        await self._end_chain()
        self._rest()
        await self._sound.close()

    async def end(self) -> None:
        """End the runs that are under way, and silence their answer."""
        await self._end_chain()
        self._rest()
        await self._sound.silence_answer()

    def silence_ringing(self) -> bool:
        """Silence the timers that ring, since somebody speaks with the room; return whether there were any."""
        return self.ringing is not None and self.ringing.silence()

    async def _end_chain(self) -> None:
        task, self._task = self._task, None
        try:
            if task is not None:
                await end_tasks(task)
        finally:
            # `hear` may be waiting there for room, which no run will make any more. Only after the run has ended, which
            # would take the end for that of a command, and answer it.
            self._inbox.end()

    def _engage(self) -> None:
        """Somebody speaks with the room: end an announcement."""
        self.engaged = True
        self._sound.hold()
        self._sound.end_announcement()

    def _rest(self) -> None:
        """Nobody speaks with the room; announcements wait for somebody who may answer what was asked."""
        self.engaged = False
        self._sound.release(self._expected.seconds_left)

    def _claim(self, wake_word: str) -> bool:
        """Return whether this room is the one that answers."""
        quality_db = self._loudness.speech_to_noise_db
        return self._context.arbiter.claim(self.room.name, wake_word, quality_db, self._lose)

    def _lose(self) -> None:
        """Another room hears the same wake word better."""
        _LOGGER.info("room %s: another room hears better", self.room.name, extra={"room": self.room.name})
        if self._run is not None:
            self._run.cancel()

    def _ended_unexpectedly(self, task: asyncio.Task[None]) -> None:
        if (error := failure_of(task)) is not None:
            if not isinstance(error, ConnectionError):
                _LOGGER.error(
                    "room %s: the conversation failed", self.room.name, exc_info=error, extra={"room": self.room.name}
                )
            self._device.fail()

    # The chain of runs.

    async def _converse(self, request: RunRequest, *, restart: bool) -> None:
        start = request.start
        backoff = Backoff(_FIRST_REST_SECONDS, _LONGEST_REST_SECONDS)
        try:
            while True:
                outcome, run = await self._run_once(request)
                request = replace(request, run_id=new_run_id(), text="")
                if (
                    outcome is RunOutcome.DONE
                    and not self.expects_command
                    and wants_more(run.answer, self.room.follow_up)
                ):
                    until = time.monotonic() + self._context.stages.config.hub.follow_up_seconds
                    self._expected.put(Expectation(until))
                if outcome is RunOutcome.INTERRUPTED:
                    request = replace(request, start=Stage.STT)
                    continue
                await self._device.stop_listening()
                if not restart or self._inbox.ended:
                    break
                failed = outcome is RunOutcome.FAILED and not self._nobody_spoke
                if not failed:
                    backoff.reset()
                await asyncio.sleep(backoff.next() if failed else 0)
                request = replace(request, start=Stage.STT if self._expected.seconds_left else start)
                if request.start is Stage.WAKE and outcome is not RunOutcome.STOPPED:
                    # A wake word that was being said when the answer ended is in what the interrupter has taken.
                    self._inbox.unread(self._barge_in.last_heard)
            if start is not Stage.WAKE and not self._device.capabilities.listens_again:
                self._expected.put(None)
        finally:
            self.ended_at = time.monotonic()
            self.activity = Activity.IDLE
            if self._task is asyncio.current_task():  # else another chain of runs has taken its place
                self._rest()
                self._task = None
                self._inbox.lossy = True  # `hear` may be waiting there for room, and with it the whole connection

    @property
    def _nobody_spoke(self) -> bool:
        return self._failed_with is not None and self._failed_with.code in NOBODY_SPOKE

    async def _run_once(self, request: RunRequest) -> tuple[RunOutcome, Run]:
        self._present = self._expected.take() if request.start is Stage.STT else None
        said: Transcription | SatelliteError | None = None
        try:
            outcome, run = await self._executed(request)
            if outcome is RunOutcome.DONE:
                said = self._transcript
            elif outcome is RunOutcome.FAILED and self._failed_with is not None:
                said = SatelliteError(self._failed_with.text, code=self._failed_with.code)
            return outcome, run
        finally:
            if self._present is not None:
                self._present.settle(said)

    async def _executed(self, request: RunRequest) -> tuple[RunOutcome, Run]:
        request = replace(
            request,
            end=Stage.CHAT if self.modes.listen_only and request.end is Stage.TTS != request.start else request.end,
            after_wake_word=self._after_wake_word,
            listens_on=self._streams,
            hears_itself=self._barge_in.hears_itself,
        )
        stages = self._context.stages
        if self._present is not None:
            request = self._present.applied(request, stages.config.hub.follow_up_seconds)
        run = Run(stages, self._context.bus, request, self._emit, heard_seconds=self._sound.heard_seconds)
        self._interruption = self._failed_with = None
        self._after_wake_word = self._sounded = False
        self._answering.clear()
        if request.start not in (Stage.WAKE, Stage.STT):
            self._answering.set()  # a run that begins with text listens to no command
        self._barge_in.last_heard = b""
        self._run = task = begin_task(self._perform(run), f"run {self.room.name}")
        watch = stages.background.run(f"barge-in {self.room.name}", lambda: self._watch(task, run))
        try:
            await asyncio.wait([task])
        finally:
            await end_tasks(task, watch.task)
        if task.cancelled():
            await self._sound.silence_answer()
            if self._interruption is None:
                return RunOutcome.LOST, run
            return RunOutcome.INTERRUPTED if self._interruption.command_follows else RunOutcome.STOPPED, run
        return RunOutcome.DONE if task.result() else RunOutcome.FAILED, run

    async def _interrupt(self, run: asyncio.Task[bool], interruption: Interruption) -> bool:
        """End a run and its sound, as somebody in the room does who interrupts it; return whether it was under way."""
        if run.done():
            return False
        self._interruption = interruption
        await end_tasks(run)
        await self._sound.silence_answer()
        return True

    async def _perform(self, run: Run) -> bool:
        """Return whether the run succeeded, once its sound was heard: until then it can be interrupted."""
        succeeded = await run.execute(self._inbox)
        await self._sound.drained()
        return succeeded

    async def _watch(self, task: asyncio.Task[bool], run: Run) -> None:
        """End the run when somebody interrupts while the answer is made and heard."""
        await run.command_over.wait()  # until then the audio is the command's
        # Set before the run is cancelled: it says what the cancellation means.
        self._interruption = interruption = await self._next_interruption()
        task.cancel()
        await self._sound.silence_answer()
        if interruption.wake_word:
            self._after_wake_word = True
            # The room that is interrupted is the one that is meant, however badly it hears over its own sound.
            self._context.arbiter.claim(self.room.name, interruption.wake_word, math.inf, self._lose)
        if interruption.command_follows:
            await self._device.interrupted(interruption.wake_word)

    async def _next_interruption(self) -> Interruption:
        if self._device.capabilities.speech_interrupts and self._inbox.ended:
            self._inbox = AudioInbox(_INBOX_SECONDS)  # the run has all of its audio: what comes now is not part of it
        return await self._barge_in.wait(self._inbox, lambda: self._sound.heard_seconds() if self._sounded else 0.0)

    async def _emit(self, step: RunEvent | Speech) -> None:
        """Do in the room what a step of a run means there."""
        if isinstance(step, Speech):
            self._sounded = True
            await self._sound.say(step.format, step.pcm)
            return
        self.activity = ACTIVITIES.get(type(step), self.activity)
        match step:
            case WakeWordStart():
                self._rest()
            case WakeWordEnd():
                await self._heard_wake_word(step.name)
            case SttStart():
                self._engage()
            case SttEnd():
                self._transcript = Transcription(step.text, step.language)
                self._answering.set()
            case SttResumed():
                self._answering.clear()
                if self._sounded:
                    self._barge_in.suspect_echo()
                await self._sound.silence_answer()
            case TtsEnd():
                await self._sound.finish_answer()
            case RunFailed():
                self._failed_with = step
                await self._sound.silence_answer()
                if not self._nobody_spoke:
                    self.activity = Activity.ERROR
                elif self._present is not None and self._present.follows:
                    return  # the question was not answered: that is no error in the room
        await self._device.show(step, self.activity)
        # A run that has failed while it waited for the wake word is no concern of anybody in the room.
        cue = CUES.get(type(step))
        if cue is not None and self.engaged and self.room.sounds and self._speaks:
            await self._sound.cue(cue)

    async def _heard_wake_word(self, name: str) -> None:
        self._engage()
        self.silence_ringing()
        if not self._claim(name):
            self._lose()
            await self._drop_run()
            return
        self._inbox.reread(self._context.arbiter.call_seconds(name))

    async def _drop_run(self) -> None:
        """End the present run, from inside: nothing is to be shown of the wake word."""
        if self._run is not None:
            self._run.cancel()
        await asyncio.sleep(0)  # the cancellation arrives here
