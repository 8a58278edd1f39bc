"""Loudness as people hear it, after ITU-R BS.1770-5, and the gain that makes all voices equally loud.

Written out here, since pyloudnorm and its like need SciPy (110 MB), and of PyAV's releases only 18.1 returns what
FFmpeg's filter `ebur128` measures.
"""

import numpy as np
from numpy.typing import NDArray

from satellite.engines.tts.vits import Samples

TARGET_LUFS = -20.0
"""Of the calibration text: loud enough for a small speaker, and few voices have peaks that the limiter has to lower."""

_FILTER_RATE = 48_000
_FILTER = (
    ((1.53512485958697, -2.69169618940638, 1.19839281085285), (1.0, -1.69065929318241, 0.73248077421585)),
    ((1.0, -2.0, 1.0), (1.0, -1.99004745483398, 0.99007225036621)),
)
"""K-weighting, annex 1 tables 1 and 2: a shelf for the head, and a high-pass; b and a of each at 48 kHz."""

_DECAY_SECONDS = 0.5
"""Silence after the sound, so that the end of what the filter adds does not come round to the beginning."""

_BLOCK_SECONDS = 0.4
_BLOCKS_OVERLAP = 4
"""Each block begins a quarter of its length after the one before."""

_OFFSET_DB = -0.691
"""By which the weighting of a sine of 997 Hz is undone."""

_ABSOLUTE_GATE_LUFS = -70.0
_RELATIVE_GATE_DB = -10.0


def loudness(samples: Samples, rate: int) -> float:
    """Return the integrated loudness of mono sound, LUFS; -70 for silence, below which nothing counts."""
    step = round(_BLOCK_SECONDS * rate / _BLOCKS_OVERLAP)
    block = step * _BLOCKS_OVERLAP
    weighted = _k_weighted(samples, rate)
    weighted = np.pad(weighted, (0, max(0, block - len(weighted))))  # a short word is one block
    energies = np.concatenate(([0.0], np.cumsum(np.square(weighted))))[::step]
    powers = (energies[_BLOCKS_OVERLAP:] - energies[:-_BLOCKS_OVERLAP]) / block
    powers = powers[powers > _power(_ABSOLUTE_GATE_LUFS)]
    if not len(powers):
        return _ABSOLUTE_GATE_LUFS
    powers = powers[powers > powers.mean() * 10 ** (_RELATIVE_GATE_DB / 10)]
    return float(10 * np.log10(powers.mean()) + _OFFSET_DB)


def _power(lufs: float) -> float:
    return float(10 ** ((lufs - _OFFSET_DB) / 10))


def gain_to_target(measured_lufs: float) -> float:
    """Return the factor that brings a voice of this loudness to `TARGET_LUFS`; 1 for silence."""
    return float(10 ** ((TARGET_LUFS - measured_lufs) / 20)) if measured_lufs > _ABSOLUTE_GATE_LUFS else 1.0


def _k_weighted(samples: Samples, rate: int) -> NDArray[np.float64]:
    """Return the samples after both filters, by their response at each frequency, which no rate changes."""
    length = len(samples) + round(_DECAY_SECONDS * rate)
    delay = np.exp(-2j * np.pi * np.fft.rfftfreq(length, 1 / rate) / _FILTER_RATE)
    spectrum = np.fft.rfft(samples, length)
    for b, a in _FILTER:
        spectrum = spectrum * np.polyval(b[::-1], delay) / np.polyval(a[::-1], delay)
    return np.fft.irfft(spectrum, length)[: len(samples)]
