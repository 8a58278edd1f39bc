"""Loudness after ITU-R BS.1770: its known values, FFmpeg's own measurement, and its gates."""

from fractions import Fraction

import av
import av.filter
import numpy as np
import pytest

from satellite.engines.tts.level import TARGET_LUFS, gain_to_target, loudness
from satellite.engines.tts.vits import Samples
from satellite.engines.tts.voice_output import VoiceOutput

RATES = (8_000, 16_000, 22_050, 24_000, 48_000)


def tone(rate: int, hertz: float, level_db: float, seconds: float = 3.0) -> Samples:
    times = np.arange(round(seconds * rate)) / rate
    return (10 ** (level_db / 20) * np.sin(2 * np.pi * hertz * times)).astype(np.float32)


def by_ffmpeg(samples: Samples, rate: int) -> float:
    """Return the loudness by the filter `ebur128`."""
    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=rate, format="flt", layout="mono", time_base=Fraction(1, rate))
    graph.link_nodes(source, graph.add("ebur128", "metadata=1"), graph.add("abuffersink")).configure()
    frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="flt", layout="mono")
    frame.sample_rate, frame.pts = rate, 0
    graph.push(frame)
    graph.push(None)
    found = float("nan")
    while True:
        try:
            found = float(graph.pull().metadata.get("lavfi.r128.I", found))
        except (av.EOFError, av.BlockingIOError):
            return found


@pytest.mark.parametrize("rate", RATES)
def test_a_tone_of_full_scale_has_the_loudness_of_the_standard(rate: int) -> None:
    assert loudness(tone(rate, 997, 0), rate) == pytest.approx(-3.01, abs=0.01)
    assert loudness(tone(rate, 997, -30), rate) == pytest.approx(-33.01, abs=0.01)


@pytest.mark.parametrize("hertz", [50, 100, 500, 2_000, 3_500])
def test_each_rate_is_weighted_alike(hertz: float) -> None:
    found = [loudness(tone(rate, hertz, -20), rate) for rate in RATES]
    assert max(found) - min(found) < 0.05


def test_ffmpeg_measures_the_same() -> None:
    rng = np.random.default_rng(2)
    noise = rng.normal(size=48_000 * 6).astype(np.float32) * 0.1
    spoken = noise * np.repeat(rng.uniform(0, 1, 24) ** 2, 12_000).astype(np.float32)  # words and pauses
    for samples in (noise, spoken, tone(48_000, 60, -10), tone(48_000, 8_000, -10)):
        assert loudness(samples, 48_000) == pytest.approx(by_ffmpeg(samples, 48_000), abs=0.05)


def test_pauses_do_not_count() -> None:
    word = tone(16_000, 997, -20, 2.0)
    with_pauses = np.concatenate((word, np.zeros(48_000, np.float32), tone(16_000, 997, -60), word))
    assert loudness(with_pauses, 16_000) == pytest.approx(loudness(word, 16_000), abs=0.8)


def test_short_sound_and_silence_have_a_loudness() -> None:
    assert -40 < loudness(tone(16_000, 997, -20, 0.1), 16_000) < -23
    assert loudness(np.zeros(16_000, np.float32), 16_000) == loudness(np.zeros(0, np.float32), 16_000) == -70
    assert gain_to_target(-70) == 1


def test_the_gain_brings_sound_to_the_target() -> None:
    samples = tone(22_050, 300, -33)
    gain = np.float32(gain_to_target(loudness(samples, 22_050)))
    assert loudness(samples * gain, 22_050) == pytest.approx(TARGET_LUFS, abs=0.01)


@pytest.mark.parametrize(
    ("level", "seconds", "of_sentences", "heard"),
    [
        (-18.9, 2, True, -20),
        (-21, 2, True, -20),
        (-16, 2, True, -18),
        (-18.9, 0.5, True, -18.9),
        (-18.9, 2, False, -18.9),
    ],
)
def test_a_whole_sentence_is_as_loud_as_others(level: float, seconds: float, of_sentences: bool, heard: float) -> None:
    output = VoiceOutput(24_000, 1.0, 1.0, of_sentences=of_sentences)
    sound = output.add(tone(24_000, 997, level + 3.01, seconds)) + output.end()
    samples: Samples = (np.frombuffer(sound, np.int16) / 32768).astype(np.float32)
    assert loudness(samples, 24_000) == pytest.approx(heard, abs=0.1)
