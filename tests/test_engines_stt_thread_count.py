"""Whisper gets the number of threads that it is fastest with."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from satellite.config.settings import SttSettings, cpu_threads
from satellite.engines.stt.thread_count import fastest_threads
from satellite.engines.stt.whisper import WhisperTranscriber
from satellite.engines.worker import Worker
from satellite.errors import Stage
from satellite.models import catalogue
from satellite.models.spec import Kind
from tests.virtual_clock import ManualClock


class Timed:
    """Stands for a model that takes so long for everything, by a clock that it sets."""

    n_mels = 80

    def __init__(self, clock: ManualClock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds

    def encode(self, _features: Any) -> None:
        """Take that long."""
        self._clock.now += self._seconds

    def generate(self, *_: Any, **__: Any) -> None:
        """Take no time."""


@pytest.mark.parametrize(
    ("seconds", "most", "fastest"),
    [
        ({4: 0.02, 2: 0.2, 1: 0.4}, 4, 4),
        ({4: 0.3, 2: 0.02, 1: 0.3}, 4, 2),
        ({3: 0.3, 1: 0.02}, 3, 1),
        ({4: 2.1}, 4, 4),
    ],
)
def test_the_fastest_is_found(
    seconds: dict[int, float], most: int, fastest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock()
    monkeypatch.setattr(
        "satellite.engines.stt.thread_count.time", SimpleNamespace(monotonic=clock, sleep=lambda _: None)
    )
    assert fastest_threads(lambda threads: Timed(clock, seconds[threads]), most, 100) == fastest


@pytest.mark.models
def test_it_is_measured_once(models_directory: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spec = catalogue.find(Kind.STT, "tiny.en")

    def load(settings: SttSettings) -> list[str]:
        caplog.clear()
        with caplog.at_level(logging.INFO, "satellite.engines.stt.whisper"):
            WhisperTranscriber(
                settings,
                Worker(Stage.STT),
                languages=spec.languages,
                window_floor_seconds=spec.window_floor_seconds,
                measured=tmp_path,
            ).load(models_directory / "stt" / "tiny.en")
        return [record.getMessage() for record in caplog.records if "threads" in record.getMessage()]

    assert load(SttSettings(threads=1)) == []
    assert not (tmp_path / "measured.json").exists()
    first = load(SttSettings())
    if cpu_threads(0) == 1:
        assert first == []  # there is no choice
        return
    told = json.loads((tmp_path / "measured.json").read_text())
    told["threads"]["found"] = 7
    (tmp_path / "measured.json").write_text(json.dumps(told))
    (second,) = load(SttSettings())
    assert second.startswith("Whisper is fastest with 7 of ")
    assert load(SttSettings(compute_type="float32"))[0].split()[4] in ("1", "2", "4")
