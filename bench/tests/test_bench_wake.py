"""The wake word's part of the benchmark."""

import asyncio
import json
import sys
from pathlib import Path

import pytest
from satellite_bench import marks, part_tables, wake
from satellite_bench.stats import as_json
from satellite_bench.wake import WakeFigures, WakeResult

from satellite.audio.pcm import read_wav
from satellite.errors import SatelliteError
from tests.running_daemon import DATA

RESULT = WakeResult(WakeFigures(10, 200.0, 0.8, 9), WakeFigures(10, 200.0, 20.0, 90))


def test_a_core_keeps_up_with_as_many_streams_as_their_cpu_time_allows() -> None:
    assert (RESULT.ours.streams_a_core, RESULT.ours.cpu_ms_a_frame) == pytest.approx((250, 0.32))
    described = json.loads(json.dumps(as_json(RESULT)))
    assert described["ours"]["streams_a_core"] == 250
    assert described["theirs"]["cpu_ms_a_frame"] == 8
    (table,) = part_tables.wake_tables(RESULT)
    assert table.rows == [("satellite", "250", "0.32"), ("pyopen-wakeword", "10", "8.00")]
    (verdict,) = marks.wake_verdicts(RESULT)
    assert (verdict.limit, verdict.reached) == (200, True)


def measured(models: Path, pcm: bytes) -> WakeResult:
    """Return what both engines need for four seconds of sound in every stream."""
    listening = wake.measure(models, pcm, Path(sys.executable), repeats=1, frames=50, on_status=lambda _: None)
    return asyncio.run(listening)


@pytest.mark.models
def test_both_engines_hear_the_wake_word(models_directory: Path) -> None:
    found = measured(models_directory / "wake" / "openwakeword", read_wav(DATA / "wake" / "okay_nabu.wav"))
    assert found.theirs is not None
    for figures in (found.ours, found.theirs):
        assert figures.audio_seconds == pytest.approx(40)
        assert figures.cpu_seconds > 0
        assert figures.detections > 0


@pytest.mark.models
def test_an_engine_that_hears_nothing_has_no_figures(models_directory: Path) -> None:
    with pytest.raises(SatelliteError) as silent:
        measured(models_directory / "wake" / "openwakeword", bytes(64_000))
    with pytest.raises(SatelliteError) as empty:
        measured(models_directory, bytes(64_000))
    assert {silent.value.code, empty.value.code} == {"bench-wake"}
    assert "melspectrogram" in str(empty.value)
