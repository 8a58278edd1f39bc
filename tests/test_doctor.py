"""The report of `satellite doctor`: what is wrong has its remedy, what works is good."""

import json
import os
import socket
from pathlib import Path

import pytest

from satellite.cli.main import main
from tests.running_daemon import RunningDaemon


def findings(capsys: pytest.CaptureFixture[str], file: Path, uri: str) -> dict[str, dict[str, str]]:
    status = main(["--config", str(file), "doctor", "--json", "--uri", uri])
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] == (status == 0)
    return {one["what"]: one for one in report["checks"]}


def test_each_problem_has_its_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.yaml"
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        file.write_text(
            f"models: {{directory: {tmp_path}}}\nwyoming: {{host: 127.0.0.1, port: {port}, "
            "wake_port: null, stt_port: null, tts_port: null, handle_port: null}\nstt: {device: cuda}\n"
            "chat: {providers: [{type: ollama, model: 'phi3:mini', url: 'http://127.0.0.1:9'}]}\n"
        )
        found = findings(capsys, file, "tcp://127.0.0.1:9")
    assert found["configuration"]["state"] == "good"
    assert found["daemon"]["remedy"].endswith((f"--config {file} run", "systemctl start satellite"))
    assert found["model stt/tiny.en"]["remedy"].endswith("models pull configured")
    assert f"(process {os.getpid()}) has it" in found[f"port {port}"]["seen"]
    assert found["ollama at http://127.0.0.1:9"]["remedy"]
    assert all(one["remedy"] for one in found.values() if one["state"] == "bad")


def test_a_wrong_configuration_does_not_end_the_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("stt: {modle: tiny.en}\n")
    found = findings(capsys, file, "tcp://127.0.0.1:9")
    assert "did you mean 'model'" in found["configuration"]["seen"]
    assert found["configuration"]["remedy"].endswith(" config --example")
    assert f" --config {file} check; " in found["configuration"]["remedy"]
    assert {"daemon", "packages", "unit"} <= found.keys()


@pytest.mark.models
def test_a_working_daemon_is_good(daemon: RunningDaemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.yaml"
    ports = "".join(f", {name}: {port}" for name, port in daemon.daemon.ports.items() if name.endswith("_port"))
    file.write_text(
        f"models: {{directory: {daemon.daemon.store.directory}}}\n"
        f"wyoming: {{host: 127.0.0.1, port: {daemon.port()}{ports}}}\nhttp: {{port: {daemon.port('http')}}}\n"
    )
    found = findings(capsys, file, daemon.uri)
    for what, seen in {
        "stage stt": "cpu",
        "ports": "are open",
        "speech": "understood in",
        "chat local": "ready",
        "chat": "local has answered in",
        "wake word": "is detected in a recording",
    }.items():
        assert found[what]["state"] == "good"
        assert seen in found[what]["seen"]
    # The other commands find the daemon by the configuration alone.
    file.write_text(f"wyoming: {{host: '::', port: {daemon.port()}}}\n")
    assert main(["--config", str(file), "status", "--json"]) == 0
