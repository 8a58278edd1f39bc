"""The endpoint part of the benchmark: splicing, Home Assistant's rules, figures, tables."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from satellite_bench import marks, microvad, part_tables, synthetic
from satellite_bench.commands import main
from satellite_bench.endpoint import EndpointFigures, EndpointResult, Found, Heard, ends_at, with_television
from satellite_bench.splicing import TAIL_SECONDS, Spliced, room_tone, speech_bounds, spliced
from satellite_bench.stats import as_json

from satellite.audio.corpus import Clip
from satellite.audio.pcm import BYTES_PER_SECOND, RATE, Samples, read_wav
from satellite.config.endpoint import EndpointSettings
from satellite.models import demo_set
from satellite.models.store import Store
from satellite.pipeline.completeness import Completeness
from satellite.pipeline.turn_detection import TurnDetector
from tests.running_daemon import DATA

QUIET, LOUD = 20, 3000


def noise(seconds: float, level: float) -> Samples:
    """Return noise, the same each time."""
    return np.random.default_rng(5).normal(0, level, int(seconds * RATE)).astype(np.int16)


def clip(*parts: tuple[float, float]) -> Clip:
    """Return a clip of parts of so many seconds and such a level."""
    return Clip("clip", "two words", np.concatenate([noise(*part) for part in parts]).tobytes())


SPEECH, SILENCE, SOFT = (True, False, False), (False, False, False), (True, True, False)
TWO_WORDS = clip((0.3, QUIET), (0.6, LOUD), (0.05, QUIET), (0.6, LOUD), (0.4, QUIET))
FOUR_WORDS = clip((0.3, QUIET), *((0.4, LOUD), (0.05, QUIET)) * 4, (0.4, QUIET))


class Marked:
    """Knows where the words of a clip begin and end."""

    def __init__(self, *words: tuple[float, float], starts: Sequence[float] = ()) -> None:
        self._words = words
        self._starts = starts or [start for start, _ in words]

    def starts(self, _pcm: bytes) -> Sequence[float]:
        """Return where words are said to begin."""
        return self._starts

    def said(self, pcm: bytes) -> Sequence[str]:
        """Return the words; of one that is cut another one is heard."""
        seconds = len(pcm) / BYTES_PER_SECOND
        begun = [(number, end) for number, (start, end) in enumerate(self._words) if start < seconds]
        return [f"word {number}" if end < seconds + 0.01 else f"half of {number}" for number, end in begun]


def test_speech_is_what_stands_out_of_the_room() -> None:
    begin, end = speech_bounds(np.frombuffer(TWO_WORDS.pcm, np.int16))
    assert begin == pytest.approx(0.3, abs=0.02)
    assert end == pytest.approx(1.55, abs=0.02)
    clicks = np.frombuffer(TWO_WORDS.pcm, np.int16).copy()
    clicks[-RATE // 10 :][:80] = 20_000
    assert speech_bounds(clicks)[1] == pytest.approx(1.55, abs=0.02)


def test_a_pause_is_put_between_two_words() -> None:
    found = spliced(TWO_WORDS, Marked((0.3, 0.9), (0.95, 1.55)), np.random.default_rng(1))
    assert [one.pauses_ms for one in found] == [(), (300,), (500,), (800,)]
    plain = np.frombuffer(TWO_WORDS.pcm, np.int16)
    for one in found:
        pause_seconds = sum(one.pauses_ms) / 1000
        assert one.speech_end_seconds == pytest.approx(1.55 + pause_seconds, abs=0.02)
        samples = np.frombuffer(one.pcm, np.int16)
        assert len(samples) == len(plain) + int((pause_seconds + TAIL_SECONDS) * RATE)
        assert (samples[: int(0.88 * RATE)] == plain[: int(0.88 * RATE)]).all()
        silence = samples[int(0.95 * RATE) : int((0.9 + pause_seconds) * RATE)]
        assert not len(silence) or np.abs(silence).max() < 8 * QUIET


def test_two_pauses_stand_between_different_words() -> None:
    found = spliced(FOUR_WORDS, Marked((0.3, 0.7), (0.75, 1.15), (1.2, 1.6), (1.65, 2.05)), np.random.default_rng(1))
    assert found[-1].pauses_ms == (500, 500)
    assert found[-1].speech_end_seconds == pytest.approx(found[0].speech_end_seconds + 1.0)
    assert [one.pauses_ms for one in spliced(TWO_WORDS, Marked((0.3, 1.55)), np.random.default_rng(1))] == [()]


def test_no_pause_is_put_into_a_word() -> None:
    words = Marked((0.3, 0.7), (0.75, 2.05), starts=(0.3, 0.75, 1.2))
    for one in spliced(FOUR_WORDS, words, np.random.default_rng(1))[1:]:
        before, paused = (np.frombuffer(one.pcm, np.int16)[int(at * RATE) :][: RATE // 5] for at in (0.5, 0.75))
        assert np.abs(before).max() > LOUD
        assert np.abs(paused).max() < 8 * QUIET


def test_room_tone_is_as_loud_as_the_quietest_part() -> None:
    tone = room_tone(np.frombuffer(TWO_WORDS.pcm, np.int16), RATE, np.random.default_rng(2)).astype(np.float64)
    assert np.sqrt(np.mean(tone**2)) == pytest.approx(QUIET, rel=0.3)


def test_no_room_is_quite_silent() -> None:
    tone = room_tone(np.zeros(RATE, np.int16), RATE, np.random.default_rng(2)).astype(np.float64)
    assert 1 < np.sqrt(np.mean(tone**2)) < 10


@pytest.mark.parametrize(
    ("windows", "ended"),
    [
        ([(1.0, 1.0), (0.0, 2.0)], 1.7),  # 0.7 s of silence
        ([(-1.0, 0.5), (1.0, 1.0), (0.0, 2.0)], 2.2),  # microVAD has nothing to say at first
        ([(1.0, 0.4), (0.0, 2.0)], 1.1),  # a command lasts a second at least, from its first 0.3 s on
        ([(0.3, 1.0), (0.0, 2.0)], 1.0),  # a lower threshold before the command than in it
        ([(1.0, 1.0), (0.0, 0.4), (1.0, 0.5), (0.0, 2.0)], 2.2),  # pauses add up
        ([(1.0, 1.0), (0.0, 0.4), (1.0, 1.5), (0.0, 2.0)], 3.6),  # until a second of speech
        ([(1.0, 0.2), (0.0, 5.0)], None),
    ],
)
def test_home_assistants_rules(windows: list[tuple[float, float]], ended: float | None) -> None:
    speech = [probability for probability, seconds in windows for _ in range(round(seconds * 100))]
    found = microvad.ends_at(speech, 0.7)
    assert found == (None if ended is None else pytest.approx(ended, abs=0.021))


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("turn_on_the_lights", [2.51, 2.96, 3.51]),
        ("nevermind", [2.41, 2.86, 3.41]),
        ("set_a_timer_for_1_hour", [2.79, 3.24, 3.79]),
        ("is_the_garage_door_open", [2.44, 2.89, 3.44]),
        ("turn_off_the_tv_in_the_office", [3.27, 3.72, 4.27]),
    ],
)
def test_home_assistants_ends_of_recorded_commands(name: str, ends: list[float]) -> None:
    """microVAD and the rules end recordings where `VoiceCommandSegmenter` of release 2026.2.3 ended them.

    Each is split by 0.4 s of silence; the ends are those of its three settings.
    """
    pcm = read_wav(DATA / "commands" / f"{name}.wav")
    half = len(pcm) // 4 * 2
    paused = pcm[:half] + bytes(2 * BYTES_PER_SECOND // 5) + pcm[half:] + bytes(5 * BYTES_PER_SECOND // 2)
    (speech,) = microvad.probabilities(Path(sys.executable), [paused])
    assert [microvad.ends_at(speech, silence) for silence in microvad.SILENCES.values()] == pytest.approx(ends)


def test_home_assistant_waits_fifteen_seconds_at_most() -> None:
    assert microvad.ends_at([0.0] * 1600, 0.7) == pytest.approx(15, abs=0.02)
    assert microvad.ends_at([1.0] * 1600, 0.7) == pytest.approx(15, abs=0.02)
    assert microvad.ends_at([1.0] * 1400, 0.7) is None


def test_our_own_end_is_the_state_machines() -> None:
    settings = EndpointSettings(silence_seconds=0.5, least_silence_seconds=0.5, no_speech_seconds=3)

    def ended(*windows: tuple[bool, bool, bool], repair_seconds: float = 0.0) -> tuple[float | None, int]:
        found, withdrawn = ends_at(TurnDetector(settings), Heard(0.1, windows, {}), repair_seconds)
        return found and round(found, 3), withdrawn

    assert ended(*[SPEECH] * 10, *[SILENCE] * 20) == (1.5, 0)
    assert ended(*[SILENCE] * 90) == (None, 0)
    assert ended(*[SPEECH] * 10) == (None, 0)
    assert ended(*[SPEECH] * 10, *[SOFT] * 9, *[SILENCE] * 6) == (2.0, 0)  # loudness alone ends nothing
    cut = [*[SPEECH] * 10, *[SILENCE] * 8, *[SPEECH] * 5, *[SILENCE] * 20]
    assert ended(*cut) == (1.5, 0)
    assert ended(*cut, repair_seconds=1.5) == (2.8, 1)
    assert ended(*cut, repair_seconds=0.6) == (1.5, 0)


@pytest.mark.parametrize(("late", "ended"), [(0.0, 1.2), (0.15, 1.4), (0.35, 1.6)])
def test_the_words_are_known_as_late_as_they_are(late: float, ended: float) -> None:
    settings = EndpointSettings(silence_seconds=0.6, least_silence_seconds=0.6, complete_silence_seconds=0.2)
    words = {11: Completeness.COMPLETE}
    heard = Heard(0.1, [SPEECH] * 10 + [SILENCE] * 20, words, late)
    assert ends_at(TurnDetector(settings), heard)[0] == pytest.approx(ended)
    interrupted = Heard(0.1, [SPEECH] * 10 + [SILENCE] * 2 + [SPEECH] * 8 + [SILENCE] * 20, words, 0.25)
    assert ends_at(TurnDetector(settings), interrupted)[0] == pytest.approx(2.6)


@pytest.mark.parametrize(("answered", "ended"), [(0.0, 1.3), (0.3, 1.4), (0.45, 1.6), (0.9, 1.7)])
def test_an_end_waits_for_an_answer(answered: float, ended: float) -> None:
    settings = EndpointSettings(silence_seconds=0.7, least_silence_seconds=0.7, complete_silence_seconds=0.3)
    heard = Heard(0.1, [SPEECH] * 10 + [SILENCE] * 20, {10: Completeness.COMPLETE}, answer_seconds=answered)
    assert ends_at(TurnDetector(settings), heard)[0] == pytest.approx(ended)
    gone_on = replace(heard, windows=[SPEECH] * 10 + [SILENCE] * 2 + [SPEECH] * 8 + [SILENCE] * 20)
    assert ends_at(TurnDetector(settings), gone_on)[0] == pytest.approx(2.7)


def test_a_television_is_softer_than_the_speaker_and_speaks_on_after_them() -> None:
    clips = [Spliced("one", (), TWO_WORDS.pcm, 1.55), Spliced("two", (), FOUR_WORDS.pcm, 2.05)]
    for plain, noisy in zip(clips, with_television(clips, np.random.default_rng(1)), strict=True):
        assert (noisy.speech_end_seconds, len(noisy.pcm)) == (plain.speech_end_seconds, len(plain.pcm))
        after = np.frombuffer(noisy.pcm, np.int16)[int((plain.speech_end_seconds + 0.05) * RATE) :].astype(np.float64)
        assert 20 * np.log10(LOUD / np.sqrt(np.mean(np.square(after)))) == pytest.approx(10, abs=0.7)


def figures(finder: str, ends: list[float | None], *, default: bool = True) -> EndpointFigures:
    """Return what was found in recordings whose speech ends after 2 s, the second half with a pause of 500 ms."""
    half = len(ends) // 2
    recordings = [Spliced("x", (500,) if number >= half else (), b"", 2.0) for number in range(len(ends))]
    return EndpointFigures(finder, "as usual", tuple(map(Found, recordings, ends)), default)


def test_a_command_is_cut_where_the_end_comes_too_early_or_never() -> None:
    found = figures("satellite", [2.5, 2.7, 1.9, None])
    assert found.cut(()) == (0, 2)
    assert found.cut((500,)) == (2, 2)
    assert found.cut_percent((), (500,)) == 50
    lost = found.lost_ms(())
    assert lost is not None
    assert lost.median == pytest.approx(600)
    assert found.lost_ms((500,)) is None


def test_cuts_are_weighted_by_the_pauses_of_people() -> None:
    kinds: list[tuple[int, ...]] = [(), (300,), (500,), (800,), (1000,), (500, 500)]

    def weighted(*cut: tuple[int, ...]) -> float:
        found = [Found(Spliced("x", kind, b"", 2.0), 1.0 if kind in cut else 2.5, kind in cut) for kind in kinds]
        result = EndpointFigures("satellite", "as usual", tuple(found))
        assert result.withdrawn_weighted_percent() == result.cut_weighted_percent()
        return result.cut_weighted_percent()

    assert weighted() == weighted((500, 500)) == 0
    assert weighted(*kinds) == pytest.approx(100)
    assert weighted((300,)) == pytest.approx(4.7)
    assert weighted((500,)) == pytest.approx(1.1)
    assert weighted((800,)) == pytest.approx(0.7)
    assert weighted((1000,)) == pytest.approx(0.8)
    assert weighted(()) == pytest.approx(92.7)


def test_both_halves_of_the_trade_off_are_shown_and_judged() -> None:
    ours = figures("satellite", [2.5, 2.7, 2.6, 1.0])
    repaired = replace(figures("satellite", [2.5, 2.7, 2.6, 2.7]), repairs=True)
    tried = figures("satellite", [2.1, 2.1, 1.0, 1.0], default=False)
    noisy = figures("satellite", [2.5, 3.4, 3.6, 1.0])
    result = EndpointResult("a corpus", 2, [tried, ours, repaired, figures("Home Assistant", [3.2] * 4)], [noisy])
    cut, lost, television = part_tables.endpoint_tables(result)
    assert cut.title.endswith("an answer 0.55 s after each pause")
    assert cut.rows[1] == ("satellite", "as usual (default)", "0 of 2", "1 of 2 (50.0 %)", "0.6 %", "")
    assert cut.rows[2][-2:] == ("0.0 %", "0.0 %")
    assert lost.rows[1] == ("satellite", "as usual (default)", "600", "690", "700", "600", "600")
    assert television.rows[0][2] == "2 of 4"
    assert json.loads(json.dumps(as_json(result)))["figures"][1]["cut"]["500 ms"] == {"cut": 1, "of": 2}
    early, weighted, unrepaired, late, in_time = marks.endpoint_verdicts(result)
    assert (early.ours, early.reached) == (25, False)
    assert weighted.ours == pytest.approx(0.55)
    assert weighted.reached
    assert (unrepaired.ours, unrepaired.reached) == (0, True)
    assert (late.ours, late.limit) == pytest.approx((600, 1200))
    assert late.reached
    assert (in_time.ours, in_time.reached) == (50, False)


@pytest.mark.models
def test_the_end_of_commands_is_measured(
    models_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    voice = Store(models_directory).file(demo_set.JOE, ".onnx")
    synthetic.cached_corpus(tmp_path / "clips", voice, synthetic.PHRASES[:2])
    config = tmp_path / "config.yaml"
    config.write_text(f"models: {{directory: {models_directory}}}\n", encoding="utf-8")
    options = ["endpoint", "--no-rivals", "--json", "--corpus", str(tmp_path / "clips")]
    assert main(["--config", str(config), *options]) == 0
    result = json.loads(capsys.readouterr().out)["endpoint"]
    default, repaired = (found for found in result["figures"] if found["default"])
    assert (default["repairs"], repaired["repairs"]) == (False, True)
    assert default["cut"]["none"] == {"cut": 0, "of": 2}
    assert default["cut"]["300 ms"]["of"] == 2
    assert 200 < default["lost_ms"]["none"]["median"] < 1200
