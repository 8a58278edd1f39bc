"""The sound of a text as all voices give it out: equally loud, begun at once, and never clipped."""

import numpy as np

from satellite.engines.tts.leading_silence import LeadingSilence
from satellite.engines.tts.limiter import Limiter
from satellite.engines.tts.vits import Samples

_FULL_SCALE = 32767


class VoiceOutput:
    """Takes the samples of one text, piece by piece, and returns 16-bit mono PCM; made for each text."""

    def __init__(self, rate: int, gain: float, volume: float) -> None:
        """Expect `rate` samples a second, which `gain` brings to `volume` times the usual loudness."""
        self._gain = gain
        self._silence = LeadingSilence(rate, volume)
        self._limiter = Limiter(rate)

    def add(self, samples: Samples) -> bytes:
        """Return the next sound, some 5 ms late; empty while there is only silence."""
        return _packed(self._limiter.limit(self._silence.trim(samples * np.float32(self._gain))))

    def end(self) -> bytes:
        """Return what is left; the text is spoken."""
        return _packed(self._limiter.flush())


def _packed(samples: Samples) -> bytes:
    return (samples * _FULL_SCALE).astype(np.int16).tobytes()
