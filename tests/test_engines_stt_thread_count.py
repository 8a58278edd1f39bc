"""Whisper gets the number of threads that it is fastest with."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from satellite.config.settings import SttSettings, cpu_threads
from satellite.engines.stt.thread_count import fastest_threads
from satellite.engines.stt.whisper import WhisperTranscriber
from satellite.engines.worker import Worker
from satellite.errors import Stage
from satellite.models.demo_set import TINY_EN
from tests.virtual_clock import ManualClock


@pytest.mark.parametrize(
    ("seconds", "most", "fastest"),
    [({4: 0.02, 2: 0.2, 1: 0.4}, 4, 4), ({4: 0.3, 2: 0.02, 1: 0.3}, 4, 2), ({3: 0.3, 1: 0.02}, 3, 1), ({4: 2.1}, 4, 4)],
)
def test_the_fastest_is_found(
    seconds: dict[int, float], most: int, fastest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock()
    time = SimpleNamespace(monotonic=clock, sleep=lambda _: None)
    monkeypatch.setattr("satellite.engines.stt.thread_count.time", time)

    def load(threads: int) -> SimpleNamespace:
        def encode(_: object) -> None:
            clock.now += seconds[threads]

        return SimpleNamespace(n_mels=80, encode=encode, generate=lambda *_, **__: None)

    assert fastest_threads(load, most, 100) == fastest


@pytest.mark.models
def test_it_is_measured_once(models_directory: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "satellite.engines.stt.whisper")

    def load(settings: SttSettings) -> list[str]:
        caplog.clear()
        WhisperTranscriber(
            settings, Worker(Stage.STT), languages=("en",), window_floor_seconds=12.0, measured=tmp_path
        ).load(models_directory / "stt" / TINY_EN.name)
        return [record.getMessage() for record in caplog.records if "threads" in record.getMessage()]

    assert load(SttSettings(threads=1)) == []
    assert not (tmp_path / "measured.json").exists()
    first = load(SttSettings())
    if cpu_threads(0) == 1:
        assert first == []  # there is no choice
        return
    measured = json.loads((tmp_path / "measured.json").read_text())
    measured["threads"]["found"] = 7
    (tmp_path / "measured.json").write_text(json.dumps(measured))
    (second,) = load(SttSettings())
    assert second.startswith("Whisper is fastest with 7 of ")
    assert load(SttSettings(compute_type="float32"))[0].split()[4] in ("1", "2", "4")
