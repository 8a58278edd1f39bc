"""The silence with which a network begins a sentence, cut off so that the answer is heard at once."""

import numpy as np

from satellite.engines.tts.vits import Samples

_SILENT_LEVEL = 10 ** (-50 / 20)
"""-50 dBFS: softer than the softest consonant that begins a word, louder than a voice's silence."""

_KEPT_SECONDS = 0.005
_FADE_SECONDS = 0.002
_LONGEST_SILENCE_SECONDS = 1.0
"""Longer silence is part of the text."""


class LeadingSilence:
    """Cuts the silence off the beginning of sound that comes in pieces."""

    def __init__(self, rate: int, volume: float = 1.0) -> None:
        """Expect `rate` samples a second, at `volume` times the usual loudness."""
        self._rate = rate
        self._silent = _SILENT_LEVEL * volume
        self._begun = False
        self._kept = np.zeros(0, np.float32)
        self._dropped = 0

    def trim(self, samples: Samples) -> Samples:
        """Return the audible part of the next `samples`: none of them while they are silent."""
        if self._begun:
            return samples
        joined = np.concatenate((self._kept, samples))
        loud = np.flatnonzero(np.abs(joined) >= self._silent)
        start = max(0, (int(loud[0]) if len(loud) else len(joined)) - round(_KEPT_SECONDS * self._rate))
        self._dropped += start
        self._kept = joined[start:].astype(np.float32)
        if not len(loud) and self._dropped < _LONGEST_SILENCE_SECONDS * self._rate:
            return np.zeros(0, np.float32)
        self._begun = True
        if self._dropped:  # fade in: a cut in the middle of a wave is heard as a click
            faded = self._kept[: round(_FADE_SECONDS * self._rate)]
            faded *= np.linspace(0.0, 1.0, len(faded), dtype=np.float32)
        return self._kept
