"""Frames that wait to be sent to one client: bounded, so that a client that does not read costs others nothing."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from satellite.audio.pcm import AudioFormat

Frame = str | bytes
"""Text is an event, bytes are sound."""


class Outbox:
    """A bounded queue of frames; iterate it. Past the bound nothing more is taken, and `overflowed` is true.

    It is also the speaker of a conversation (`SoundOutput`): the client plays sound as it comes, and does not report
    it; the events of the run say where it begins and ends.
    """

    format: AudioFormat | None = None
    """None takes the voice's own: `tts-start` carries its rate."""

    media_format = AudioFormat(44_100)
    paced = False
    trouble = ""

    def __init__(self, max_bytes: int, max_frames: int) -> None:
        self._max_bytes = max_bytes
        self._max_frames = max_frames
        self._frames: deque[Frame] = deque()
        self._bytes = 0
        self._changed = asyncio.Event()
        self._full = asyncio.Event()

    @property
    def overflowed(self) -> bool:
        """Whether too much has waited."""
        return self._full.is_set()

    async def overflow(self) -> None:
        """Return once too much waits."""
        await self._full.wait()

    def put(self, frame: Frame) -> None:
        """Add a frame. Raises `ConnectionResetError` when too much waits already: the client does not read."""
        if self._bytes + len(frame) > self._max_bytes or len(self._frames) >= self._max_frames:
            self._full.set()
        self._changed.set()  # also when it is full: that ends the iteration
        if self.overflowed:
            raise ConnectionResetError("the client does not read")
        self._frames.append(frame)
        self._bytes += len(frame)

    async def __aiter__(self) -> AsyncIterator[Frame]:
        """Yield frames in order until too many wait."""
        while not self.overflowed:
            if self._frames:
                frame = self._frames.popleft()
                self._bytes -= len(frame)
                yield frame
            else:
                self._changed.clear()
                await self._changed.wait()

    async def start(self, layout: AudioFormat) -> float:
        """Do nothing: the browser knows its speaker."""
        return 0.0

    async def write(self, pcm: bytes) -> None:
        """Add sound."""
        self.put(pcm)

    async def stop(self) -> None:
        """Do nothing."""

    async def played(self, left_seconds: float) -> None:
        """Return at once."""

    def drop(self) -> None:
        """Take back the sound that has not been sent."""
        self._frames = deque(frame for frame in self._frames if isinstance(frame, str))
        self._bytes = sum(map(len, self._frames))
