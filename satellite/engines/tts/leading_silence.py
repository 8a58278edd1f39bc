"""The silence that a voice begins with: left out, so that what is made is heard."""

from typing import Any

import numpy as np

Samples = np.ndarray[Any, np.dtype[np.float32]]

_SILENT = 10 ** (-50 / 20)
"""-50 dBFS: softer than the softest consonant that begins a word, louder than a voice's silence."""

_KEPT_SECONDS = 0.005
_FADE_SECONDS = 0.002
_LONGEST_SECONDS = 1.0
"""After so much silence it is taken for meant."""


class Onset:
    """Cuts the silence off the beginning of sound that comes in pieces."""

    def __init__(self, rate: int, volume: float = 1.0) -> None:
        """Expect `rate` samples a second, at `volume` times the usual loudness."""
        self._rate = rate
        self._silent = _SILENT * volume
        self._begun = False
        self._kept = np.zeros(0, np.float32)
        self._dropped = 0

    def trim(self, samples: Samples) -> Samples:
        """Return what is to be heard of the next `samples`: nothing as long as they are silent."""
        if self._begun:
            return samples
        joined = np.concatenate((self._kept, samples))
        loud = np.flatnonzero(np.abs(joined) >= self._silent)
        start = max(0, (int(loud[0]) if len(loud) else len(joined)) - round(_KEPT_SECONDS * self._rate))
        self._dropped += start
        self._kept = joined[start:].astype(np.float32)
        if not len(loud) and self._dropped < _LONGEST_SECONDS * self._rate:
            return np.zeros(0, np.float32)
        self._begun = True
        if self._dropped:
            faded = self._kept[: round(_FADE_SECONDS * self._rate)]
            faded *= np.linspace(0.0, 1.0, len(faded), dtype=np.float32)
        return self._kept
