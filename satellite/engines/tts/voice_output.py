"""The sound of a text as all voices give it out: equally loud, begun at once, and never clipped."""

import math

import numpy as np

from satellite.engines.tts.leading_silence import LeadingSilence
from satellite.engines.tts.level import TARGET_LUFS, loudness
from satellite.engines.tts.limiter import Limiter
from satellite.engines.tts.vits import Samples

_FULL_SCALE = 32767

_LEAST_SECONDS = 1.0
"""Of a sentence that is corrected: the loudness of a word says little."""

_MOST_DB = 2.0
"""By which it is: a whole sentence is louder or softer, so that nothing pumps."""


class VoiceOutput:
    """Takes the samples of one text, piece by piece, and returns 16-bit mono PCM; made for each text."""

    def __init__(self, rate: int, gain: float, volume: float, *, of_sentences: bool = False) -> None:
        """Expect `rate` samples a second, which `gain` brings to `volume` times the usual loudness.

        With `of_sentences` each piece is a sentence, and what one differs from the usual loudness is corrected.
        """
        self._gain = gain
        self._rate = rate
        self._usual_lufs = TARGET_LUFS + 20 * math.log10(volume) if of_sentences and volume else None
        self._silence = LeadingSilence(rate, volume)
        self._limiter = Limiter(rate)

    def add(self, samples: Samples) -> bytes:
        """Return the next sound, some 5 ms late; empty while there is only silence."""
        samples = samples * np.float32(self._gain)
        if self._usual_lufs is not None and len(samples) >= _LEAST_SECONDS * self._rate:
            difference = self._usual_lufs - loudness(samples, self._rate)
            samples = samples * np.float32(10 ** (max(-_MOST_DB, min(difference, _MOST_DB)) / 20))
        return _packed(self._limiter.limit(self._silence.trim(samples)))

    def end(self) -> bytes:
        """Return what is left; the text is spoken."""
        return _packed(self._limiter.flush())


def _packed(samples: Samples) -> bytes:
    return (samples * _FULL_SCALE).astype(np.int16).tobytes()
