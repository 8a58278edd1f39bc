"""How well a microphone hears: speech against the room's own noise."""

from collections import deque

import numpy as np

from satellite.audio import RATE

_BLOCK_SAMPLES = RATE // 10
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
        self._rest = np.zeros(0, np.int16)

    def feed(self, pcm: bytes) -> None:
        """Take the next audio."""
        samples = np.concatenate([self._rest, np.frombuffer(pcm, np.int16)])
        whole = len(samples) - len(samples) % _BLOCK_SAMPLES
        self._rest = samples[whole:]
        if whole:
            blocks = samples[:whole].reshape(-1, _BLOCK_SAMPLES).astype(np.float64)
            self._levels.extend(np.sqrt(np.mean(np.square(blocks), axis=1)))

    @property
    def speech_to_noise_db(self) -> float:
        """How far what was heard last stands above the room's noise; -inf before anything was heard."""
        if not self._levels:
            return float("-inf")
        levels = np.maximum(np.array(self._levels), _SILENCE)
        return float(20 * np.log10(levels[-_SPEECH_BLOCKS:].max() / np.quantile(levels, 0.1)))
