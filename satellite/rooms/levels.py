"""How well a microphone hears: speech against the room's own noise."""

import math
from collections import deque

from satellite.audio.pcm import RATE, WIDTH

_BLOCK_SAMPLES = RATE // 10
_BLOCK_BYTES = _BLOCK_SAMPLES * WIDTH
_NOISE_BLOCKS = 100
"""Ten seconds, of which the quietest tenth is taken for the room's noise."""

_SPEECH_BLOCKS = 12
"""What was heard last, about a wake word's length."""

_SILENCE = 1.0
"""Least root mean square that is told apart from nothing, in units of a 16-bit sample."""


class Loudness:
    """Follows a room's sound. Feed it canonical audio."""

    def __init__(self) -> None:
        self._levels: deque[float] = deque(maxlen=_NOISE_BLOCKS)
        self._rest = bytearray()

    def feed(self, pcm: bytes) -> None:
        """Take the next audio. Every room's sound passes here, on the event loop: a block costs some microseconds."""
        import numpy as np

        self._rest += pcm
        whole = len(self._rest) // _BLOCK_BYTES
        for start in range(max(0, whole - _NOISE_BLOCKS) * _BLOCK_BYTES, whole * _BLOCK_BYTES, _BLOCK_BYTES):
            block = np.frombuffer(self._rest[start : start + _BLOCK_BYTES], np.int16).astype(np.float32)
            self._levels.append(math.sqrt(float(block @ block) / _BLOCK_SAMPLES))
        del self._rest[: whole * _BLOCK_BYTES]

    @property
    def speech_to_noise_db(self) -> float:
        """How far what was heard last stands above the room's noise; -inf before anything was heard."""
        if not self._levels:
            return float("-inf")
        import numpy as np

        levels = np.maximum(np.array(self._levels), _SILENCE)
        return float(20 * np.log10(levels[-_SPEECH_BLOCKS:].max() / np.quantile(levels, 0.1)))
