"""Verdicts, and the run as JSON and as Markdown."""

import json
from dataclasses import replace

import pytest
from satellite_bench import marks
from satellite_bench.machine import Machine, this_machine
from satellite_bench.marks import Verdict
from satellite_bench.memory import Memory, MemoryResult, MemoryState
from satellite_bench.report import Report, markdown
from satellite_bench.stats import Compared, summarise
from satellite_bench.stt import Mismatch, SttResult
from satellite_bench.tables import Table
from satellite_bench.tts import TtsFigures, TtsResult

from satellite.audio.word_errors import WordErrors


def _compared(ours: float, theirs: float | None) -> Compared:
    return Compared(summarise([ours]), None if theirs is None else summarise([theirs]))


def _stt(ours: float = 100.0, theirs: float | None = 400.0, *, realtime: bool = False, errors: int = 5) -> SttResult:
    return SttResult(
        corpus="two clips",
        clips=2,
        audio_seconds=4.0,
        realtime=realtime,
        total_ms=_compared(ours, theirs),
        after_stop_ms=_compared(ours / 2, None if theirs is None else theirs / 2),
        our_words=WordErrors(errors, 100),
        their_words=None if theirs is None else WordErrors(5, 100),
        mismatches=(Mismatch("dim the light", "dim | light", None if theirs is None else "them the light"),),
        failures=(),
    )


def _tts(ours: float = 50.0, theirs: float | None = 100.0, *, ours_short: float = 20.0) -> TtsResult:
    def figures(value: float) -> TtsFigures:
        first = _compared(value, theirs)
        sound = _compared(5000.0, None if theirs is None else 5000.0)
        return TtsFigures(first, first, first, _compared(0.0, None if theirs is None else 0.0), sound)

    return TtsResult(False, figures(ours), {"1 s": figures(ours_short), "6 s": figures(ours)}, ())


def _report(**parts: object) -> Report:
    report = Report(
        began="2026-11-22T00:00:00+00:00",
        machine=Machine("A processor", 2, 23.5, "3.11.7"),
        threads=2,
        load_at_start=(0.5, 1.0, 1.5),
        our_versions={"satellite": "0.1.0"},
        their_versions={"wyoming-piper": "2.5.2"},
    )
    for name, value in parts.items():
        setattr(report, name, value)
    return report


def _texts(verdicts: list[Verdict]) -> dict[str, str]:
    return {verdict.mark: verdict.text for verdict in verdicts}


def test_a_missed_mark_says_by_how_much() -> None:
    assert Verdict("m", 150.0, 100.0, "ms").text == "missed by 50.0 ms (50 %)"
    assert Verdict("m", 80.0, 100.0, "ms", at_least=True).text == "missed by 20.0 ms (20 %)"
    assert Verdict("m", 1.0, 0.0, "ms").text == "missed by 1.0 ms"


def test_a_limit_that_is_just_kept_is_reached() -> None:
    assert Verdict("m", 100.0, 100.0, "ms").reached
    assert Verdict("m", 100.0, 100.0, "ms", at_least=True).reached


def test_stt_is_held_to_the_wait_behind_the_audio_and_the_words() -> None:
    verdicts = _texts(list(marks.stt_verdicts(_stt(ours=100.0, theirs=400.0, errors=6))))
    assert verdicts == {
        "STT, after audio-stop: median at most 1/3 of theirs": "reached",
        "STT, after audio-stop: p95 at most 1/6 of theirs": "missed by 16.7 ms (50 %)",
        "STT: WER at most 0.2 points above theirs": "missed by 0.8 points (15 %)",
    }


def test_audio_in_real_time_is_judged_too() -> None:
    found = list(marks.stt_verdicts(_stt(realtime=True)))
    assert found[0].mark.startswith("STT in real time, after audio-stop")
    assert (found[0].ours, found[0].limit) == pytest.approx((50.0, 200 / 3))


def test_tts_is_judged_by_its_worst_length_too() -> None:
    verdicts = _texts(list(marks.tts_verdicts(_tts(ours=50.0, theirs=100.0, ours_short=120.0))))
    assert verdicts["TTS, whole text: first audio, median not above theirs"] == "reached"
    worst = "TTS, whole text: first audio, median not above theirs in any length (worst: 1 s)"
    assert verdicts[worst] == "missed by 20.0 ms (20 %)"


def test_the_first_audible_sound_must_come_in_a_third_of_the_time() -> None:
    marked = "TTS, whole text: first audible sound, {} at most 1/3 of theirs"
    for ours, text in ((33.0, "reached"), (50.0, "missed by 16.7 ms (50 %)")):
        verdicts = _texts(list(marks.tts_verdicts(_tts(ours=ours, theirs=100.0))))
        assert {verdicts[marked.format(figure)] for figure in ("median", "p95")} == {text}


def test_saying_less_is_a_missed_mark() -> None:
    result = _tts()
    short = replace(result.overall, audio_ms=_compared(4000.0, 5000.0))
    verdicts = _texts(list(marks.tts_verdicts(replace(result, overall=short))))
    assert verdicts["TTS, whole text: says as much, at least 90% of their sound"] == "missed by 500.0 ms (11 %)"


def test_memory_is_held_against_their_sum() -> None:
    theirs = {"stt": Memory(50.0, 60.0), "tts": Memory(50.0, 60.0)}
    first, worked = MemoryState(Memory(90.0, 110.0), theirs), MemoryState(Memory(90.0, 150.0), theirs)
    verdicts = marks.memory_verdicts(MemoryResult(first, worked, Memory(1.0, 1.0)))
    assert [verdict.reached for verdict in verdicts] == [True, True, True, False]


def test_without_the_official_servers_nothing_is_judged() -> None:
    state = MemoryState(Memory(1.0, 1.0), {})
    alone = MemoryResult(state, state, Memory(0.5, 0.5))
    report = _report(stt=[_stt(theirs=None)], tts=[_tts(theirs=None)], memory=alone, their_versions={})
    assert report.verdicts == []
    text = markdown(report, mismatches=True)
    assert "## Marks" not in text
    assert "wyoming" not in text
    assert "satellite, without its chat model" in text


def test_the_json_is_complete() -> None:
    described = json.loads(json.dumps(_report(stt=[_stt()], tts=[_tts()]).described()))
    assert described["machine"]["cores"] == 2
    assert described["load_average"]["start"] == [0.5, 1.0, 1.5]
    assert described["stt"][0]["total_ms"]["ratio"]["median"] == 0.25
    assert described["stt"][0]["word_errors"]["theirs"] == {"errors": 5, "words": 100, "percent": 5.0}
    assert described["tts"][0]["by_reply"]["1 s"]["first_audio_ms"]["ours"]["median"] == 20.0
    assert described["memory"] is None
    assert len(described["verdicts"]) == 10
    assert described["failures"] == []


def test_the_markdown_names_machine_load_versions_and_corpus() -> None:
    text = markdown(_report(stt=[_stt()], tts=[_tts()], load_at_end=(2.0, 2.0, 2.0)))
    for expected in ("A processor, 2 cores", "[0.5, 1.0, 1.5] at the start", "satellite 0.1.0", "Corpus: two clips"):
        assert expected in text
    assert "| total, ms            | ours / theirs          |   | 25%    | 25% |" in text
    assert "Could not be measured" not in text
    assert "dim the light" not in text


def test_mismatches_are_listed_on_demand() -> None:
    assert "| dim the light | dim \\| light | them the light" in markdown(_report(stt=[_stt()]), mismatches=True)


def test_what_could_not_be_measured_is_told() -> None:
    failed = replace(_stt(), failures=("satellite: no answer within 120 s",))
    report = _report(stt=[failed], problems=["memory cannot be read"])
    assert report.failures == ["memory cannot be read", "satellite: no answer within 120 s"]
    assert "- satellite: no answer within 120 s" in markdown(report)


def test_a_table_lines_up() -> None:
    lines = list(Table("", ("a", "b"), [("long cell", "1"), ("x", "22")]).markdown())
    assert lines[0] == "| a         | b  |"
    assert {len(line) for line in lines} == {len(lines[0])}


def test_this_machine_describes_itself() -> None:
    machine = this_machine()
    assert machine.processor
    assert machine.cores >= 1
    assert machine.memory_gib > 0.1
