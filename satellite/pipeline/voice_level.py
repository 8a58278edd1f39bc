"""The loudness of the speaker, which distinguishes a command from a voice in the background.

Another voice, such as a television's, keeps a VAD sure of speech when the command is over. It is recognised by its
level, since the speaker is nearer. Levels are decibels of the mean power, over that of one step of a
sample.
"""

import bisect
import math
from collections import deque
from collections.abc import Sequence

_LOUD = 10
"""The loudest tenth of the windows is the command's loudness: a slammed door is shorter."""

_SMOOTHED_WINDOWS = 12
"""Windows of 32 ms with speech whose mean power is compared: 0.4 s, longer than the loudest syllables of a television.
Pauses are left out: what is said after one would seem softer than it is."""

_LATEST_WINDOWS = 4
"""Windows by whose level noise after the command is told from its speaker, sooner than noise could resume it."""

_SILENT_DB = 25.0
"""How much softer than the speaker silence is: what is between two words of a television 10 dB softer is louder."""


class VoiceLevel:
    """Follows the level of one command, window by window of the VAD."""

    def __init__(self) -> None:
        self._loudest: list[float] = []  # levels of the windows with speech, in order of loudness
        self._powers: deque[float] = deque(maxlen=_SMOOTHED_WINDOWS)
        self.lately_db = 0.0
        """By how much the speaker's voice was louder in the latest `_LATEST_WINDOWS` alone."""

        self.silent_windows = 0
        """Windows in a row, at the end, in which nobody speaks, in the background neither."""

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
        is_silent = not is_speech and loudness - _decibels(power) > _SILENT_DB
        self.silent_windows = self.silent_windows + 1 if is_silent else 0
        powers = list(self._powers)
        self.lately_db = loudness - _mean_decibels(powers[-_LATEST_WINDOWS:])
        return loudness - _mean_decibels(powers)


def _mean_decibels(powers: Sequence[float]) -> float:
    return _decibels(sum(powers) / len(powers))


def _decibels(power: float) -> float:
    return 10 * math.log10(max(1.0, power))
