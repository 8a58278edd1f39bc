"""What the commands say and exit with when something is wrong, as people and programs see it."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from satellite.cli import ask, status_page
from satellite.errors import SatelliteError
from satellite.tasks import end_tasks
from satellite.wire.client import RunResult
from tests.command_line import satellite
from tests.waiting import PATIENCE_SECONDS

NOBODY = "tcp://127.0.0.1:9"


@pytest.mark.parametrize(
    "words",
    [("status",), ("ask", "Hello?"), ("say", "Hello.", "-o", "/dev/null"), ("rooms",), ("announce", "Dinner.")],
    ids=lambda words: words[0],
)
def test_an_error_is_also_printed_as_an_object(words: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("wyoming: {host: 127.0.0.1, port: 9}")
    result = satellite("--config", str(file), *words, "--json")
    error = json.loads(result.stdout)["error"]
    assert (result.returncode, error["code"]) == (5, "daemon-unreachable")
    assert NOBODY in error["message"]
    assert "satellite run" in error["message"] or "sudo systemctl start satellite" in error["message"]
    assert result.stderr == f"error: [daemon-unreachable] {error['message']}\n"
    elsewhere = satellite(*words, "--uri", NOBODY)
    assert (elsewhere.returncode, elsewhere.stdout) == (5, "")
    assert "start it" not in elsewhere.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("ask", ""),
        ("ask", " "),
        ("say", "", "-o", "x.wav"),
        ("announce", ""),
        ("say", "Hello.", "--speaker", "p225", "-o", "x.wav"),
    ],
)
def test_wrong_usage_is_status_2(words: tuple[str, ...]) -> None:
    result = satellite(*words, "--uri", NOBODY)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith("satellite")


@pytest.mark.parametrize(
    "words",
    [
        ("status", "--uri", NOBODY),
        ("rooms", "devices"),
        ("completion", "bash"),
        ("models", "list"),
        ("check",),
        ("bench", "chat"),
    ],
    ids=lambda words: words[0],
)
def test_every_command_refuses_a_configuration_that_does_not_exist(words: tuple[str, ...], tmp_path: Path) -> None:
    result = satellite("--config", str(tmp_path / "none.yaml"), *words)
    assert result.returncode == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SatelliteError, match=r"h\.wav cannot be written: .*No such file"):
        ask._write_sound(RunResult(), tmp_path / "none" / "h.wav")


@pytest.mark.parametrize("words", [pytest.param("models list --all --json", marks=pytest.mark.slow), "completion bash"])
def test_a_closed_pipe_ends_a_command_silently(words: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        result = subprocess.run(
            [sys.executable, "-m", "satellite", *words.split()], stdout=writer, stderr=subprocess.PIPE, timeout=120
        )
    finally:
        os.close(writer)
    assert result.stderr == b""
    assert result.returncode == 1


async def test_watching_goes_on_without_a_daemon(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(status_page, "_WATCH_SECONDS", 0.01)
    watching = asyncio.create_task(status_page._watch(NOBODY))
    printed = ""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while printed.count("\n") < 4:
            await asyncio.sleep(0.01)
            printed += capsys.readouterr().out
    await end_tasks(watching)
    assert [line[:20] for line in printed.splitlines()[:4]] == ["[daemon-unreachable]", "", "[daemon-unreachable]", ""]
    assert "\x1b" not in printed
