"""The hearing matrix: what its conditions do to the sound, what is counted, and how it is shown."""

import asyncio

import numpy as np
import pytest
from numpy.typing import NDArray
from satellite_bench import hearing, marks
from satellite_bench.conditions import CONDITIONS, Recording, recordings, sounds
from satellite_bench.contest import Pair
from satellite_bench.hearing import Heard, HearingFigures, HearingResult
from satellite_bench.part_tables import hearing_tables
from satellite_bench.server import Server
from satellite_bench.stt import Mismatch

from satellite.audio.corpus import Clip
from satellite.audio.pcm import CANONICAL, RATE, AudioFormat, Converter, seconds_of
from satellite.audio.word_errors import WordErrors
from tests.running_daemon import RunningDaemon

BY_NAME = {condition.name: condition for condition in CONDITIONS}


def tone(name: str, hertz: float) -> Clip:
    """Return a second of a tone at -20 dBFS, between two quarters of silence."""
    sound = 0.1 * np.sqrt(2) * np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE)
    padded = np.pad(sound, RATE // 4)
    return Clip(name, f"{name} said", (padded * 32768).astype(np.int16).tobytes())


CLIPS = [tone("one", 300), tone("other", 600)]


def under(condition: str) -> tuple[Recording, NDArray[np.float64]]:
    """Return the first clip under a condition, and its canonical samples in [-1, 1]."""
    recording = recordings(BY_NAME[condition], CLIPS)[0]
    converter = Converter(recording.source)
    pcm = converter.convert(recording.pcm) + converter.flush()
    return recording, np.frombuffer(pcm, np.int16) / 32768


def decibels(samples: NDArray[np.float64]) -> float:
    return float(10 * np.log10(np.mean(samples**2)))


def middle(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return half a second from the middle: tone alone."""
    return samples[len(samples) // 2 - RATE // 4 : len(samples) // 2 + RATE // 4]


@pytest.mark.parametrize("level", [0, -15, -30])
def test_a_level_is_relative_to_the_recording(level: int) -> None:
    assert decibels(middle(under(f"{level} dB")[1])) == pytest.approx(-20 + level, abs=0.3)


@pytest.mark.parametrize(("name", "rate"), [("8 kHz", 8_000), ("44.1 kHz", 44_100)])
def test_a_source_of_another_rate_lasts_as_long(name: str, rate: int) -> None:
    recording, samples = under(name)
    assert recording.source == AudioFormat(rate)
    assert len(samples) / RATE == pytest.approx(1.5, abs=0.01)
    assert decibels(middle(samples)) == pytest.approx(-20, abs=0.5)


def test_an_inverted_channel_cancels_the_other() -> None:
    recording = recordings(BY_NAME["stereo, one channel inverted"], CLIPS)[0]
    frames = np.frombuffer(recording.pcm, np.int16).reshape(-1, 2).astype(int)
    assert np.abs(frames).max() > 3000
    assert np.abs(frames.sum(axis=1)).max() <= 1


def test_clipping_holds_the_sound_at_full_scale() -> None:
    samples = np.abs(middle(under("clipped, 20 dB over full scale")[1]))
    assert np.mean(samples > 0.99) > 0.8


@pytest.mark.parametrize("noise", ["white", "room"])
@pytest.mark.parametrize("below", [20, 10, 5])
def test_noise_is_as_far_below_the_speech_as_said(noise: str, below: int) -> None:
    _, samples = under(f"{noise} noise, {below} dB below")
    assert len(samples) == int(2.5 * RATE)
    clean = np.pad(np.frombuffer(CLIPS[0].pcm, np.int16) / 32768, RATE // 2)
    assert decibels(samples - clean) == pytest.approx(-20 - below, abs=0.5)


def test_joined_clips_have_the_words_of_both_and_a_pause() -> None:
    recording, samples = under("two joined, pause of 0.3 to 0.9 s")
    assert recording.words == "one said other said"
    quiet = [decibels(samples[at : at + 160] + 1e-9) < -50 for at in range(RATE // 4, 2 * RATE, 160)]
    assert 0.25 <= sum(quiet) / 100 <= 0.95


def test_fast_speech_is_shorter_by_its_pace() -> None:
    recording, _ = under("1.4 times as fast")
    assert seconds_of(recording.pcm) == pytest.approx(1.5 / 1.4, abs=0.01)


def test_the_same_clips_become_the_same_bytes() -> None:
    for condition in CONDITIONS:
        first, again = recordings(condition, CLIPS), recordings(condition, CLIPS)
        assert first == again
        assert all(recording.pcm for recording in first)


def test_no_sound_without_speech_is_silent_or_too_loud() -> None:
    for sound in sounds():
        samples = np.frombuffer(sound.pcm, np.int16) / 32768
        assert sound.words == ""
        assert decibels(samples) == pytest.approx(-30, abs=0.5)
        assert np.abs(samples).max() < 0.99


def said(words: str, text: str) -> tuple[Recording, str]:
    return Recording("clip", words, b"", CANONICAL), text


def test_transcripts_are_counted_as_wrong_empty_short_or_invented() -> None:
    found = hearing.heard(
        [
            said("turn on the light", "Turn on the light."),
            said("turn on the light and the fan", "turn on"),
            said("stop", ""),
            said("", "Thank you."),
            said("", " "),
        ]
    )
    assert found == Heard(words=WordErrors(6, 12), empty=1, short=1, invented=1)
    assert found.wer_percent == 50


def result(theirs: Heard | None) -> HearingResult:
    ours = Heard(WordErrors(3, 30), empty=0, short=1, invented=0)
    wrong = (Mismatch("the light", "a light", None if theirs is None else "night"),)
    figures = tuple(HearingFigures(name, ours, theirs, wrong) for name in ("0 dB", "8 kHz"))
    return HearingResult("two clips", 2, 5, figures, ())


def test_hearing_less_than_the_official_server_is_a_missed_mark() -> None:
    worse = hearing.HearingFigures("-60 dB", Heard(WordErrors(9, 30), 2, 0, 0), Heard(WordErrors(6, 30), 1, 0, 0), ())
    both = result(Heard(WordErrors(6, 30), empty=0, short=0, invented=1))
    together = HearingResult(both.corpus, 2, 5, (*both.figures, worse), ())
    verdicts = {verdict.mark: verdict.text for verdict in marks.hearing_verdicts(together)}
    assert verdicts == {
        "Hearing: WER not above theirs under any condition (worst: -60 dB)": "missed by 10.0 points (50 %)",
        "Hearing: empty transcripts not above theirs, all conditions": "missed by 1.0 (100 %)",
        "Hearing: inventions not above theirs, all conditions": "reached",
    }
    assert list(marks.hearing_verdicts(result(None))) == []


def test_the_matrix_is_shown_and_what_was_misheard_on_demand() -> None:
    theirs = Heard(WordErrors(6, 30), empty=2, short=0, invented=1)
    matrix, *more = hearing_tables(result(theirs), mismatches=False)
    assert matrix.rows[0] == ("0 dB", "10.0", "20.0", "0", "2", "1", "0", "0", "1")
    assert more == []
    assert [table.title for table in hearing_tables(result(None), mismatches=True)] == ["", "0 dB", "8 kHz"]


@pytest.mark.models
def test_both_sides_hear_every_recording_once(daemon: RunningDaemon, question: bytes) -> None:
    ours, theirs = (Server(name, daemon.port(), 1) for name in ("ours", "theirs"))
    clip = Clip("question", "What is the capital of France?", question)
    conditions = [BY_NAME[name] for name in ("-45 dB", "8 kHz", "stereo, one channel inverted")]
    found = asyncio.run(hearing.measure(Pair(ours, theirs), "one", [clip], conditions, lambda done, of: None))
    assert (found.failures, found.spoken) == ((), 1)
    for figures in found.figures:
        assert figures.theirs is not None
        assert figures.ours.empty == figures.theirs.empty == 0
        assert figures.ours.wer_percent <= 34
