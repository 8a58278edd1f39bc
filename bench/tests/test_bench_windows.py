"""Which window is recommended, and that a model is measured in several."""

import json
from pathlib import Path

import pytest
from satellite_bench import synthetic
from satellite_bench.commands import main
from satellite_bench.stats import summarise
from satellite_bench.windows import WindowFigures, recommended
from satellite_bench.words import WordErrors

from satellite.models import demo_set
from satellite.models.store import Store


def figures(*windows: tuple[float, int, int]) -> list[WindowFigures]:
    """Return figures of (seconds, errors in a thousand words, repeats)."""
    return [WindowFigures(seconds, WordErrors(errors, 1000), summarise([1.0]), n) for seconds, errors, n in windows]


@pytest.mark.parametrize(
    ("windows", "floor"),
    [
        ([(8, 300, 9), (10, 90, 0), (11, 90, 0), (12, 90, 0), (30, 90, 0)], 11),
        ([(10, 92, 0), (12, 92, 0), (30, 90, 0)], 12),
        ([(10, 93, 0), (12, 92, 0), (30, 90, 0)], 30),
        ([(10, 80, 1), (12, 80, 0), (15, 80, 0), (30, 90, 0)], 15),
        ([(10, 80, 1), (12, 80, 1), (30, 90, 1)], 12),
        ([(10, 80, 0), (12, 99, 0), (15, 80, 0), (30, 90, 0)], 30),
        ([(10, 200, 0), (30, 90, 0)], 30),
        ([(30, 90, 0)], 30),
    ],
)
def test_the_floor_is_one_step_above_the_shortest_good_window(
    windows: list[tuple[float, int, int]], floor: float
) -> None:
    """A window is good with all longer ones: hardly more errors than the full one, and no more repetitions."""
    assert recommended(figures(*windows)) == floor


@pytest.mark.models
def test_a_model_is_measured_in_several_windows(
    models_directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Words, time and repetitions of each, the full window always among them, and the line for the configuration."""
    voice = Store(models_directory).file(demo_set.JOE, ".onnx")
    synthetic.cached_corpus(tmp_path / "clips", voice, synthetic.PHRASES[:2])
    config = tmp_path / "config.yaml"
    config.write_text(f"models: {{directory: {models_directory}}}\n", encoding="utf-8")
    options = ["--windows", "12", "10", "--corpus", str(tmp_path / "clips"), "--output", str(tmp_path / "result.md")]
    assert main(["--config", str(config), "stt", *options, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [of["window_seconds"] for of in result["windows"]] == [10, 12, 30]
    assert all(of["milliseconds"]["n"] == 2 for of in result["windows"])
    assert result["windows"][-1]["word_errors"]["percent"] <= 25
    text = (tmp_path / "result.md").read_text(encoding="utf-8")
    assert f"stt.window_floor_seconds: {result['recommended_floor_seconds']:g}" in text


def test_windows_belong_to_speech_to_text(capsys: pytest.CaptureFixture[str]) -> None:
    """Another part beside them is an error before anything is measured."""
    assert main(["tts", "--windows"]) == 1
    assert "--windows belongs to stt alone" in capsys.readouterr().err
