"""Events between the task that reads a client's socket and the one that handles them, bounded in bytes."""

import asyncio
from collections import deque

from wyoming.event import Event

_EVENT_BYTES = 512
"""What an event takes beside what it carries, so that tiny ones are bounded as well."""

_TURN_EVENTS = 4
"""Events that are handed out before others have their turn."""


class WaitingEvents:
    """Takes events in, and hands them out in order; for one who puts and one who iterates.

    Full, `put` waits: then nothing more is read from the client, and it is held back.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._events: deque[tuple[Event, int]] = deque()
        self._bytes = self._handed_out = 0
        self._ended = False
        self._changed = asyncio.Event()

    async def put(self, event: Event, wire_bytes: int) -> None:
        """Add an event that took `wire_bytes` on the wire; waits for room. After `end` it is dropped."""
        while self._bytes >= self._max_bytes and not self._ended:
            await self._change()
        if self._ended:
            return
        size = _EVENT_BYTES + wire_bytes
        self._events.append((event, size))
        self._bytes += size
        self._changed.set()

    def end(self) -> None:
        """No more follows; what waits is still handed out."""
        self._ended = True
        self._changed.set()

    def __aiter__(self) -> "WaitingEvents":
        return self

    async def __anext__(self) -> Event:
        while not self._events:
            if self._ended:
                raise StopAsyncIteration
            await self._change()
        self._handed_out += 1
        if self._handed_out % _TURN_EVENTS == 0:
            await asyncio.sleep(0)
        event, size = self._events.popleft()
        self._bytes -= size
        self._changed.set()
        return event

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()
