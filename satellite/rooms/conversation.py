"""The one conversation, held alike in every room: its audio, its runs, their sound.

A conversation is a chain of runs: the wake word, or the device's own detection, begins it; an answer that asks
something goes on with it; and the wake word during an answer silences that and begins the next command. However a run
ends, the device is told to stop listening. What a protocol needs beside that is the concern of the `Device`.
"""

import asyncio
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from enum import Enum, auto
from typing import Literal

from satellite.audio.pcm import AudioFormat
from satellite.backoff import Backoff
from satellite.config.rooms import HubSettings, RoomSettings
from satellite.engines.protocols import VoiceChoice
from satellite.errors import Stage, TextToSpeechError
from satellite.events import (
    RunBus,
    RunEvent,
    RunFailed,
    SttEnd,
    SttStart,
    TtsEnd,
    TtsStart,
    WakeWordEnd,
    WakeWordStart,
    new_run_id,
)
from satellite.pipeline.audio_queue import AudioInbox
from satellite.pipeline.request import RunRequest, Speech
from satellite.pipeline.run import Run
from satellite.pipeline.stages import Stages
from satellite.rooms.arbitration import Arbiter, Loudness
from satellite.rooms.barge_in import Interrupter, Interruption, SpeechInterrupter
from satellite.rooms.playback import Making, Playback
from satellite.rooms.room import Activity, Device
from satellite.tasks import begin_task, end_tasks, failure_of

_LOGGER = logging.getLogger(__name__)

_INBOX_SECONDS = 20.0
"""More than the longest command, so that the connection's reader never waits for a run."""

_ANNOUNCED_SECONDS = 1.0
"""How much of an announcement has to be heard: cut off before that by somebody who calls, it is made again."""

_FIRST_REST_SECONDS = 1.0
_LONGEST_REST_SECONDS = 30.0
"""Between runs that fail one after the other: a broken stage must not spin."""

_ASKS = ("?", "？", "؟")
_AFTER_A_SENTENCE = " \"'”’)»"

_NOBODY_SPOKE = ("stt-no-speech", "stt-no-text-recognized")
"""Codes of runs in which nobody said anything: no fault of a stage."""

_ACTIVITIES: Mapping[type[RunEvent], Activity] = {
    WakeWordStart: Activity.WAITING,
    SttStart: Activity.LISTENING,
    SttEnd: Activity.THINKING,
    TtsStart: Activity.SPEAKING,
}


class _End(Enum):
    """How a run came to its end."""

    DONE = auto()
    FAILED = auto()
    CALLED = auto()
    """The wake word was said during it."""

    STOPPED = auto()
    """Somebody said "stop"."""

    LOST = auto()
    """Another room hears better."""


class Conversation:
    """The runs of one room while its device is connected."""

    def __init__(
        self, device: Device, stages: Stages, bus: RunBus, room: RoomSettings, settings: HubSettings, arbiter: Arbiter
    ) -> None:
        self.room = room
        self.activity = Activity.IDLE
        self.ended_at = math.inf
        """When the latest chain of runs has ended, by `time.monotonic`; infinite before the first."""

        self._device = device
        self._stages = stages
        self._bus = bus
        self._settings = settings
        self._arbiter = arbiter
        self._playback = Playback(device.output, settings.lead_seconds)
        self._loudness = Loudness()
        self._inbox = AudioInbox(_INBOX_SECONDS)
        self._task: asyncio.Task[None] | None = None
        self._run: asyncio.Task[bool] | None = None
        self._follows = False
        """Whether the present run listens without the wake word, since the last answer asked something."""

        self._after_wake_word = False
        """Whether the audio of the next run begins with the end of a wake word."""

        self._interrupted: _End | None = None
        self._failed_with = ""
        self._last_heard = b""
        self._listens_until = float("-inf")
        """Until when a run that the device begins itself is the answer to what was asked."""

        self._answering = asyncio.Event()
        self._unengaged = asyncio.Event()
        self._unengaged.set()
        self._announcing = asyncio.Lock()
        self._announcement: asyncio.Timeout | None = None
        """Ends the announcement that is heard."""

    @property
    def active(self) -> bool:
        """Whether a chain of runs is under way."""
        return self._task is not None

    @property
    def engaged(self) -> bool:
        """Whether somebody speaks with the room, or hears an answer."""
        return not self._unengaged.is_set()

    @property
    def audio_ended(self) -> bool:
        """Whether the audio of the present, or latest, chain of runs is over."""
        return self._inbox.ended

    async def hear(self, pcm: bytes) -> None:
        """Take canonical audio of the microphone; without a run under way it only counts for the room's loudness."""
        self._loudness.feed(pcm)
        if self._task is not None:
            await self._inbox.put(pcm)

    def end_audio(self) -> None:
        """The device's audio is over."""
        if not self._answering.is_set():  # else the command is over, and the next audio may interrupt the answer
            self._inbox.end()

    async def begin(self, request: RunRequest, *, restart: bool = False, wake_word: str | None = None) -> None:
        """Begin a chain of runs, in place of one that is under way; `request` is the first.

        With `restart` a run follows each, until the audio ends. `wake_word` is one that the device itself has heard:
        then the room only answers if none hears it better.
        """
        start = request.start
        if start is Stage.STT and self._unengaged.is_set():
            self._device.called()
        await self.close()
        if start is Stage.WAKE and time.monotonic() < self._listens_until:
            start = Stage.STT  # it streams again because somebody speaks: the answer to what was asked
            self._follows = True
        self._inbox = AudioInbox(_INBOX_SECONDS)
        self._listens_until = float("-inf")
        if start is Stage.STT and wake_word is not None and not self._claim(wake_word):
            await self._device.stop_listening()
            return
        self._task = begin_task(
            self._converse(replace(request, start=start), restart=restart), f"room {self.room.name}"
        )
        self._task.add_done_callback(self._ended_unexpectedly)

    async def close(self) -> None:
        """End whatever is under way; may be called twice."""
        task, self._task = self._task, None
        if task is not None:
            await end_tasks(task)

    async def stop(self) -> None:
        """End whatever is under way, and silence it."""
        await self.close()
        await self._silence()

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
            async with asyncio.timeout(None) as self._announcement:
                try:
                    await self._playback.play(source, pcm, more)
                    await self._playback.finish()
                finally:
                    self._announcement = None
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
        announcement, self._announcement = self._announcement, None  # it may be ended once
        if announcement is not None:
            announcement.reschedule(asyncio.get_running_loop().time())

    def _claim(self, wake_word: str) -> bool:
        """Return whether this room is the one that answers."""
        return self._arbiter.claim(self.room.name, wake_word, self._loudness.speech_to_noise_db, self._lose)

    def _lose(self) -> None:
        """Another room hears the same call better."""
        _LOGGER.info("room %s: another room hears better", self.room.name, extra={"room": self.room.name})
        if self._run is not None:
            self._run.cancel()

    def _ended_unexpectedly(self, task: asyncio.Task[None]) -> None:
        if (error := failure_of(task)) is not None:
            if not isinstance(error, ConnectionError):
                _LOGGER.error("room %s has broken off", self.room.name, exc_info=error, extra={"room": self.room.name})
            self._device.fail()

    # The chain of runs.

    async def _converse(self, request: RunRequest, *, restart: bool) -> None:
        start, outcome = request.start, _End.DONE
        backoff = Backoff(_FIRST_REST_SECONDS, _LONGEST_REST_SECONDS)
        try:
            while True:
                outcome, run = await self._outcome(request)
                request = replace(request, run_id=new_run_id(), text="")
                self._follows = outcome is _End.DONE and _wants_more(run.answer, self.room.follow_up)
                if outcome is _End.CALLED:
                    request = replace(request, start=Stage.STT)
                    continue
                await self._device.stop_listening()
                if not restart or self._inbox.ended:
                    break
                failed = outcome is _End.FAILED and self._failed_with not in _NOBODY_SPOKE
                if not failed:
                    backoff.reset()
                request = replace(request, start=Stage.STT if self._follows else start)
                if request.start is Stage.WAKE and outcome is not _End.STOPPED:
                    self._inbox.unread(self._last_heard)
                await asyncio.sleep(backoff.next() if failed else 0)
            if self._follows and start is not Stage.STT:
                self._listens_until = time.monotonic() + self._settings.follow_up_seconds
        finally:
            self._follows = False
            self.ended_at = time.monotonic()
            self.activity = Activity.IDLE
            self._unengaged.set()
            if self._task is asyncio.current_task():
                self._task = None

    async def _outcome(self, request: RunRequest) -> tuple[_End, Run]:
        request = replace(
            request,
            no_speech_seconds=self._settings.follow_up_seconds if self._follows else None,
            after_wake_word=self._after_wake_word,
        )
        run = Run(self._stages, self._bus, request, self._emit, heard_seconds=self._playback.heard_seconds)
        self._interrupted = None
        self._after_wake_word = False
        self._failed_with = ""
        self._answering.clear()
        if request.start not in (Stage.WAKE, Stage.STT):
            self._answering.set()  # nothing is to be heard first
        self._last_heard = b""
        self._run = task = begin_task(self._perform(run), f"run {self.room.name}")
        watch = self._stages.background.run(f"barge-in {self.room.name}", lambda: self._watch(task))
        try:
            await asyncio.wait([task])
        finally:
            await end_tasks(task, watch.task)
        if task.cancelled():
            await self._silence()
            return self._interrupted or _End.LOST, run
        return _End.DONE if task.result() else _End.FAILED, run

    async def _perform(self, run: Run) -> bool:
        """Return whether the run succeeded, once its sound was heard: until then it can be interrupted."""
        succeeded = await run.execute(self._inbox)
        await self._playback.drained()
        return succeeded

    async def _watch(self, run: asyncio.Task[bool]) -> None:
        """End the run when somebody speaks up while the answer is made and heard."""
        await self._answering.wait()
        interruption = await self._interruption()
        self._interrupted = _End.CALLED if interruption.command_follows else _End.STOPPED
        run.cancel()
        await self._playback.silence()
        if interruption.wake_word:
            self._after_wake_word = True
            # The room that is interrupted is the one that is meant, however badly it hears over its own sound.
            self._arbiter.claim(self.room.name, interruption.wake_word, math.inf, self._lose)
        if interruption.command_follows:
            await self._device.interrupted(interruption.wake_word)

    async def _interruption(self) -> Interruption:
        if self._device.interrupted_by_speech:
            if self._inbox.ended:
                self._inbox = AudioInbox(
                    _INBOX_SECONDS
                )  # the run has all of its audio; what comes now is not part of it
            return await SpeechInterrupter(self._stages, self._inbox).wait()
        interrupter = Interrupter(self._stages, self.room, self._inbox)
        try:
            return await interrupter.wait()
        finally:
            self._last_heard = interrupter.last_heard

    async def _silence(self) -> None:
        """End the sound of a run that is over, but not an announcement."""
        if not self._announcing.locked():
            await self._playback.silence()

    async def _emit(self, step: RunEvent | Speech) -> None:
        """Do in the room what a step of a run means there."""
        if isinstance(step, Speech):
            async with self._announcing:
                await self._playback.play(step.format, step.pcm)
            return
        self.activity = _ACTIVITIES.get(type(step), self.activity)
        match step:
            case WakeWordStart():
                self._unengaged.set()
            case WakeWordEnd():
                await self._heard_wake_word(step.name)
            case SttStart():
                self._engage()
            case SttEnd():
                self._answering.set()
            case TtsEnd():
                await self._playback.finish()
            case RunFailed():
                self._failed_with = step.code
                await self._silence()
                if self._follows and self._failed_with in _NOBODY_SPOKE:
                    return  # nobody went on: that is no error in the room
        await self._device.show(step, self.activity)

    async def _heard_wake_word(self, name: str) -> None:
        self._engage()
        self._device.called()
        if not self._claim(name):
            self._lose()
            await asyncio.sleep(0)  # the cancellation arrives here, before anything is shown


def room_request(room: RoomSettings, start: Stage, end: Stage) -> RunRequest:
    """Return the run from `start` to `end` in a room."""
    return RunRequest(
        room=room.name,
        named_room=room.name,
        start=start,
        end=end,
        wake_words=room.wake_words,
        language=room.language,
        persona=room.persona,
        voice=VoiceChoice(room.voice, room.language),
    )


def _wants_more(answer: str, follow_up: Literal["questions", "always", "never"]) -> bool:
    """Return whether the room listens again after an answer, without the wake word."""
    asks = answer.rstrip(_AFTER_A_SENTENCE).endswith(_ASKS)
    return bool(answer) and (follow_up == "always" or (follow_up == "questions" and asks))
