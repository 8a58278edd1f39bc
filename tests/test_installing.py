"""What install.sh leaves to Python."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from satellite.cli.installing import main
from tests.command_line import free_port, ran
from tests.running_ollama import Ollama


@pytest.fixture
def ollama() -> Iterator[Ollama]:
    """One that can fetch one model."""
    with Ollama() as running:
        running.server.library = {"phi3:mini"}
        yield running


def installing(*arguments: str, host: str = "127.0.0.1:9") -> subprocess.CompletedProcess[str]:
    """Run it, with Ollama at `host`."""
    return ran(main, *arguments, OLLAMA_HOST=host)


def test_a_model_is_fetched_once(ollama: Ollama) -> None:
    first = installing("pull", "phi3:mini", host=ollama.server.url)
    assert first.stdout.splitlines()[0] == "    pulling manifest"
    assert first.stdout.splitlines()[-1] == "    success"
    assert (first.returncode, first.stderr) == (0, "")
    second = installing("pull", "phi3:mini", host=ollama.server.url)
    assert (second.returncode, second.stdout) == (0, "")
    assert [exchange.path for exchange in ollama.server.exchanges].count("/api/pull") == 1


def test_a_model_that_has_no_tag_is_the_latest(ollama: Ollama) -> None:
    ollama.server.models["llama"] = "llama"
    assert installing("pull", "llama", host=ollama.server.url).stdout == ""


def test_a_model_that_does_not_exist_is_an_error(ollama: Ollama) -> None:
    failed = installing("pull", "phi33", host=ollama.server.url)
    assert failed.returncode == 1
    assert "file does not exist" in failed.stderr


def test_where_nobody_answers_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("satellite.cli.installing._STARTING_SECONDS", 0.5)
    failed = installing("pull", "phi3:mini")
    assert failed.returncode == 1
    assert "Failed to connect to Ollama" in failed.stderr


def test_the_addresses_are_those_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("wyoming: {host: 192.0.2.7, port: 10601}")
    told = installing("addresses", str(tmp_path / "config.yaml")).stdout
    assert told == "    host 192.0.2.7   port 10601\n"


def test_a_host_without_an_address_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("wyoming: {host: 127.0.0.1}")
    told = installing("addresses", str(tmp_path / "config.yaml")).stdout
    assert told == "    port 10600; this host has no address in a network yet\n"


def test_ports_that_others_have_are_named(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        mine, web = one.getsockname()[1], two.getsockname()[1]
        rest = "wake_port: null, tts_port: null, handle_port: null"
        config.write_text(
            f"wyoming: {{host: 127.0.0.1, port: {free_port()}, stt_port: {mine}, {rest}}}\nhttp: {{port: {web}}}"
        )
        told = installing("ports", str(config))
        assert told.returncode == 1
        assert [part.partition(" (")[0] for part in told.stdout.strip().split(", ")] == [
            f"127.0.0.1 port {mine}",
            f"127.0.0.1 port {web}",
        ]
        config.write_text(
            f"wyoming: {{host: 192.0.2.7, port: {free_port()}, stt_port: {mine}, {rest}}}\nhttp: {{enabled: false}}"
        )
        assert installing("ports", str(config)).returncode == 0


def test_what_is_missing_is_told_with_its_size(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    hosted = "{type: openai, model: m, url: 'http://127.0.0.1:9/v1'}"
    config.write_text(
        f"models: {{directory: {tmp_path}}}\ntts: {{voice: {tmp_path}/my.onnx}}\nchat: {{providers: [{hosted}]}}"
    )
    told = installing("models", str(config)).stdout.splitlines()
    assert [line.split() for line in told] == [["wake/openwakeword", "6.0", "MB"], ["stt/tiny.en", "78.1", "MB"]]
    megabytes, _, folder = installing("room", str(config)).stdout.strip().partition(" ")
    assert 84 < int(megabytes) < 300
    assert folder == str(tmp_path)


def test_a_new_configuration_is_told_by_a_bare_python() -> None:
    command = [sys.executable, "-I", "-S", "-B", "-c"]
    code = "import sys; sys.path.insert(0, sys.argv[1]); from satellite.cli.installing import main; main(sys.argv[2:])"
    told = subprocess.run(
        [*command, code, str(Path(__file__).parent.parent), "defaults", "stt/small.en", ""],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout.split()
    assert "stt/small.en" in told
    assert "stt/tiny.en" not in told
    assert "wake/openwakeword" in told
