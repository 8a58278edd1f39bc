"""What install.sh leaves to Python."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running_ollama import Ollama


@pytest.fixture
def ollama() -> Iterator[Ollama]:
    """One that can fetch one model."""
    with Ollama() as running:
        running.server.library = {"phi3:mini"}
        yield running


def installing(*arguments: str, host: str = "127.0.0.1:9") -> subprocess.CompletedProcess[str]:
    """Run it, with Ollama at `host`."""
    return subprocess.run(
        [sys.executable, "-m", "satellite.installing", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OLLAMA_HOST": host},
    )


def test_a_model_is_fetched_once(ollama: Ollama) -> None:
    """With what is going on, a line each where nobody watches; the second time there is nothing to do."""
    first = installing("pull", "phi3:mini", host=ollama.server.url)
    assert first.stdout.splitlines()[0] == "    pulling manifest"
    assert first.stdout.splitlines()[-1] == "    success"
    assert (first.returncode, first.stderr) == (0, "")
    second = installing("pull", "phi3:mini", host=ollama.server.url)
    assert (second.returncode, second.stdout) == (0, "")
    assert [exchange.path for exchange in ollama.server.exchanges].count("/api/pull") == 1


def test_a_model_that_has_no_tag_is_the_latest(ollama: Ollama) -> None:
    """As Ollama lists it."""
    ollama.server.models["llama"] = "llama"
    assert installing("pull", "llama", host=ollama.server.url).stdout == ""


def test_a_model_that_does_not_exist_is_an_error(ollama: Ollama) -> None:
    """Which Ollama tells in the middle of the answer."""
    failed = installing("pull", "phi33", host=ollama.server.url)
    assert failed.returncode == 1
    assert "file does not exist" in failed.stderr


def test_where_nobody_answers_that_is_said() -> None:
    """After the time that a server needs to start."""
    failed = installing("pull", "phi3:mini")
    assert failed.returncode == 1
    assert "Failed to connect to Ollama" in failed.stderr


def test_the_addresses_are_those_of_the_configuration(tmp_path: Path) -> None:
    """What is typed into Home Assistant."""
    (tmp_path / "config.yaml").write_text("wyoming: {host: 192.0.2.7, port: 10601}")
    told = installing("addresses", str(tmp_path / "config.yaml")).stdout
    assert told == "    host 192.0.2.7   port 10601\n"
