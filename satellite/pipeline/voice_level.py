"""The loudness of the speaker, which distinguishes a command from a voice in the background.

Another voice, such as a television's, keeps a VAD sure of speech when the command is over. It is recognised by its
level, since the speaker is nearer. Levels are decibels of the mean power, over that of one step of a
sample.
"""

import bisect
import math
from collections import deque

_LOUD = 10
"""The loudest tenth of the windows is the command's loudness: a slammed door is shorter."""

_SMOOTHED_WINDOWS = 12
"""Windows of 32 ms with speech whose mean power is compared: 0.4 s, longer than the loudest syllables of a television.
Pauses are left out: what is said after one would seem softer than it is."""


class VoiceLevel:
    """Follows the level of one command, window by window of the VAD."""

    def __init__(self) -> None:
        self._loudest: list[float] = []  # levels of the windows with speech, in order of loudness
        self._powers: deque[float] = deque(maxlen=_SMOOTHED_WINDOWS)

    def feed(self, pcm: bytes, is_speech: bool) -> float:
        """Advance by a window of canonical audio, and return by how much the speaker's voice is louder, in decibels."""
        import numpy as np

        samples = np.frombuffer(pcm, np.int16).astype(np.float32)
        power = float(np.dot(samples, samples)) / max(1, len(samples))
        if is_speech:
            self._powers.append(power)
            bisect.insort(self._loudest, _decibels(power))
        if not self._loudest:
            return 0.0
        loudness = self._loudest[-1 - len(self._loudest) // _LOUD]
        return loudness - _decibels(sum(self._powers) / len(self._powers))

    def end(self) -> None:
        """Take what follows for softer than it is, for a moment: the command seems to be over."""
        self._powers.extend([0.0] * _SMOOTHED_WINDOWS)


def _decibels(power: float) -> float:
    return 10 * math.log10(max(1.0, power))
