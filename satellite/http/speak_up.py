"""Notices that somebody speaks while an answer is heard."""

from collections import deque

from satellite.audio.pcm import BYTES_PER_SECOND
from satellite.engines.protocols import VoiceActivityDetector

_WINDOWS = 12
_SPOKEN = 9
"""So many of the last 32 ms windows: more than a cough, less than a word and a half."""

_KEPT_BYTES = BYTES_PER_SECOND
"""What is heard again of what was said before it was noticed."""


class BargeIn:
    """Listens to one client; feed it canonical audio."""

    def __init__(self, vad: VoiceActivityDetector, threshold: float) -> None:
        self._stream = vad.stream()
        self._threshold = threshold
        self._latest: deque[bool] = deque(maxlen=_WINDOWS)
        self._pcm = bytearray()

    async def feed(self, pcm: bytes) -> bytes:
        """Return the beginning of what somebody says once it is clear that somebody does, else nothing."""
        self._pcm += pcm
        del self._pcm[:-_KEPT_BYTES]
        for probability in await self._stream.feed(pcm):
            self._latest.append(probability >= self._threshold)
        return bytes(self._pcm) if sum(self._latest) >= _SPOKEN else b""
