"""Voice activity by Silero VAD v6 (the ONNX file that faster-whisper carries), streamed with its own state."""

import math
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from satellite.audio.pcm import to_float
from satellite.engines.onnx_session import OnnxSession, load_session, model_errors
from satellite.engines.worker import Worker
from satellite.errors import SpeechToTextError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WINDOW_SAMPLES = 512
"""Samples the network takes at once (32 ms at 16 kHz)."""

_CONTEXT_SAMPLES = 64
"""Samples of the previous window that it gets again."""

_LEVEL = 0.5
"""Peak to which levelled audio is raised: Silero misses speech whose peaks are below -40 dBFS, all of it at -60."""

_MOST_GAIN = 100.0
_LEVEL_MEMORY_SECONDS = 3.0
"""Time in which the remembered peak falls to 37 %: longer than a speaker's pauses, which become no louder."""

_STATE_SHAPE = (1, 1, 128)
_WINDOW_BYTES = WINDOW_SAMPLES * 2

IMPORTING_FASTER_WHISPER = threading.Lock()
"""Held to import `faster_whisper`: its modules import each other, and two threads that begin with different ones can
deadlock."""


class SileroVad:
    """A `VoiceActivityDetector`; all streams share one session in one thread."""

    window_seconds = WINDOW_SAMPLES / 16_000

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._session: OnnxSession | None = None

    def load(self) -> None:
        """Load the network; blocking. Raises `SpeechToTextError`."""
        with IMPORTING_FASTER_WHISPER:
            from faster_whisper.utils import get_assets_path

        file = Path(get_assets_path(), "silero_vad_v6.onnx")
        try:
            self._session = load_session(file)
        except model_errors() as error:
            cure = "install the package faster-whisper again (sudo ./install.sh, or pip install --force-reinstall)"
            raise SpeechToTextError(f"{file} cannot be loaded; {cure}: {error}", kind="not-ready") from error

    def stream(self, *, levelled: bool = False) -> "SileroStream":
        """Start a stream of its own, of audio that is raised if it is quiet when `levelled`.

        Raises `SpeechToTextError` (stt-not-ready) before `load`.
        """
        if self._session is None:
            raise SpeechToTextError("voice activity detection is not loaded", kind="not-ready")
        return SileroStream(self._session, self._worker, levelled=levelled)


class SileroStream:
    """One stream's recurrent state, and samples that do not fill a window yet."""

    def __init__(self, session: OnnxSession, worker: Worker, *, levelled: bool) -> None:
        import numpy as np

        self._session = session
        self._worker = worker
        self._rest = b""
        self._levelled = levelled
        self._peak = 0.0
        self._context = np.zeros(_CONTEXT_SAMPLES, np.float32)
        self._h = np.zeros(_STATE_SHAPE, np.float32)
        self._c = np.zeros(_STATE_SHAPE, np.float32)

    async def feed(self, pcm: bytes) -> list[float]:
        """Return the speech probability of each 32 ms window that `pcm` completes."""
        data = self._rest + pcm
        whole = len(data) - len(data) % _WINDOW_BYTES
        self._rest = data[whole:]
        if not whole:
            return []
        return await self._worker.run(self._run, data[:whole])

    def _run(self, pcm: bytes) -> list[float]:
        import numpy as np

        # Each window of 512 samples is preceded by the last 64 of the one before, as in Silero's own wrapper.
        samples = np.concatenate([self._context, to_float(pcm)])
        self._context = samples[-_CONTEXT_SAMPLES:]
        windows = np.lib.stride_tricks.sliding_window_view(samples, WINDOW_SAMPLES + _CONTEXT_SAMPLES)[::WINDOW_SAMPLES]
        if self._levelled:
            windows = windows - windows.mean(axis=1, keepdims=True)  # an offset of the microphone is no loudness
            windows = windows * self._gains(windows)
        inputs = {"input": np.ascontiguousarray(windows), "h": self._h, "c": self._c}
        output, self._h, self._c = self._session.run(None, inputs)
        return [float(probability) for probability in np.asarray(output).ravel()]

    def _gains(self, windows: "NDArray[np.float32]") -> "NDArray[np.float32]":
        """Return a gain for each window, shape [n, 1], that raises the loudest of the last seconds to the level."""
        import numpy as np

        decay = math.exp(-SileroVad.window_seconds / _LEVEL_MEMORY_SECONDS)
        gains = np.ones((len(windows), 1), np.float32)
        for index, peak in enumerate(np.abs(windows).max(axis=1)):
            self._peak = max(float(peak), decay * self._peak)
            gains[index] = min(_MOST_GAIN, max(1.0, _LEVEL / max(self._peak, 1e-9)))
        return gains
