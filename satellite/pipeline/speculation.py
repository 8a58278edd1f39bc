"""Speculation: the rest of a run, begun in a pause in case the command is over, and held until that is known."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from satellite.engines.protocols import Transcription
from satellite.events import RunEvent
from satellite.pipeline.completeness import Completeness
from satellite.pipeline.request import Emit, Speech
from satellite.tasks import begin_task, failure_of

_HELD_SECONDS = 5.0
"""Sound that is held before the work that makes it has to wait."""

_INCOMPLETE_SECONDS = 0.3
"""How long the chat model is not asked about words that lack something: most speakers go on by then."""

_TAIL_SECONDS = 0.4
"""How long after a pause a breath, or the last sound of a word, may end that hardly changes the words."""


class CommitBuffer:
    """Holds the output of a run until it is committed, then delivers it in order, as fast as the room takes it.

    It is bounded by the sound in it. Events never wait: a run has no more of them than its answer has characters,
    which are limited.
    """

    def __init__(
        self, deliver: Emit, publish: Callable[[RunEvent], None], on_ready: Callable[[], None] = lambda: None
    ) -> None:
        """Deliver to the room by `deliver`; events also go to `publish`, from the commit on without waiting for it.

        `on_ready` is called, perhaps several times, when a commit would be of use: sound is held, or work waits for it.
        """
        self.delivered_seconds = 0.0
        """Sound that the room has taken."""

        self._deliver = deliver
        self._publish = publish
        self._on_ready = on_ready
        self._held: deque[RunEvent | Speech] = deque()
        self._held_seconds = 0.0
        self.sounds = False
        """Whether the room was given sound."""

        self.completeness = Completeness.UNKNOWN
        """How complete the words are that it answers."""

        self.withdrawn = False
        """Whether the speaker went on after the commit, which makes the output void."""

        self._committed = asyncio.Event()
        self._settled = asyncio.Event()
        self._may_act = asyncio.Event()
        self._filled = asyncio.Event()
        self._has_room = asyncio.Event()
        self._emptied = asyncio.Event()

    @property
    def committed(self) -> bool:
        """Whether output is delivered."""
        return self._committed.is_set()

    @property
    def settled(self) -> bool:
        """Whether the output, once committed, cannot be withdrawn."""
        return self._settled.is_set()

    def settle(self) -> None:
        """Nothing can withdraw the output any more."""
        self._settled.set()
        self._may_act.set()

    def allow_acts(self) -> None:
        """Let what acts on words that are a sentence act now, although the speaker may still go on."""
        self._may_act.set()

    async def wait_committed(self) -> None:
        """Wait until output is delivered: nothing with an effect outside may be done before that."""
        self._ready()
        await self._committed.wait()

    async def wait_settled(self) -> None:
        """Wait until the output cannot be withdrawn any more."""
        self._ready()
        await self._settled.wait()

    async def wait_to_act(self) -> None:
        """Wait until something that cannot be undone may be done, such as to set a timer; it settles the output."""
        await self.wait_committed()
        if self.completeness is Completeness.INCOMPLETE:
            await self.wait_settled()
        elif self.completeness is not Completeness.COMPLETE:
            await self._may_act.wait()
        self.settle()

    async def wait_delivered(self) -> None:
        """Wait until all output so far has been delivered."""
        await self.wait_committed()
        while self._held:
            self._emptied.clear()
            await self._emptied.wait()

    async def emit(self, step: RunEvent | Speech) -> None:
        """Add `step`; after sound, wait while more than 5 s of it are held."""
        # Added before waiting, so that the order is that of the calls.
        self._held.append(step)
        self._filled.set()
        if isinstance(step, RunEvent):
            if self.committed:
                self._publish(step)
            return
        self._held_seconds += step.seconds
        self._ready()
        while self._held_seconds >= _HELD_SECONDS:
            self._has_room.clear()
            await self._has_room.wait()

    async def deliver_until(self, work: asyncio.Future[None]) -> None:
        """Commit, and deliver all output until `work` is done; return, or raise, as the work does."""
        if not self.committed:
            self._committed.set()
            for step in self._held:
                if isinstance(step, RunEvent):
                    self._publish(step)
        work.add_done_callback(lambda _: self._filled.set())  # work may end without any more output
        while self._held or not work.done():
            if self._held:
                await self._deliver_next()
            else:
                self._filled.clear()
                await self._filled.wait()
        await work

    async def _deliver_next(self) -> None:
        # A step is removed only after the room has taken it: until then it counts against the bound, and
        # `wait_delivered` waits for it.
        step = self._held[0]
        self.sounds = self.sounds or isinstance(step, Speech)
        await self._deliver(step)
        self._held.popleft()
        if isinstance(step, Speech):
            self.delivered_seconds += step.seconds
            self._held_seconds -= step.seconds
            self._has_room.set()
        if not self._held:
            self._emptied.set()

    def _ready(self) -> None:
        if not self.committed:
            self._on_ready()


class Speculation:
    """Work on what was said up to `last_speech_at`; its owner commits or drops it, and awaits its end."""

    def __init__(
        self,
        last_speech_at: float,
        deliver: Emit,
        publish: Callable[[RunEvent], None],
        work: Callable[["Speculation"], Coroutine[Any, Any, None]],
        on_ready: Callable[["Speculation"], None] = lambda speculation: None,
    ) -> None:
        """Begin `work`, which emits to `output`; for the other arguments see `CommitBuffer`."""
        self.last_speech_at = last_speech_at
        self.heard: Transcription | None = None
        """What was said, once that is understood."""

        self.ready = False
        """Whether a commit would be of use, see `CommitBuffer`."""

        self._on_ready = on_ready
        self.output = CommitBuffer(deliver, publish, self._note_ready)
        self._task = begin_task(work(self), "speculation")
        self._task.add_done_callback(lambda _: self._note_ready())

    @property
    def failed(self) -> bool:
        """Whether the work has ended without an answer."""
        return self._task.done() and failure_of(self._task) is not None

    async def wait_if_incomplete(self) -> None:
        """Wait until the chat model is worth asking: at once, unless more words have to come."""
        if self.output.completeness is Completeness.INCOMPLETE:
            with suppress(TimeoutError):
                async with asyncio.timeout(_INCOMPLETE_SECONDS):
                    await self.output.wait_committed()

    async def commit(self) -> None:
        """Deliver the output, present and future; return, or raise, as the work does."""
        await self.output.deliver_until(self._task)

    def drop(self) -> None:
        """Cancel the work; may be called twice, and after its end."""
        self._task.cancel()

    async def wait_ended(self) -> None:
        """Wait for the end of the work; its failure is ignored, unless `commit` raises it."""
        await asyncio.wait([self._task])
        failure_of(self._task)

    def _note_ready(self) -> None:
        self.ready = True
        self._on_ready(self)


class Speculations:
    """The speculations of one run, of which at most two are at work.

    More speech makes a speculation stale. Where there is little of it, perhaps a breath, the speculation goes on beside
    the next one, and takes its place if that understands the same words.
    """

    def __init__(self) -> None:
        self.current: Speculation | None = None
        self._earlier: Speculation | None = None
        self._dropped: list[Speculation] = []

    @property
    def begun(self) -> int:
        """How many there have been."""
        return len(self._dropped) + (self.current is not None) + (self._earlier is not None)

    def outdate(self, last_speech_at: float) -> None:
        """Leave `current` empty if it lacks speech that ended `last_speech_at`; call it when audio was added."""
        if self.current is not None and self.current.last_speech_at != last_speech_at:
            current, self.current = self.current, None
            if self._earlier is None:
                self._earlier = current
            else:
                self._drop(current)
        if self._earlier is not None and last_speech_at - self._earlier.last_speech_at > _TAIL_SECONDS:
            self._drop_earlier()

    def replace_by_earlier(self) -> bool:
        """Go on with the earlier speculation if `current`, which has understood its words, repeats it.

        Otherwise the earlier one is dropped.
        """
        current, earlier = self.current, self._earlier
        if current is None or earlier is None:
            return False
        if current.output.committed or earlier.failed or earlier.heard != current.heard:
            self._drop_earlier()
            return False
        earlier.last_speech_at = current.last_speech_at
        self._earlier, self.current = None, earlier
        self._dropped.append(current)  # it ends by itself
        return True

    def drop(self) -> None:
        """Cancel all of them."""
        self._drop_earlier()
        current, self.current = self.current, None
        if current is not None:
            self._drop(current)

    async def wait_ended(self) -> None:
        """Wait until none is at work, after `drop`."""
        for dropped in self._dropped:
            await dropped.wait_ended()

    def _drop_earlier(self) -> None:
        earlier, self._earlier = self._earlier, None
        if earlier is not None:
            self._drop(earlier)

    def _drop(self, speculation: Speculation) -> None:
        speculation.drop()
        self._dropped.append(speculation)
