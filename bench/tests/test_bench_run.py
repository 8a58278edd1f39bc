"""`satellite bench` from its arguments to its output, over the real daemon and without a network."""

import json
import os
from pathlib import Path

import pytest
from satellite_bench import own, synthetic
from satellite_bench.commands import main

from satellite.cli import arguments as cli_arguments
from satellite.errors import SatelliteError
from satellite.models import demo_set
from satellite.models.store import Store


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vision"]) == 1
    assert "expected voice, hearing, speaking, stt, tts, wake, memory" in capsys.readouterr().err


def test_an_unknown_condition_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hearing", "--conditions", "0 dB", "9 kHz"]) == 1
    assert "unknown condition '9 kHz'; expected '0 dB', '-15 dB'" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["--no-rivals", "vision"]])
def test_options_before_the_parts_are_the_benchmarks(arguments: list[str]) -> None:
    assert cli_arguments.parse(["bench", *arguments]).arguments == arguments


@pytest.mark.models
def test_our_daemon_alone_is_measured(
    models_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    voice = Store(models_directory).file(demo_set.JOE, ".onnx")
    synthetic.cached_corpus(tmp_path / "clips", voice, synthetic.PHRASES[:2])
    config = tmp_path / "config.yaml"
    config.write_text(f"models: {{directory: {models_directory}}}\n", encoding="utf-8")
    options = ["stt", "tts", "memory", "--no-rivals", "--json", "--repeats", "1", "--corpus", str(tmp_path / "clips")]
    output = tmp_path / "result.md"
    assert main(["--config", str(config), *options, "--output", str(output)]) == 0
    result = json.loads(capsys.readouterr().out)
    stt, (whole, streamed) = result["stt"][0], result["tts"]
    assert stt["clips"] == 2
    assert stt["word_errors"]["ours"]["percent"] <= 25
    assert 0 < stt["after_stop_ms"]["ours"]["median"] <= stt["total_ms"]["ours"]["median"]
    for spoken in (whole["overall"], streamed["overall"]):
        assert 0 < spoken["first_audio_ms"]["ours"]["median"] <= spoken["first_audible_ms"]["ours"]["median"]
    assert 9_000 < whole["by_reply"]["10 s"]["audio_ms"]["ours"]["median"] < 12_000
    assert result["memory"]["worked"]["ours"]["pss_mib"] > 50
    assert result["verdicts"] == []
    assert "## Speech to text, audio at once" in output.read_text(encoding="utf-8")


@pytest.mark.models
def test_our_hearing_and_speaking_alone_are_measured(
    models_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    voice = Store(models_directory).file(demo_set.JOE, ".onnx")
    synthetic.cached_corpus(tmp_path / "clips", voice, ["Stop the music."])
    config = tmp_path / "config.yaml"
    config.write_text(f"models: {{directory: {models_directory}}}\n", encoding="utf-8")
    options = ["--no-rivals", "--json", "--limit", "2", "--corpus", str(tmp_path / "clips")]
    options += ["--conditions", "0 dB", "stereo, one channel inverted"]
    assert main(["--config", str(config), "hearing", "speaking", *options]) == 0
    result = json.loads(capsys.readouterr().out)
    for figures in result["hearing"]["figures"]:
        assert (figures["ours"]["empty"], figures["ours"]["wer_percent"], figures["theirs"]) == (0, 0, None)
    joe = next(figures for figures in result["speaking"]["figures"] if figures["voice"] == demo_set.JOE.name)
    assert (joe["language"], joe["theirs"], joe["ours"]["clipped"]) == ("en", None, 0)
    assert joe["ours"]["wer_percent"] < 50
    assert -40 < joe["ours"]["level_db"] < -6


def test_test_servers_are_found_in_a_checkout_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "__file__", str(tmp_path / "lib" / "site-packages" / "satellite_bench" / "own.py"))
    root = Path(__file__).parents[2]
    monkeypatch.chdir(root / "docs")
    assert str(root) in own.doubles_environment()["PYTHONPATH"].split(os.pathsep)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SatelliteError, match="inside a checkout"):
        own.doubles_environment()
