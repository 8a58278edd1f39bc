"""Conversion to the one PCM format, WAV files, and sound files of people, of any usual format."""

import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import cast

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satellite.audio.pcm import CANONICAL, RATE, AudioFormat, Converter, read_wav, seconds_of, to_float, write_wav
from satellite.audio.sound_files import SUFFIXES, decode, read_sound
from satellite.config.host import SoundDeviceSettings
from satellite.errors import ProtocolError, SatelliteError
from satellite.rooms.host.capture import _read

FORMATS = [
    pytest.param(AudioFormat(rate, width, channels), id=f"{rate}-{width}-{channels}")
    for rate in (8000, 16000, 22050, 48000)
    for width in (1, 2, 3, 4)
    for channels in (1, 2)
]


def tone(rate: int, seconds: float = 1.0) -> np.ndarray:
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


def is_the_tone(pcm: bytes, *, lossy: bool = False) -> bool:
    """Return whether canonical `pcm` is the tone; `lossy` allows for what an encoder adds and loses."""
    samples = to_float(pcm)
    seconds = seconds_of(pcm)
    pitch = float(np.argmax(np.abs(np.fft.rfft(samples)))) / seconds
    level = float(np.abs(samples[1000:-1000]).max())
    limits = (0.1, 5, 0.2) if lossy else (0.002, 1, 0.02)
    return all(abs(off) <= limit for off, limit in zip((seconds - 1, pitch - 440, level - 0.5), limits, strict=True))


def encoded(path: Path, codec: str, rate: int = RATE) -> None:
    """Write the tone with one of FFmpeg's encoders."""
    with av.open(str(path), "w") as container:
        stream = cast("av.AudioStream", container.add_stream(codec, rate=rate, layout="mono"))
        frame = av.AudioFrame.from_ndarray(tone(rate)[None, :].astype(np.float32), format="flt", layout="mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler(stream.format, "mono", rate, frame_size=stream.frame_size or None)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))


@pytest.mark.parametrize("source", FORMATS)
def test_any_format_becomes_the_canonical_one(source: AudioFormat) -> None:
    assert is_the_tone(converted(raw(np.repeat(tone(source.rate), source.channels), source.width), source))


@pytest.mark.parametrize("shares", [(1.0, -1.0), (1.0, -0.9), (0.0, 1.0)])
def test_an_inverted_channel_does_not_cancel_the_other(shares: tuple[float, float]) -> None:
    stereo = np.outer(tone(16000), shares).ravel()
    samples = to_float(converted(raw(stereo, 2), AudioFormat(16000, 2, 2)))
    assert np.abs(samples).max() == pytest.approx(0.5 if shares[1] < 0 else 0.25, abs=0.02)


def test_of_channels_that_cancel_each_other_the_same_is_heard_throughout() -> None:
    left = tone(16000)
    louder = np.where(np.arange(16000) // 999 % 2, 1.05, 0.95)  # now the left one is louder, now the right one
    stereo = np.stack([left, -left * louder], axis=1).ravel()
    samples = to_float(converted(raw(stereo, 2), AudioFormat(16000, 2, 2)))
    np.testing.assert_allclose(samples, left, atol=0.001)


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


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        ("float.wav", "pcm_f32le", 48_000),
        ("double.wav", "pcm_f64le", 16_000),
        ("three.wav", "pcm_s24le", 44_100),
        ("four.wav", "pcm_s32le", 16_000),
        ("one.wav", "pcm_u8", 8_000),
        ("a.wav", "pcm_alaw", 8_000),
        ("mu.wav", "pcm_mulaw", 8_000),
        ("adpcm.wav", "adpcm_ima_wav", 16_000),
        ("LOUD.WAV", "pcm_s16le", 22_050),
        ("x.mp3", "libmp3lame", 44_100),
        ("x.ogg", "libopus", 48_000),
        ("x.opus", "libopus", 48_000),
        ("x.flac", "flac", 16_000),
        ("x.m4a", "aac", 44_100),
        ("x.aiff", "pcm_s16be", 16_000),
    ],
)
def test_every_usual_form_is_read(tmp_path: Path, name: str, codec: str, rate: int) -> None:
    path = tmp_path / name
    encoded(path, codec, rate)
    for pcm in (read_sound(path), decode(path.read_bytes(), 10), _read(path, SoundDeviceSettings(file=path))):
        assert is_the_tone(pcm, lossy=True)
    assert path.suffix.lower() in SUFFIXES


def test_wav_of_ours_is_read_sample_by_sample(tmp_path: Path) -> None:
    pcm = raw(tone(RATE), 2)
    write_wav(tmp_path / "a.wav", pcm, CANONICAL)
    assert read_sound(tmp_path / "a.wav") == pcm
    write_wav(tmp_path / "low.wav", pcm, AudioFormat(4000))
    assert seconds_of(read_sound(tmp_path / "low.wav")) == pytest.approx(4, abs=0.05)


@pytest.mark.parametrize(
    "content", [b"", b"no sound", b"RIFF", b"RIFF\x24\x00\x00\x00WAVEfmt ", bytes(100), b"ID3" + bytes(50), b"<html>"]
)
def test_what_is_no_sound_is_one_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(content)
    for read in (read_sound, lambda path: _read(path, SoundDeviceSettings(file=path))):
        with pytest.raises(SatelliteError) as caught:
            read(path)
        assert caught.value.code == "audio-unreadable"
        assert str(path) in str(caught.value)
        assert "expected an audio file" in str(caught.value) or "no sound" in str(caught.value)


def _titles() -> dict[str, bytes]:
    """Return files that have a title of 256 MiB, they say: one has nothing of it, one a third of a megabyte of zlib."""
    wave = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 2**30, b"WAVE", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(2**20)) for _ in range(255)) + packer.flush()
    size = [bytes(value >> shift & 127 for shift in (21, 14, 7, 0)) for value in (len(packed) + 14, len(packed) + 4)]
    expanded = bytes(255 * 2**20 >> shift & 127 for shift in (21, 14, 7, 0))
    return {
        "wav": wave + struct.pack("<4sI4s4sI", b"LIST", 2**28 + 16, b"INFO", b"INAM", 2**28) + bytes(1000),
        "mp3": b"ID3\4\0\0" + size[0] + b"TIT2" + size[1] + b"\0\x09" + expanded + packed,
    }


_PEAK = """
import sys
from satellite.audio.sound_files import decode
try:
    decode(sys.stdin.buffer.read(), 60)
except Exception as error:
    print(*(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")), error.code)
"""


@pytest.mark.parametrize("kind", ["wav", "mp3"])
def test_what_a_file_says_of_its_size_takes_no_memory(kind: str) -> None:
    run = subprocess.run([sys.executable, "-c", _PEAK], input=_titles()[kind], capture_output=True, check=True)
    peak_kib, code = run.stdout.split()
    assert code == b"audio-unreadable"
    assert int(peak_kib) < 200_000


def test_a_file_that_is_not_there_is_one_error(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.wav", tmp_path):
        with pytest.raises(SatelliteError, match=str(path), check=lambda error: error.code == "audio-unreadable"):
            read_sound(path)


def test_a_recording_that_is_too_long_is_refused(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", bytes(3 * RATE), CANONICAL)
    encoded(tmp_path / "b.mp3", "libmp3lame")
    for name in ("a.wav", "b.mp3"):
        with pytest.raises(SatelliteError, match=name, check=lambda error: error.code == "audio-too-long"):
            read_sound(tmp_path / name, max_seconds=0.2)


def test_a_recording_cut_short_gives_what_is_there(tmp_path: Path) -> None:
    file = tmp_path / "cut.wav"
    write_wav(file, raw(tone(RATE), 2), CANONICAL)
    file.write_bytes(file.read_bytes()[: -RATE // 20 + 1])  # and in the middle of a sample
    assert is_the_tone(read_sound(file), lossy=True)
