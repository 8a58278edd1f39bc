"""openWakeWord's mel spectrogram by FFT, which its network computes as products with 257 cosines and as many sines.

The network (melspectrogram.tflite) is a short-time Fourier transform in the form of two convolutions; its power is
summed into 32 bands in decibels, at most 80 below the loudest. Window and bands are read from its file.
"""

from pathlib import Path

from satellite.engines.wake.common import Floats

BANDS = 32

_HOP = 160  # samples from one mel frame to the next
_FFT = 512  # samples of one mel frame
_BINS = _FFT // 2 + 1
_LEAST_POWER = 1e-10
_RANGE_DB = 80.0
_MAX_DIFFERENCE = 1e-5


class Mels:
    """Computes mel frames; for one thread at a time."""

    def __init__(self, file: Path) -> None:
        """Read the constants of the network in `file`; raises `ValueError` if it is another network."""
        import numpy as np

        sines, cosines, bands = _constants(file.read_bytes())
        self._bands = np.repeat(bands, 2, axis=0)  # one for the square of the real part, one for the imaginary
        self._window = cosines[0].copy()
        angles = 2 * np.pi * np.outer(np.arange(_BINS), np.arange(_FFT)) / _FFT
        for kernels, wave in ((cosines, np.cos(angles)), (sines, -np.sin(angles))):
            if np.abs(kernels - self._window * wave).max() > _MAX_DIFFERENCE:
                raise ValueError(f"{file.name} is not a Fourier transform of {_FFT} samples")

    def __call__(self, windows: Floats) -> Floats:
        """Return the mel frames, shape [windows, n, 32], of windows of 16-bit samples as float32.

        They are decibels / 10 + 2, on which the embedding was trained, and limited in each window by its loudest.
        """
        import numpy as np

        count = (windows.shape[1] - _FFT) // _HOP + 1
        # Overlapping frames as a view of the samples, without copies.
        strides = (4 * windows.shape[1], 4 * _HOP, 4)
        frames = np.ndarray((len(windows), count, _FFT), np.float32, np.ascontiguousarray(windows), 0, strides)
        waves = np.fft.rfft(frames * self._window).view(np.float32)  # real and imaginary parts in turn
        mels: Floats = np.log10(np.maximum(np.square(waves, out=waves) @ self._bands, _LEAST_POWER))
        np.maximum(mels, mels.max(axis=(1, 2), keepdims=True) - _RANGE_DB / 10, out=mels)
        mels += 2
        return mels


def _constants(content: bytes) -> tuple[Floats, Floats, Floats]:
    """Return the kernels of sines and of cosines, shape [257, 512], and the bands, shape [257, 32]."""
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    graph = model.subgraphs[0]
    found: dict[tuple[int, ...], list[Floats]] = {(_BINS, _FFT): [], (_BINS, BANDS): []}
    for tensor in graph.tensors:
        data = model.buffers[tensor.buffer].data
        if tensor.type == schema.TensorType.FLOAT32 and data is not None:
            values = np.asarray(data, np.uint8).view(np.float32)
            shape = tuple(length for length in (() if tensor.shape is None else tensor.shape) if length != 1)
            found.get(shape, []).append(values.reshape(shape))
    kernels, bands = found.values()
    if len(kernels) != 2 or len(bands) != 1:
        raise ValueError("its constants are not those of a mel spectrogram")
    # The first sine, of frequency 0, is zero everywhere; the first cosine is the window itself.
    cosines, sines = sorted(kernels, key=lambda kernel: not kernel[0].any())
    return sines, cosines, bands[0]
