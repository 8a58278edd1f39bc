"""What install.sh leaves to Python."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from satellite.cli.installing import main
from tests.command_line import free_port, ran
from tests.running_ollama import Ollama


def installing(*arguments: str, host: str = "127.0.0.1:9") -> subprocess.CompletedProcess[str]:
    return ran(main, *arguments, OLLAMA_HOST=host)


def test_ollama_fetches_a_model_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with Ollama() as ollama:
        server = ollama.server
        server.library = {"phi3:mini"}
        first = installing("pull", "phi3:mini", host=server.url)
        lines = first.stdout.splitlines()
        assert (first.returncode, first.stderr, lines[0], lines[-1]) == (0, "", "    pulling manifest", "    success")
        second = installing("pull", "phi3:mini", host=server.url)
        assert (second.returncode, second.stdout) == (0, "")
        server.models["llama"] = "llama"  # Ollama's name for llama:latest
        assert installing("pull", "llama", host=server.url).stdout == ""
        assert [exchange.path for exchange in server.exchanges].count("/api/pull") == 1
        unknown = installing("pull", "phi33", host=server.url)
        assert unknown.returncode == 1
        assert "file does not exist" in unknown.stderr
    monkeypatch.setattr("satellite.cli.installing._STARTING_SECONDS", 0.0)
    stopped = installing("pull", "phi3:mini")
    assert stopped.returncode == 1
    assert "Failed to connect to Ollama" in stopped.stderr


@pytest.mark.parametrize(
    ("wyoming", "printed"),
    [
        ("{host: 192.0.2.7, port: 10601}", "    host 192.0.2.7   port 10601\n"),
        ("{host: 127.0.0.1}", "    port 10600; this host has no address in a network yet\n"),
    ],
)
def test_the_addresses_are_those_of_the_configuration(tmp_path: Path, wyoming: str, printed: str) -> None:
    (tmp_path / "config.yaml").write_text(f"wyoming: {wyoming}")
    assert installing("addresses", str(tmp_path / "config.yaml")).stdout == printed


def test_ports_in_use_are_printed(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        mine, web = one.getsockname()[1], two.getsockname()[1]
        rest = "wake_port: null, tts_port: null, handle_port: null"
        config.write_text(
            f"wyoming: {{host: 127.0.0.1, port: {free_port()}, stt_port: {mine}, {rest}}}\nhttp: {{port: {web}}}"
        )
        refused = installing("ports", str(config))
        assert refused.returncode == 1
        assert [part.partition(" (")[0] for part in refused.stdout.strip().split(", ")] == [
            f"127.0.0.1 port {mine}",
            f"127.0.0.1 port {web}",
        ]
        config.write_text(
            f"wyoming: {{host: 192.0.2.7, port: {free_port()}, stt_port: {mine}, {rest}}}\nhttp: {{enabled: false}}"
        )
        assert installing("ports", str(config)).returncode == 0


def test_missing_models_are_printed_with_their_sizes(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    hosted = "{type: openai, model: m, url: 'http://127.0.0.1:9/v1'}"
    config.write_text(
        f"models: {{directory: {tmp_path}}}\ntts: {{voice: {tmp_path}/my.onnx}}\nchat: {{providers: [{hosted}]}}"
    )
    lines = installing("models", str(config)).stdout.splitlines()
    assert [line.split() for line in lines] == [["wake/openwakeword", "6.0", "MB"], ["stt/tiny.en", "78.1", "MB"]]
    megabytes, _, folder = installing("room", str(config)).stdout.strip().partition(" ")
    assert 84 < int(megabytes) < 300
    assert folder == str(tmp_path)


def test_a_bare_python_prints_the_models_of_a_new_configuration() -> None:
    command = [sys.executable, "-I", "-S", "-B", "-c"]
    code = "import sys; sys.path.insert(0, sys.argv[1]); from satellite.cli.installing import main; main(sys.argv[2:])"
    printed = subprocess.run(
        [*command, code, str(Path(__file__).parent.parent), "defaults", "stt/small.en", ""],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout.split()
    assert "stt/small.en" in printed
    assert "stt/tiny.en" not in printed
    assert "wake/openwakeword" in printed
