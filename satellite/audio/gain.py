"""A loudness that changes without a click, and the sum of two sounds."""

from satellite.audio.pcm import AudioFormat

FADE_SECONDS = 0.05
"""How long a change from silence to full loudness takes: a sudden one clicks."""


class Gain:
    """Scales 16-bit sound by a factor from 0 to 1, which may change at any time."""

    def __init__(self, target: float = 1.0) -> None:
        self.target = target
        """The factor that is faded to."""

        self._present = target

    def settle(self) -> None:
        """Have the factor at once: nothing sounds that a change would make click."""
        self._present = self.target

    def apply(self, pcm: bytes, layout: AudioFormat) -> bytes:
        """Return whole frames in `layout`, scaled."""
        if self._present == self.target == 1.0 or not pcm:
            return pcm
        import numpy as np

        samples = np.frombuffer(pcm, np.int16).reshape(-1, layout.channels)
        change = np.arange(1, len(samples) + 1) / (FADE_SECONDS * layout.rate)
        if self.target < self._present:
            factors = np.maximum(self._present - change, self.target)
        else:
            factors = np.minimum(self._present + change, self.target)
        self._present = float(factors[-1])
        return (samples * factors[:, np.newaxis]).astype(np.int16).tobytes()


def mixed(first: bytes, second: bytes) -> bytes:
    """Return the sum of two pieces of 16-bit sound in the same format; the shorter one is silent at its end."""
    if not first or not second:
        return first or second
    import numpy as np

    if len(first) < len(second):
        first, second = second, first
    total = np.frombuffer(first, np.int16).astype(np.int32)
    total[: len(second) // 2] += np.frombuffer(second, np.int16)
    return total.clip(-32768, 32767).astype(np.int16).tobytes()
