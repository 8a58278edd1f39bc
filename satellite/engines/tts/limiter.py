"""Keeps the peaks of a voice below full scale, so that loud words are not clipped.

A gain so low that no text could clip does not exist: the network adds noise, and a shout is 4 dB above the calibration
text. It would also make all other texts as much quieter.
"""

import numpy as np
from numpy.typing import NDArray

from satellite.engines.tts.vits import Samples

CEILING = 10 ** (-1 / 20)
"""-1 dBFS, as EBU R 128 has it: resampling, here or in a speaker, makes peaks between samples a little higher."""

_RAMP_SECONDS = 0.005
"""In which the gain falls before a peak and rises after it; sound is delayed by as much."""

_HOLD_SECONDS = 0.015
"""How long the gain stays low after a peak: the pitch period of a deep voice, so that it does not follow each one."""


class Limiter:
    """Turns down the surroundings of peaks above `CEILING`; all other samples pass unchanged.

    It looks ahead and holds no state but the samples themselves: pieces of any length sound as the whole does.
    """

    def __init__(self, rate: int) -> None:
        """Expect `rate` samples a second."""
        self._ramp = round(_RAMP_SECONDS * rate)
        self._hold = round(_HOLD_SECONDS * rate)
        self._before = self._ramp + self._hold
        """Past samples on which the gain depends."""

        self._weights = np.hanning(self._ramp + 3)[1:-1]
        self._weights /= self._weights.sum()
        self._samples = np.zeros(self._before, np.float32)
        """`_before` samples that have been returned, and those that have not."""

    def limit(self, samples: Samples) -> Samples:
        """Return the sound up to 5 ms before the end of `samples`, which are added to it."""
        self._samples = known = np.concatenate((self._samples, samples))
        count = len(known) - self._before - self._ramp
        if count <= 0:
            return known[:0]
        self._samples = known[count:]
        limited: Samples = known[self._before : self._before + count]
        if np.abs(known).max() > CEILING:
            limited = limited * self._gains(known)
        return limited

    def flush(self) -> Samples:
        """Return what is left; the sound has ended."""
        return self.limit(np.zeros(self._ramp, np.float32))

    def _gains(self, samples: Samples) -> NDArray[np.float32]:
        """Return the gains of the samples after the first `_before` and before the last `_ramp`.

        The gain that a peak needs is a minimum from `_ramp` before to `_hold` after it, and the mean of `_ramp` + 1
        minima that all include the peak is never higher.
        """
        needed = CEILING / np.maximum(np.abs(samples), CEILING)
        lowest = _sliding_minimum(needed, self._hold + self._ramp + 1)
        return np.convolve(lowest, self._weights, "valid").astype(np.float32)


def _sliding_minimum(values: NDArray[np.floating], width: int) -> NDArray[np.floating]:
    """Return the minimum of each `width` values in a row."""
    covered = 1
    while covered < width:
        step = min(covered, width - covered)
        values = np.minimum(values[:-step], values[step:])
        covered += step
    return values
