"""The one PCM format inside the daemon (16 kHz, 16 bit, mono), conversion to it, and WAV files."""

import wave
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from satellite.errors import ProtocolError

if TYPE_CHECKING:
    import numpy as np  # at run time only where it is used: the command line need not wait for it

RATE = 16_000
"""Samples a second of all audio between the edge and the engines."""

WIDTH = 2
"""Bytes a sample."""

BYTES_PER_SECOND = RATE * WIDTH

Samples: TypeAlias = "np.ndarray[Any, np.dtype[np.int16]]"
"""One-dimensional 16-bit PCM."""


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """How raw PCM is laid out: little-endian, interleaved; width 1 is unsigned, 2 to 4 are signed."""

    rate: int = RATE
    """Samples a second, 4000 to 192000."""

    width: int = WIDTH
    """Bytes a sample, 1 to 4."""

    channels: int = 1
    """Interleaved channels, 1 to 8."""

    def __post_init__(self) -> None:
        sane = 4_000 <= self.rate <= 192_000 and 1 <= self.width <= 4 and 1 <= self.channels <= 8
        if not sane:
            raise ProtocolError(
                f"audio of {self.rate} Hz, {self.width} bytes a sample, {self.channels} channels is not supported"
            )

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of all channels."""
        return self.width * self.channels


CANONICAL = AudioFormat()


def seconds_of(pcm: bytes | bytearray) -> float:
    """Return how long canonical `pcm` lasts."""
    return len(pcm) / BYTES_PER_SECOND


def to_float(pcm: bytes | bytearray) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """Return canonical `pcm` as float32 in [-1, 1)."""
    import numpy as np

    return np.frombuffer(pcm, np.int16).astype(np.float32) / 32768.0


class Converter:
    """Turns a stream in any format into canonical PCM, chunk by chunk; a frame may straddle two chunks."""

    def __init__(self, source: AudioFormat) -> None:
        self.source = source
        self._rest = b""
        self._resampler = _resampler(source.rate) if source.rate != RATE else None

    def convert(self, chunk: bytes) -> bytes:
        """Return the canonical PCM that `chunk` completes; resampling lags by some 30 ms until `flush`."""
        if self.source == CANONICAL and not self._rest and len(chunk) % WIDTH == 0:
            return chunk
        data = self._rest + chunk
        whole = len(data) - len(data) % self.source.frame_bytes
        self._rest = data[whole:]
        mono = self._mono(data[:whole])
        if self._resampler is not None:
            mono = self._resampler.resample_chunk(mono)
        return mono.tobytes()

    def flush(self) -> bytes:
        """Return what the resampler still holds; the stream is over."""
        if self._resampler is None:
            return b""
        import numpy as np

        return bytes(self._resampler.resample_chunk(np.zeros(0, np.int16), last=True).tobytes())

    def _mono(self, data: bytes) -> Samples:
        import numpy as np

        samples: Samples
        match self.source.width:
            case 1:
                samples = (np.frombuffer(data, np.uint8).astype(np.int16) - 128) << 8
            case 2:
                samples = np.frombuffer(data, np.int16)
            case 3:  # the upper two bytes of each little-endian triple
                triples = np.frombuffer(data, np.uint8).reshape(-1, 3)
                samples = np.ascontiguousarray(triples[:, 1:]).view(np.int16).ravel()
            case _:
                samples = (np.frombuffer(data, np.int32) >> 16).astype(np.int16)
        if self.source.channels > 1:
            samples = samples.reshape(-1, self.source.channels).mean(axis=1).astype(np.int16)
        return samples


def _resampler(rate: int) -> Any:
    import soxr

    return soxr.ResampleStream(rate, RATE, 1, dtype="int16", quality="MQ")


def read_wav(path: Path) -> bytes:
    """Return the canonical PCM of a WAV file with plain PCM, in any rate, width and number of channels.

    Raises OSError, `wave.Error`, EOFError and `ProtocolError`; what people name is read by `sound_files`.
    """
    with wave.open(str(path), "rb") as wav:
        converter = Converter(AudioFormat(wav.getframerate(), wav.getsampwidth(), wav.getnchannels()))
        return converter.convert(wav.readframes(wav.getnframes())) + converter.flush()


def write_wav(path: Path, pcm: bytes, source: AudioFormat) -> None:
    """Write `pcm`, which is in the format `source`, as a WAV file."""
    with path.open("wb") as file, wave.open(file, "wb") as wav:
        wav.setframerate(source.rate)
        wav.setsampwidth(source.width)
        wav.setnchannels(source.channels)
        wav.writeframes(pcm)
