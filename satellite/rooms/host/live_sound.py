"""Sound from a live source, which does not wait for its reader: what is not taken in time is dropped, oldest first.

A thread reads it, so that each piece is stamped when it arrives, however busy the event loop is. After a short stall
the reader gets all that has arrived meanwhile at once, and misses nothing; after a longer one it goes on with the most
recent sound. Without the limit, a room that once fell behind would answer late for as long as it runs.
"""

import asyncio
import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

from satellite.audio.pcm import WIDTH
from satellite.errors import SatelliteError

_LOGGER = logging.getLogger(__name__)

LATE_SECONDS = 2.0
"""How old a piece may be when it is taken. Loading a model holds the loop up for less, and no command is to lose words
to that; what was said longer ago is answered too late to be of use."""

_STALL_SECONDS = 2.0
"""What gives nothing for so long is taken for gone, as a device is."""

_HASTE = 1.1
"""How much faster than in real time sound is taken: no clock that records is off by as much, and a program that could
give an hour at once is slowed down."""

_LEAST_SECONDS = 0.02
"""How much is read at once at least, as far as it is there."""

_MOST_SECONDS = 10.0
"""How much may come at once of what could not come before."""

_LOOK_SECONDS = 0.1
"""How often the thread looks whether it is to end."""

_READ_BYTES = 1 << 16


class Backlog:
    """The pieces that wait, each with when it came; one thread puts, and one takes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.dropped_bytes = 0
        """What nobody has taken in time."""

        self._clock = clock
        self._lock = threading.Lock()
        self._pieces: deque[tuple[float, bytes]] = deque()

    def put(self, piece: bytes) -> None:
        """Add what has just come."""
        with self._lock:
            self._drop()
            self._pieces.append((self._clock(), piece))

    def take(self) -> bytes | None:
        """Return the oldest piece that is not too old; None when nothing waits."""
        with self._lock:
            self._drop()
            return self._pieces.popleft()[1] if self._pieces else None

    def _drop(self) -> None:
        oldest = self._clock() - LATE_SECONDS
        while self._pieces and self._pieces[0][0] < oldest:
            self.dropped_bytes += len(self._pieces.popleft()[1])


class LiveSource:
    """What comes out of a pipe at `bytes_per_second`."""

    def __init__(self, descriptor: int, words: str, bytes_per_second: int) -> None:
        """Own the pipe `descriptor`; it is closed when `pieces` is."""
        self.backlog = Backlog()
        self._descriptor = descriptor
        self._words = words
        self._bytes_per_second = bytes_per_second
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._over = asyncio.Event()
        self._stop = threading.Event()

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yield the sound as it comes. Raises `SatelliteError` when it ends, or when nothing comes for a while."""
        threading.Thread(target=self._read, name="microphone", daemon=True).start()
        try:
            while True:
                self._news.clear()
                over = self._over.is_set()
                while (piece := self.backlog.take()) is not None:
                    yield piece
                if over or not await self._more():
                    raise SatelliteError(f"the microphone {self._words} gives no sound", code="microphone-gone")
        finally:
            self._stop.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(_STALL_SECONDS):
                    await self._over.wait()

    async def _more(self) -> bool:
        """Wait until something has happened; False if nothing does."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_STALL_SECONDS):
                await self._news.wait()
        return self._news.is_set()  # also when the loop was busy for so long that it came to both at once

    def _read(self) -> None:
        """Put what comes into the backlog until told to stop, or it is over; runs in the thread."""
        try:
            self._follow()
        except OSError as error:
            _LOGGER.debug("the microphone %s: %s", self._words, error)
        finally:
            os.close(self._descriptor)
            self._tell(self._over)

    def _follow(self) -> None:
        allowed_seconds, looked_at, rest = _LEAST_SECONDS, time.monotonic(), b""
        while not self._stop.is_set():
            now = time.monotonic()
            allowed_seconds = min(allowed_seconds + _HASTE * (now - looked_at), _MOST_SECONDS)
            looked_at = now
            if allowed_seconds < _LEAST_SECONDS:
                self._stop.wait(_LEAST_SECONDS - allowed_seconds)
                continue
            if not select.select([self._descriptor], [], [], _LOOK_SECONDS)[0]:
                continue
            data = os.read(self._descriptor, min(int(allowed_seconds * self._bytes_per_second), _READ_BYTES))
            if not data:
                return
            allowed_seconds -= len(data) / self._bytes_per_second
            data = rest + data
            whole = len(data) // WIDTH * WIDTH  # what is dropped must be whole samples
            rest = data[whole:]
            self.backlog.put(data[:whole])
            self._tell(self._news)

    def _tell(self, event: asyncio.Event) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(event.set)
