"""Between the work of a run and its room: what is said leaves in order, and not before it is known that it may."""

import asyncio
from collections import deque
from collections.abc import Callable

from satellite.events import RunEvent
from satellite.pipeline.request import Emit, Speech

_MOST_SECONDS = 5.0
"""Sound that is held; whoever makes more waits."""


class Gate:
    """A bounded buffer: what goes in comes out in the same order once it is open, as fast as the room takes it.

    Past some seconds of sound `emit` waits. A step never waits: a run has no more of them than its answer has
    characters, which are limited.
    """

    def __init__(
        self,
        emit: Emit,
        publish: Callable[[RunEvent], None] = lambda event: None,
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        """Pass on to `emit`. Steps are told to `publish` as soon as the gate is open, however slow the room is.

        `on_ready` is called, perhaps several times, when opening it would be of use: when sound waits behind it, or
        somebody for its opening.
        """
        self.passed_seconds = 0.0
        """Sound that the room has taken."""

        self._emit = emit
        self._publish = publish
        self._on_ready = on_ready
        self._held: deque[RunEvent | Speech] = deque()
        self._held_seconds = 0.0
        self._opened = asyncio.Event()
        self._filled = asyncio.Event()
        self._has_room = asyncio.Event()
        self._empty = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """Whether what is said may leave."""
        return self._opened.is_set()

    async def opened(self) -> None:
        """Wait until what is said may leave."""
        self._ready()
        await self._opened.wait()

    async def passed(self) -> None:
        """Wait until all that was said has left."""
        await self.opened()
        while self._held:
            self._empty.clear()
            await self._empty.wait()

    async def emit(self, step: RunEvent | Speech) -> None:
        """Hold `step` until the room takes it."""
        self._held.append(step)
        self._filled.set()
        if isinstance(step, RunEvent):
            if self.is_open:
                self._publish(step)
            return
        self._held_seconds += step.seconds
        self._ready()
        while self._held_seconds >= _MOST_SECONDS:
            self._has_room.clear()
            await self._has_room.wait()

    def open(self) -> None:
        """Let out what is held, and whatever comes."""
        if not self.is_open:
            self._opened.set()
            for step in self._held:
                if isinstance(step, RunEvent):
                    self._publish(step)

    async def drain(self, work: asyncio.Future[None]) -> None:
        """Open, and pass on all that is said until `work` is done; returns, or raises, as the work does."""
        self.open()
        work.add_done_callback(lambda _: self._filled.set())
        while self._held or not work.done():
            if self._held:
                await self._pass()
            else:
                self._filled.clear()
                await self._filled.wait()
        await work

    async def _pass(self) -> None:
        step = self._held[0]
        await self._emit(step)
        self._held.popleft()
        if isinstance(step, Speech):
            self.passed_seconds += step.seconds
            self._held_seconds -= step.seconds
            self._has_room.set()
        if not self._held:
            self._empty.set()

    def _ready(self) -> None:
        if self._on_ready is not None and not self.is_open:
            self._on_ready()
