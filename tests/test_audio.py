"""Conversion to the one PCM format and WAV files."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from satellite.audio.pcm import CANONICAL, AudioFormat, Converter, read_wav, seconds_of, to_float, write_wav
from satellite.errors import ProtocolError


def tone(rate: int, seconds: float = 1.0) -> np.ndarray:
    """Return a 440 Hz sine of half the full scale."""
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(int(rate * seconds)) / rate)


def raw(samples: np.ndarray, width: int) -> bytes:
    """Return `samples` in [-1, 1) as little-endian PCM of `width` bytes."""
    if width == 1:
        return ((samples * 128) + 128).astype(np.uint8).tobytes()
    wide = (samples * 2**31).astype(np.int64).astype("<i4").view(np.uint8).reshape(-1, 4)
    return wide[:, 4 - width :].tobytes()


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2])
def test_any_format_becomes_the_canonical_one(rate: int, width: int, channels: int) -> None:
    source = AudioFormat(rate, width, channels)
    data = raw(np.repeat(tone(rate), channels), width)
    converter = Converter(source)
    pcm = b"".join(converter.convert(data[at : at + 999]) for at in range(0, len(data), 999)) + converter.flush()
    assert seconds_of(pcm) == pytest.approx(1.0, abs=0.002)
    samples = to_float(pcm)
    assert np.argmax(np.abs(np.fft.rfft(samples, 16000))) == pytest.approx(440, abs=1)
    assert np.abs(samples[1000:-1000]).max() == pytest.approx(0.5, abs=0.02)


@given(st.binary(max_size=400), st.lists(st.integers(0, 40)))
def test_canonical_audio_passes_unchanged_however_it_is_cut(data: bytes, cuts: list[int]) -> None:
    converter = Converter(CANONICAL)
    out, at = b"", 0
    for cut in [*cuts, len(data)]:
        out += converter.convert(data[at : at + cut])
        at += cut
    whole = len(data) - len(data) % 2
    assert out[: len(data)] == data[: len(out)]
    assert len(out) >= whole - 1


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 48000])
@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_voice_becomes_any_format_and_is_the_same_when_it_comes_back(rate: int, width: int, channels: int) -> None:
    voice, target = AudioFormat(22050), AudioFormat(rate, width, channels)
    data = raw(tone(22050), 2)
    there = Converter(voice, target)
    made = b"".join(there.convert(data[at : at + 999]) for at in range(0, len(data), 999)) + there.flush()
    assert len(made) == pytest.approx(rate * target.frame_bytes, rel=0.002)
    back = Converter(target)
    samples = to_float(back.convert(made) + back.flush())
    assert np.argmax(np.abs(np.fft.rfft(samples, 16000))) == pytest.approx(440, abs=1)
    assert np.abs(samples[1000:-1000]).max() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("bad", [(0, 2, 1), (16000, 0, 1), (16000, 5, 1), (16000, 2, 0), (16000, 2, 9), (10**9, 2, 1)])
def test_impossible_formats_are_refused(bad: tuple[int, int, int]) -> None:
    with pytest.raises(ProtocolError):
        AudioFormat(*bad)


def test_wav_files_round_trip(tmp_path: Path) -> None:
    stereo = np.repeat((tone(44100) * 32767).astype(np.int16), 2).tobytes()
    write_wav(tmp_path / "b.wav", stereo, AudioFormat(44100, 2, 2))
    assert seconds_of(read_wav(tmp_path / "b.wav")) == pytest.approx(1.0, abs=0.002)
