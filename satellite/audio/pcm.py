"""The one PCM format inside the daemon (16 kHz, 16 bit, mono), conversion to and from it, and WAV files."""

import wave
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from satellite.errors import ProtocolError

if TYPE_CHECKING:
    import numpy as np  # at run time only where it is used: the command line need not wait for it
    import soxr
    from numpy.typing import NDArray

RATE = 16_000
"""Samples a second of all audio between the edge and the engines."""

WIDTH = 2
"""Bytes a sample."""

BYTES_PER_SECOND = RATE * WIDTH

Samples: TypeAlias = "NDArray[np.int16]"
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


_CANCELLED = 0.03
"""Share of the loudest channel's power below which a mean has lost the sound: one of them is inverted. One channel of
two that is silent leaves a quarter."""

_AS_LOUD = 0.25
"""Share of the loudest channel's power from which the first such channel is taken, not the loudest one, which is now
one and now another of two that differ by noise: each change would invert the sound."""

CANONICAL = AudioFormat()


def seconds_of(pcm: bytes | bytearray) -> float:
    """Return how long canonical `pcm` lasts."""
    return len(pcm) / BYTES_PER_SECOND


def audio_after(pcm: bytes, ends_at_seconds: float, seconds: float) -> bytes:
    """Return the part of canonical `pcm`, which ends `ends_at_seconds` into a stream, after `seconds` of the stream."""
    after_bytes = WIDTH * int(RATE * max(0.0, ends_at_seconds - seconds))
    return pcm[max(0, len(pcm) - after_bytes) :]


def to_float(pcm: bytes | bytearray) -> "NDArray[np.float32]":
    """Return canonical `pcm` as float32 in [-1, 1)."""
    import numpy as np

    return np.frombuffer(pcm, np.int16).astype(np.float32) / 32768.0


class Converter:
    """Converts a stream from one format to another, chunk by chunk; a sample may be split between chunks.

    At the same rate the output is exact to 16 bits a sample, to which wider samples are cut. Several channels become
    their mean, or a loud one where they cancel each other; one channel is copied to all channels of the target.
    """

    def __init__(self, source: AudioFormat, target: AudioFormat = CANONICAL) -> None:
        self.source = source
        self.target = target
        self._rest = b""
        self._resampler = _resampler(source.rate, target) if source.rate != target.rate else None

    def convert(self, chunk: bytes) -> bytes:
        """Return the sound that `chunk` completes, in `target`; resampling delays it by some 30 ms until `flush`."""
        # Most audio is canonical already, and passes without a copy.
        if self.source == self.target and not self._rest and len(chunk) % self.source.frame_bytes == 0:
            return chunk
        data = self._rest + chunk
        whole = len(data) - len(data) % self.source.frame_bytes
        self._rest = data[whole:]
        if self.source == self.target:
            return data[:whole]
        mono = _mono(data[:whole], self.source)
        if self._resampler is not None:
            mono = self._resampler.resample_chunk(mono)
        return _packed(mono, self.target)

    def flush(self) -> bytes:
        """Return the sound still held by the resampler; the stream has ended."""
        if self._resampler is None:
            return b""
        import numpy as np

        return _packed(self._resampler.resample_chunk(np.zeros(0, np.int16), last=True), self.target)


def _resampler(rate: int, target: AudioFormat) -> "soxr.ResampleStream":
    import soxr

    # To speech models soxr's qualities make no difference, and MQ takes half the time; people get the best.
    quality = "MQ" if target == CANONICAL else "HQ"
    return soxr.ResampleStream(rate, target.rate, 1, dtype="int16", quality=quality)


def _mono(data: bytes, source: AudioFormat) -> Samples:
    """Return whole frames of PCM as 16-bit samples of one channel."""
    import numpy as np

    samples: Samples
    match source.width:
        case 1:
            samples = (np.frombuffer(data, np.uint8).astype(np.int16) - 128) << 8
        case 2:
            samples = np.frombuffer(data, np.int16)
        case 3:  # the upper two bytes of each little-endian triple
            triples = np.frombuffer(data, np.uint8).reshape(-1, 3)
            samples = np.ascontiguousarray(triples[:, 1:]).view(np.int16).ravel()
        case _:
            samples = (np.frombuffer(data, np.int32) >> 16).astype(np.int16)
    if source.channels > 1:
        samples = _mixed(samples.reshape(-1, source.channels))
    return samples


def _mixed(frames: Samples) -> Samples:
    """Return the mean of the channels, or the first loud one where they cancel each other."""
    import numpy as np

    mean = frames.mean(axis=1)
    powers = np.square(frames, dtype=np.float32).sum(axis=0)
    if np.square(mean).sum() < _CANCELLED * powers.max():
        return np.ascontiguousarray(frames[:, int(np.argmax(powers >= _AS_LOUD * powers.max()))])
    mixed: Samples = mean.astype(np.int16)
    return mixed


def _packed(samples: Samples, target: AudioFormat) -> bytes:
    """Return 16-bit samples of one channel as PCM in `target`, at the rate that they have."""
    import numpy as np

    if target.channels > 1:
        samples = np.repeat(samples, target.channels)
    match target.width:
        case 1:
            return ((samples >> 8) + 128).astype(np.uint8).tobytes()
        case 2:
            return samples.tobytes()
        case 3:
            wide = samples.astype("<i4") << 16
            return wide.view(np.uint8).reshape(-1, 4)[:, 1:].tobytes()
        case _:
            return (samples.astype("<i4") << 16).tobytes()


def read_wav(path: Path) -> bytes:
    """Return the canonical PCM of a WAV file with plain PCM, of any rate, width and number of channels.

    Raises OSError, `wave.Error`, EOFError and `ProtocolError`; `sound_files` reads other files, and has one error.
    """
    with wave.open(str(path), "rb") as wav:
        converter = Converter(AudioFormat(wav.getframerate(), wav.getsampwidth(), wav.getnchannels()))
        return converter.convert(wav.readframes(wav.getnframes())) + converter.flush()


def write_wav(path: Path, pcm: bytes, source: AudioFormat) -> None:
    """Write `pcm`, in the format `source`, as a WAV file."""
    with path.open("wb") as file, wave.open(file, "wb") as wav:
        wav.setframerate(source.rate)
        wav.setsampwidth(source.width)
        wav.setnchannels(source.channels)
        wav.writeframes(pcm)
