"""Which window `satellite tune` recommends, and that a model is measured in several."""

import json
from pathlib import Path

import pytest
from satellite_bench import synthetic

from satellite.cli.main import main
from satellite.cli.tune import WindowFigures, recommended_floor
from satellite.models import demo_set
from satellite.models.store import Store


@pytest.mark.parametrize(
    ("windows", "floor"),
    [
        ([(8, 30.0, 9), (10, 9.0, 0), (11, 9.0, 0), (12, 9.0, 0), (30, 9.0, 0)], 11),
        ([(10, 9.2, 0), (12, 9.2, 0), (30, 9.0, 0)], 12),
        ([(10, 9.3, 0), (12, 9.2, 0), (30, 9.0, 0)], 30),
        ([(10, 8.0, 1), (12, 8.0, 0), (15, 8.0, 0), (30, 9.0, 0)], 15),
        ([(10, 8.0, 1), (12, 8.0, 1), (30, 9.0, 1)], 12),
        ([(10, 8.0, 0), (12, 9.9, 0), (15, 8.0, 0), (30, 9.0, 0)], 30),
        ([(10, 20.0, 0), (30, 9.0, 0)], 30),
        ([(30, 9.0, 0)], 30),
    ],
)
def test_the_floor_is_one_step_above_the_shortest_good_window(
    windows: list[tuple[float, float, int]], floor: float
) -> None:
    assert recommended_floor([WindowFigures(seconds, wer, 1.0, n) for seconds, wer, n in windows]) == floor


@pytest.mark.models
def test_a_model_is_measured_in_several_windows(
    models_directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    voice = Store(models_directory).file(demo_set.JOE, ".onnx")
    synthetic.cached_corpus(tmp_path / "clips", voice, synthetic.PHRASES[:2])
    config = tmp_path / "config.yaml"
    config.write_text(f"models: {{directory: {models_directory}}}\nstt: {{model: tiny.en}}\n", encoding="utf-8")
    command = ["--config", str(config), "tune", str(tmp_path / "clips"), "--windows", "12", "10"]
    assert main([*command, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [of["window_seconds"] for of in result["windows"]] == [10, 12, 30]
    assert all(of["median_ms"] > 0 for of in result["windows"])
    assert result["windows"][-1]["word_error_percent"] <= 25
    assert main(command) == 0
    assert "stt.window_floor_seconds: " in capsys.readouterr().out


def test_a_folder_without_recordings_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", str(tmp_path)]) == 1
    assert "NAME.wav with NAME.txt" in capsys.readouterr().err


def test_a_window_is_1_to_30_seconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["tune", str(tmp_path), "--windows", "31"])
    assert "1 to 30 seconds" in capsys.readouterr().err
