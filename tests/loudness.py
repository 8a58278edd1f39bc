"""Sound whose loudness says whether somebody speaks, for what would otherwise need a model to know."""

import numpy as np

from satellite.audio.pcm import RATE

WINDOW_SAMPLES = 512


class LoudnessVad:
    window_seconds = WINDOW_SAMPLES / RATE

    def stream(self, *, levelled: bool = False) -> "WholeWindows":
        return WholeWindows(self)

    async def feed(self, pcm: bytes) -> list[float]:
        """Return 1 for each loud window of `pcm`, which is a whole number of them."""
        windows = np.frombuffer(pcm, np.int16).reshape(-1, WINDOW_SAMPLES)
        return (np.abs(windows).max(axis=1) > 1000).astype(float).tolist()  # type: ignore[no-any-return]


class WholeWindows:
    """Feeds a VAD audio of any length."""

    def __init__(self, vad: LoudnessVad) -> None:
        self._vad = vad
        self._rest = b""

    async def feed(self, pcm: bytes) -> list[float]:
        data = self._rest + pcm
        whole = len(data) // (2 * WINDOW_SAMPLES) * 2 * WINDOW_SAMPLES
        self._rest = data[whole:]
        return await self._vad.feed(data[:whole])


def sound(windows: int, level: int) -> bytes:
    return np.resize(np.array([level, -level], np.int16), windows * WINDOW_SAMPLES).tobytes()


def speech(windows: int) -> bytes:
    return sound(windows, 5000)


def silence(windows: int) -> bytes:
    return sound(windows, 0)
