"""Conversion to the one PCM format and WAV files."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satellite.audio.pcm import CANONICAL, AudioFormat, Converter, read_wav, seconds_of, to_float, write_wav
from satellite.errors import ProtocolError

FORMATS = [
    pytest.param(AudioFormat(rate, width, channels), id=f"{rate}-{width}-{channels}")
    for rate in (8000, 16000, 22050, 48000)
    for width in (1, 2, 3, 4)
    for channels in (1, 2)
]


def tone(rate: int, seconds: float = 1.0) -> np.ndarray:
    """Return a 440 Hz sine of half the full scale."""
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(int(rate * seconds)) / rate)


def raw(samples: np.ndarray, width: int) -> bytes:
    """Return `samples` in [-1, 1) as little-endian PCM of `width` bytes."""
    if width == 1:
        return ((samples * 128) + 128).astype(np.uint8).tobytes()
    wide = (samples * 2**31).astype(np.int64).astype("<i4").view(np.uint8).reshape(-1, 4)
    return wide[:, 4 - width :].tobytes()


def converted(data: bytes, source: AudioFormat, target: AudioFormat = CANONICAL) -> bytes:
    """Convert `data` in chunks that cut samples in two."""
    converter = Converter(source, target)
    return b"".join(converter.convert(data[at : at + 999]) for at in range(0, len(data), 999)) + converter.flush()


def is_the_tone(pcm: bytes) -> bool:
    samples = to_float(pcm)
    assert seconds_of(pcm) == pytest.approx(1.0, abs=0.002)
    assert np.argmax(np.abs(np.fft.rfft(samples, 16000))) == pytest.approx(440, abs=1)
    return bool(np.abs(samples[1000:-1000]).max() == pytest.approx(0.5, abs=0.02))


@pytest.mark.parametrize("source", FORMATS)
def test_any_format_becomes_the_canonical_one(source: AudioFormat) -> None:
    assert is_the_tone(converted(raw(np.repeat(tone(source.rate), source.channels), source.width), source))


@pytest.mark.parametrize("target", FORMATS)
def test_a_voice_becomes_any_format_and_is_the_same_when_it_comes_back(target: AudioFormat) -> None:
    made = converted(raw(tone(22050), 2), AudioFormat(22050), target)
    assert len(made) == pytest.approx(target.rate * target.frame_bytes, rel=0.002)
    assert is_the_tone(converted(made, target))


@settings(max_examples=50)
@given(st.binary(max_size=400), st.lists(st.integers(0, 40)))
def test_canonical_audio_passes_unchanged_however_it_is_cut(data: bytes, cuts: list[int]) -> None:
    converter = Converter(CANONICAL)
    out, at = b"", 0
    for cut in [*cuts, len(data)]:
        out += converter.convert(data[at : at + cut])
        at += cut
    assert out == data[: len(data) // 2 * 2]


@pytest.mark.parametrize("bad", [(0, 2, 1), (16000, 0, 1), (16000, 5, 1), (16000, 2, 0), (16000, 2, 9), (10**9, 2, 1)])
def test_impossible_formats_are_refused(bad: tuple[int, int, int]) -> None:
    with pytest.raises(ProtocolError):
        AudioFormat(*bad)


def test_wav_files_round_trip(tmp_path: Path) -> None:
    write_wav(tmp_path / "b.wav", raw(np.repeat(tone(44100), 2), 2), AudioFormat(44100, 2, 2))
    assert is_the_tone(read_wav(tmp_path / "b.wav"))
