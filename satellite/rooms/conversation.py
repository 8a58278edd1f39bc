"""What happens between one connected satellite and the daemon: its audio, its runs, their sound.

A conversation is a chain of runs: the wake word or the satellite's own detection begins it, an answer that asks
something goes on with it, and the wake word in the middle of an answer silences that and begins anew. However a run
ends, the satellite is told by `transcript` or `error`, since it streams until then.
"""

import asyncio
import logging
import time
from enum import Enum, auto
from typing import Any

from wyoming.asr import Transcript
from wyoming.audio import AudioChunk
from wyoming.error import Error
from wyoming.event import Event
from wyoming.pipeline import RunPipeline
from wyoming.wake import Detection

from satellite.audio import BYTES_PER_SECOND, AudioFormat, Converter, seconds_of
from satellite.config_rooms import Hub, Room
from satellite.engines import VoiceChoice
from satellite.errors import Stage
from satellite.events import EventBus, RunEvent, RunEventType
from satellite.rooms.arbitration import Arbiter
from satellite.rooms.loudness import Loudness
from satellite.rooms.playback import Playback
from satellite.services.room import STAGES, room_events
from satellite.turn.inbox import AudioInbox
from satellite.turn.pipeline import Run, RunRequest, Speech
from satellite.turn.stages import Stages
from satellite.wire.connection import Connection

_LOGGER = logging.getLogger(__name__)

_INBOX_SECONDS = 20.0
"""More than the longest command, so that the connection's reader never waits for a run."""

_FIRST_REST_SECONDS = 0.5
_LONGEST_REST_SECONDS = 30.0
"""Rest between runs that fail one after the other: a broken stage must not spin."""

_ASKS = ("?", "？", "؟")
_QUIET_ENDS = ("stt-no-speech", "stt-no-text-recognized")
"""How a run ends when nobody said anything: no fault of a stage."""

_DOING = {
    RunEventType.WAKE_WORD_START: "waiting for the wake word",
    RunEventType.STT_START: "listening",
    RunEventType.STT_END: "thinking",
    RunEventType.TTS_START: "speaking",
}


class _End(Enum):
    """How a run came to its end."""

    DONE = auto()
    FAILED = auto()
    CALLED = auto()
    """The wake word was said in its middle."""

    LOST = auto()
    """Another room hears better."""


class Conversation:
    """The runs of one satellite while it is connected."""

    def __init__(
        self, connection: Connection, stages: Stages, bus: EventBus, room: Room, hub: Hub, arbiter: Arbiter
    ) -> None:
        self.room = room
        self.doing = "idle"
        """What the room is doing, for the status."""

        self._connection = connection
        self._stages = stages
        self._bus = bus
        self._hub = hub
        self._arbiter = arbiter
        self._playback = Playback(connection.send, hub.lead_seconds)
        self._loudness = Loudness()
        self._converter: Converter | None = None
        self._inbox = AudioInbox(_INBOX_SECONDS)
        self._task: asyncio.Task[None] | None = None
        self._run: asyncio.Task[bool] | None = None
        self._called = self._follows = self._told = False
        self._failed_with = ""
        self._detected: str | None = None
        self._listens_until = float("-inf")
        self._answering = asyncio.Event()
        self._unengaged = asyncio.Event()
        self._unengaged.set()
        self._announcing = asyncio.Lock()

    async def take(self, event: Event) -> None:
        """Handle what the satellite says."""
        if AudioChunk.is_type(event.type):
            await self._audio(AudioChunk.from_event(event))
        elif event.type == "audio-stop":
            self._inbox.end()
        elif RunPipeline.is_type(event.type):
            await self._requested(event)
        elif Detection.is_type(event.type):
            self._detected = Detection.from_event(event).name or "wake word"
        elif event.type == "played":
            self._playback.note_played()

    async def close(self) -> None:
        """End whatever is under way; may be called twice."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def announce(self, source: AudioFormat, pcm: bytes) -> None:
        """Play `pcm` once nobody is speaking with the room; returns when it has been heard."""
        await self._unengaged.wait()
        async with self._announcing:
            await self._playback.play(source, pcm)
            await self._playback.finish()

    # What the satellite wants.

    async def _requested(self, event: Event) -> None:
        try:
            request = RunPipeline.from_event(event)
            start, end = STAGES[request.start_stage], STAGES[request.end_stage]
        except (KeyError, TypeError, ValueError) as error:
            _LOGGER.warning("room %s: a run that cannot be: %s", self.room.name, error)
            await self._connection.send(Error(text=f"run-pipeline: {error}", code="protocol-error"))
            return
        if wanted := event.data.get("snd_format"):
            self._playback.format = AudioFormat(wanted["rate"], wanted["width"], wanted["channels"])
        if start is Stage.WAKE and time.monotonic() < self._listens_until:
            start = Stage.STT  # it streams again because somebody speaks: the answer to what was asked
            self._follows = True
        await self._begin(start, end, restart=bool(request.restart_on_end))

    async def _audio(self, chunk: AudioChunk) -> None:
        source = AudioFormat(chunk.rate, chunk.width, chunk.channels)
        if self._converter is None or self._converter.source != source:
            self._converter = Converter(source)
        pcm = self._converter.convert(chunk.audio)
        self._loudness.feed(pcm)
        if self._task is None and self._detected is not None:
            await self._begin(Stage.STT, Stage.TTS, restart=False)  # some satellites ask for no run
        if self._task is not None:
            await self._inbox.put(pcm)

    async def _begin(self, start: Stage, end: Stage, *, restart: bool) -> None:
        """Begin a conversation, in place of one that is under way."""
        await self.close()
        detected, self._detected = self._detected, None
        self._inbox = AudioInbox(_INBOX_SECONDS)
        self._listens_until = float("-inf")
        if start is Stage.STT and detected is not None and not self._claim(detected):
            await self._connection.send(Transcript(text=""))
            return
        self._task = asyncio.create_task(self._converse(start, end, restart=restart), name=f"room {self.room.name}")
        self._task.add_done_callback(self._ended_unexpectedly)

    def _claim(self, wake_word: str) -> bool:
        """Return whether this room is the one that answers."""
        return self._arbiter.claim(self.room.name, wake_word, self._loudness.speech_to_noise_db, self._lose)

    def _lose(self) -> None:
        """Another room hears the same call better."""
        _LOGGER.info("room %s: another room hears better", self.room.name)
        if self._run is not None:
            self._run.cancel()

    def _ended_unexpectedly(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            if not isinstance(error, ConnectionError):
                _LOGGER.error("room %s: the conversation broke", self.room.name, exc_info=error)
            self._connection.abort()

    # The chain of runs.

    async def _converse(self, start: Stage, end: Stage, *, restart: bool) -> None:
        stage, rest, outcome = start, 0.0, _End.DONE
        try:
            while True:
                run = self._next_run(stage, end, called=outcome is _End.CALLED)
                outcome = await self._outcome(run)
                self._follows = outcome is _End.DONE and self._wants_more(run.answer)
                if outcome is _End.CALLED:
                    stage = Stage.STT
                    continue
                await self._tell_end()
                if not restart or self._inbox.ended:
                    break
                rest = self._rest(rest, outcome)
                stage = Stage.STT if self._follows else start
                await asyncio.sleep(rest)
            if self._follows and start is not Stage.STT:
                self._listens_until = time.monotonic() + self._hub.follow_up_seconds
        finally:
            self._follows = False
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

    async def _outcome(self, run: Run) -> _End:
        self._told = self._called = False
        self._failed_with = ""
        self._answering.clear()
        self._run = asyncio.create_task(run.execute(self._inbox), name=f"run {self.room.name}")
        watch = asyncio.create_task(self._watch(self._run), name=f"barge-in {self.room.name}")
        try:
            await asyncio.wait([self._run])
        finally:
            self._run.cancel()
            watch.cancel()
            await asyncio.gather(self._run, watch, return_exceptions=True)
        await self._playback.silence()
        if self._run.cancelled():
            return _End.CALLED if self._called else _End.LOST
        return _End.DONE if self._run.result() else _End.FAILED

    async def _watch(self, run: asyncio.Task[bool]) -> None:
        """Listen for the wake word while the answer is made and heard; it ends the run."""
        await self._answering.wait()
        engine = await self._stages.wake_engine()
        stream = await engine.stream(self.room.wake_words)
        fed_seconds = 0.0
        try:
            async for pcm in self._inbox:
                fed_seconds += seconds_of(pcm)
                for detection in await stream.feed(pcm):
                    after = int(BYTES_PER_SECOND * max(0.0, fed_seconds - detection.seconds))
                    self._inbox.unread(pcm[len(pcm) - after // 2 * 2 :] if after else b"")
                    self._called = True
                    run.cancel()
                    await self._playback.silence()
                    await self._connection.send(Detection(name=detection.name))
                    return
        finally:
            stream.close()

    def _wants_more(self, answer: str) -> bool:
        follow_up = self.room.follow_up
        return follow_up == "always" or (follow_up == "questions" and answer.rstrip(" \"'”’)»").endswith(_ASKS))

    async def _tell_end(self) -> None:
        """Make sure that the satellite knows: it streams until it does."""
        if not self._told:
            await self._connection.send(Transcript(text=""))

    def _rest(self, before: float, outcome: _End) -> float:
        if outcome is not _End.FAILED or self._failed_with in _QUIET_ENDS:
            return 0.0
        return min(max(_FIRST_REST_SECONDS, 2 * before), _LONGEST_REST_SECONDS)

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
                self._unengaged.clear()
            case RunEventType.STT_END:
                self._answering.set()
            case RunEventType.TTS_END:
                await self._playback.finish()
            case RunEventType.ERROR:
                self._failed_with = step.data["code"]
                await self._playback.silence()
                if self._follows and self._failed_with in _QUIET_ENDS:
                    return  # nobody went on: that is no error in the room
        events = room_events(step)
        if events:
            await self._connection.send(*events)
            self._told = self._told or step.type in (RunEventType.STT_END, RunEventType.ERROR)

    async def _heard_wake_word(self, data: dict[str, Any]) -> None:
        self._unengaged.clear()
        if not self._claim(data["name"]):
            self._lose()
            await asyncio.sleep(0)  # the cancellation arrives here, before anything is sent
