"""Sound files of people: every usual form is read, and what is none is one clear error."""

from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest

from satellite.audio.pcm import CANONICAL, RATE, AudioFormat, seconds_of, to_float, write_wav
from satellite.audio.sound_files import SUFFIXES, decode, read_sound
from satellite.config.host import SoundDeviceSettings
from satellite.errors import SatelliteError
from satellite.rooms.host.capture import _read

SECONDS = 0.5


def tone(rate: int = RATE) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """Return 440 Hz at half of full scale."""
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(int(SECONDS * rate)) / rate)).astype(np.float32)


def encoded(path: Path, codec: str, rate: int = RATE) -> None:
    """Write the tone with one of FFmpeg's encoders."""
    with av.open(str(path), "w") as container:
        stream = cast("av.AudioStream", container.add_stream(codec, rate=rate, layout="mono"))
        frame = av.AudioFrame.from_ndarray(tone(rate)[None, :], format="flt", layout="mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler(stream.format, "mono", rate, frame_size=stream.frame_size or None)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))


def is_the_tone(pcm: bytes) -> bool:
    """Return whether canonical `pcm` is the tone, but for what an encoder adds and loses."""
    samples = to_float(pcm)
    spectrum = np.abs(np.fft.rfft(samples))
    pitch = float(np.argmax(spectrum)) * RATE / len(samples)
    return abs(pitch - 440) < 5 and 0.3 < float(np.max(np.abs(samples))) < 0.7


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
    pcm = read_sound(path)
    assert seconds_of(pcm) == pytest.approx(SECONDS, abs=0.1)
    assert is_the_tone(pcm)
    assert is_the_tone(decode(path.read_bytes(), 10))
    assert path.suffix.lower() in SUFFIXES
    assert is_the_tone(_read(path, SoundDeviceSettings(file=path)))


def test_wav_of_ours_is_read_sample_by_sample(tmp_path: Path) -> None:
    pcm = (tone() * 32767).astype(np.int16).tobytes()
    write_wav(tmp_path / "a.wav", pcm, CANONICAL)
    assert read_sound(tmp_path / "a.wav") == pcm
    write_wav(tmp_path / "low.wav", pcm, AudioFormat(4000))
    assert seconds_of(read_sound(tmp_path / "low.wav")) == pytest.approx(4 * SECONDS, abs=0.05)


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


def test_a_file_that_is_not_there_is_one_error(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.wav", tmp_path):
        with pytest.raises(SatelliteError, match=str(path)) as caught:
            read_sound(path)
        assert caught.value.code == "audio-unreadable"


def test_a_recording_that_is_too_long_is_refused(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", bytes(3 * RATE), CANONICAL)
    encoded(tmp_path / "b.mp3", "libmp3lame")
    for name in ("a.wav", "b.mp3"):
        with pytest.raises(SatelliteError, match=name) as caught:
            read_sound(tmp_path / name, max_seconds=0.2)
        assert caught.value.code == "audio-too-long"


def test_a_recording_cut_short_gives_what_is_there(tmp_path: Path) -> None:
    file = tmp_path / "cut.wav"
    write_wav(file, (tone() * 32767).astype(np.int16).tobytes(), CANONICAL)
    file.write_bytes(file.read_bytes()[: 44 + RATE // 2 + 1])
    assert is_the_tone(read_sound(file))
