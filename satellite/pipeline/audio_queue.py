"""Audio between the reader of a socket and a run, bounded in seconds."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import ClassVar

from satellite.audio.pcm import BYTES_PER_SECOND

_LOSSY_SECONDS = 5.0
"""Limit while `lossy`: an engine that cannot keep up must not process old audio, nor fifty rooms hold much of it."""

_REREAD_BYTES = BYTES_PER_SECOND // 2
"""What is kept of the audio that was read, for `reread`."""


class AudioInbox:
    """A queue of canonical audio.

    When it is full, `put` waits, so that no word of a command is lost and the sender is held back. While it is `lossy`,
    as in the wait for a wake word or during an answer, the oldest audio is dropped instead, beyond five seconds.
    """

    dropped_in_all_seconds: ClassVar[float] = 0.0
    """Audio that all queues together have dropped, for the metrics."""

    def __init__(self, max_seconds: float = 5.0) -> None:
        self._max_bytes = int(max_seconds * BYTES_PER_SECOND)
        self._lossy_bytes = int(min(max_seconds, _LOSSY_SECONDS) * BYTES_PER_SECOND)
        self._chunks: deque[bytes] = deque()
        self._bytes = 0
        self._read = bytearray()
        self.ended = False
        """Whether `end` was called."""

        self._lossy = self._nudged = False
        self._changed = asyncio.Event()
        self._room = asyncio.Event()

    @property
    def lossy(self) -> bool:
        """Whether the oldest audio is dropped when the queue is full."""
        return self._lossy

    @lossy.setter
    def lossy(self, lossy: bool) -> None:
        self._lossy = lossy
        self._room.set()

    async def put(self, pcm: bytes) -> None:
        """Add audio; waits for room unless `lossy`. After `end` it is ignored."""
        # A queue that is empty takes any chunk, however long, since waiting would not make it fit.
        while pcm and self._chunks and not self._lossy and not self.ended and self._overfull(pcm):
            self._room.clear()
            await self._room.wait()
        if self.ended or not pcm:
            return
        while self._chunks and self._overfull(pcm):
            oldest = self._chunks.popleft()
            self._bytes -= len(oldest)
            AudioInbox.dropped_in_all_seconds += len(oldest) / BYTES_PER_SECOND
        self._chunks.append(pcm)
        self._bytes += len(pcm)
        self._changed.set()

    def unread(self, pcm: bytes) -> None:
        """Put audio back at the front that was read, but belongs to the next reader."""
        if pcm:
            self._chunks.appendleft(pcm)
            self._bytes += len(pcm)
            del self._read[-len(pcm) :]
            self._changed.set()

    def reread(self, seconds: float) -> None:
        """Put the last `seconds` of what was read back at the front; of more than half a second only so much."""
        size = min(len(self._read), int(seconds * BYTES_PER_SECOND) // 2 * 2)
        self.unread(bytes(self._read[len(self._read) - size :]))

    def _overfull(self, pcm: bytes) -> bool:
        return self._bytes + len(pcm) > (self._lossy_bytes if self._lossy else self._max_bytes)

    def nudge(self) -> None:
        """Wake the reader, with an empty piece of audio if there is none."""
        self._nudged = True
        self._changed.set()

    def end(self) -> None:
        """End the audio; what is queued is still delivered."""
        self.ended = True
        self._changed.set()
        self._room.set()

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        """Yield audio in order until `end`."""
        while True:
            if self._chunks or self._nudged:
                self._nudged = False
                # All at once: a reader that is late catches up with one call of the engine.
                pcm = b"".join(self._chunks)
                self._chunks.clear()
                self._bytes = 0
                self._room.set()
                self._read += pcm[-_REREAD_BYTES:]
                del self._read[:-_REREAD_BYTES]
                yield pcm
            elif self.ended:
                return
            else:
                self._changed.clear()
                await self._changed.wait()
