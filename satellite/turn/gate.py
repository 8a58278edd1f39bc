"""Holds back what a run says until it is known that it may be said."""

import asyncio
from collections import deque
from collections.abc import Callable

from satellite.events import RunEvent
from satellite.turn.request import Emit, Speech

_MOST_SECONDS = 5.0
"""Sound that is held; whoever makes more waits."""


class Gate:
    """What goes in comes out in the same order, once it is open.

    Closed, it holds some seconds of sound, so that work may go on behind it; then `emit` waits.
    """

    def __init__(self, emit: Emit, on_ready: Callable[[], None] | None = None) -> None:
        """Pass on to `emit`; `on_ready` is called, perhaps several times, when opening it would be of use.

        That is when sound waits behind it, or somebody for its opening.
        """
        self._emit = emit
        self._on_ready = on_ready
        self._held: deque[RunEvent | Speech] = deque()
        self._held_seconds = 0.0
        self._opened = asyncio.Event()
        self._drained = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """Whether what is said may leave."""
        return self._opened.is_set()

    async def opened(self) -> None:
        """Wait until what is said may leave."""
        self._ready()
        await self._opened.wait()

    async def emit(self, step: RunEvent | Speech) -> None:
        """Pass `step` on, or hold it."""
        if self._drained.is_set():
            await self._emit(step)
            return
        self._held.append(step)
        if isinstance(step, Speech):
            self._held_seconds += step.seconds
            self._ready()
            if self._held_seconds >= _MOST_SECONDS:
                await self._drained.wait()

    async def open(self) -> None:
        """Let out what is held, and from now on whatever comes; returns once nothing is held any more."""
        self._opened.set()
        while self._held:
            await self._emit(self._held.popleft())
        self._drained.set()

    def _ready(self) -> None:
        if self._on_ready is not None and not self.is_open:
            self._on_ready()
