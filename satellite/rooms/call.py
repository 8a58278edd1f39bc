"""A live call between two rooms: what the microphone of each hears is what the other plays."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from satellite.audio.pcm import seconds_of

_LONGEST_SECONDS = 0.12
"""How much sound may wait to be played; the oldest is dropped, so that a delay never lasts."""


class Call:
    """A call, from the moment at which both rooms are asked until it is over."""

    def __init__(self, caller: str, callee: str) -> None:
        """Connect the rooms of these names."""
        self.caller = caller
        self.callee = callee
        self.reason = ""
        """Why it is over; empty until then."""

        self.began_at: float | None = None
        """When both rooms could hear each other, by the event loop's clock."""

        self.sides = (CallSide(self, caller), CallSide(self, callee))
        self.sides[0].other, self.sides[1].other = self.sides[1], self.sides[0]
        self._live = asyncio.Event()
        self._over = asyncio.Event()

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self._over.is_set()

    @property
    def seconds(self) -> float:
        """How long both rooms have heard each other."""
        return 0.0 if self.began_at is None else asyncio.get_running_loop().time() - self.began_at

    def end(self, reason: str) -> None:
        """End it, for the first reason that is given."""
        if not self.over:
            self.reason = reason
            self._over.set()
            self._live.set()
            for side in self.sides:
                side.wake()

    def note_ready(self) -> None:
        """One side is ready; it begins with the second."""
        if self.began_at is None and all(side.is_ready for side in self.sides):
            self.began_at = asyncio.get_running_loop().time()
            self._live.set()

    async def begun(self) -> None:
        """Wait until both sides are ready, or it is over."""
        await self._live.wait()

    async def ended(self) -> None:
        """Wait until it is over."""
        await self._over.wait()


class CallSide:
    """One room in a call; iterate it for what the other says, as canonical audio, until the call is over."""

    other: "CallSide"

    def __init__(self, call: Call, room: str) -> None:
        self.call = call
        self.room = room
        self.is_ready = False
        self._pieces: deque[bytes] = deque()
        self._waiting_seconds = 0.0
        self._changed = asyncio.Event()
        self._hurried = asyncio.Event()
        self._left = asyncio.Event()

    async def ready(self) -> None:
        """Say that the room can hear and speak, and wait for the other; returns also when the call is over by then."""
        self.is_ready = True
        self.call.note_ready()
        await self.call.begun()

    def say(self, pcm: bytes) -> None:
        """Send what the room's microphone hears, canonical audio."""
        if self.call.began_at is not None and not self.call.over:
            self.other._put(pcm)

    def wake(self) -> None:
        """Look whether the call is over."""
        self._changed.set()

    async def hurry(self) -> None:
        """Have the room leave a call that is over without saying so, and wait until it has."""
        self._hurried.set()
        await self._left.wait()

    async def hurried(self) -> None:
        """Wait until something else is to begin in the room."""
        await self._hurried.wait()

    def note_left(self) -> None:
        """The room is as it was before the call."""
        self._left.set()

    def _put(self, pcm: bytes) -> None:
        self._pieces.append(pcm)
        self._waiting_seconds += seconds_of(pcm)
        while self._waiting_seconds > _LONGEST_SECONDS and len(self._pieces) > 1:
            self._waiting_seconds -= seconds_of(self._pieces.popleft())
        self._changed.set()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield what the other room says."""
        while not self.call.over:
            if self._pieces:
                pcm = self._pieces.popleft()
                self._waiting_seconds -= seconds_of(pcm)
                yield pcm
            else:
                self._changed.clear()
                await self._changed.wait()
