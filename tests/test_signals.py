"""A daemon that is told to end ends, whatever holds it: tried with real processes."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.command_line import configuration, free_port, running, wait_for
from tests.waiting import PATIENCE_SECONDS, eventually

pytestmark = pytest.mark.slow

HELD = {
    "a call that blocks the event loop": ("time.sleep(10_000)", "the main thread:(\n.*)+in main"),
    "a loop that never waits": ("[None for _ in iter(int, 1)]", "the main thread"),
    "a task that swallows its cancellation": (
        "deaf_one = asyncio.create_task(deaf(), name='the deaf one'); await stop.wait()",
        "the deaf one",
    ),
}

PROGRAM = """
import asyncio, time
from satellite.daemon.signals import Signals

async def deaf():
    while True:
        try:
            await asyncio.sleep(10_000)
        except asyncio.CancelledError:
            pass

async def main():
    stop = asyncio.Event()
    Signals(stop.set, lambda: print("reload", flush=True), stop_seconds={seconds})
    print("ready", flush=True)
    {body}

asyncio.run(main())
"""


@contextmanager
def program(body: str, seconds: float = 0.5) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(body=body, seconds=seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("body", "logged"), HELD.values(), ids=HELD)
def test_what_holds_the_daemon_does_not_keep_it_from_ending(body: str, logged: str) -> None:
    with program(body) as process:
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 1
        assert "exiting anyway" in log
        assert re.search(logged, log)


def test_a_program_that_ends_in_time_is_left_alone() -> None:
    with program("await stop.wait()", seconds=PATIENCE_SECONDS) as process:
        process.send_signal(signal.SIGHUP)
        assert process.stdout is not None
        assert process.stdout.readline() == "reload\n"
        process.send_signal(signal.SIGINT)
        _, log = process.communicate(timeout=PATIENCE_SECONDS)
        assert (process.returncode, log) == (0, "")


def test_a_second_signal_ends_it_at_once() -> None:
    with program("time.sleep(10_000)", seconds=10_000) as process:
        process.send_signal(signal.SIGTERM)
        while process.poll() is None:  # two at once may arrive as one
            process.send_signal(signal.SIGTERM)
            time.sleep(0.05)
        assert process.returncode == 128 + signal.SIGTERM


STUBBORN = "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: {body}"
MICROPHONES = {
    "one that gives sound without end": ["cat", "/dev/zero"],
    "one that ignores SIGTERM": [
        sys.executable,
        "-c",
        STUBBORN.format(body="sys.stdout.buffer.write(bytes(1024)); sys.stdout.flush(); time.sleep(0.032)"),
    ],
    "one that gives nothing": ["sleep", "10000"],
    "one whose own child goes on": ["sh", "-c", "cat /dev/zero & cat /dev/zero"],
}


def lives(process: psutil.Process) -> bool:
    """Return whether a process runs; one that has ended, and that nobody has asked after, does not."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("command", MICROPHONES.values(), ids=MICROPHONES)
def test_no_microphone_keeps_the_daemon_from_ending(command: list[str], tmp_path: Path) -> None:
    port = free_port()
    config = configuration(tmp_path, tmp_path / "none", port, f"microphone: {{command: {command!r}}}\n")
    with running(config) as process:
        wait_for(port, process)
        daemon = psutil.Process(process.pid)
        eventually(daemon.children)
        time.sleep(0.5)  # for the pipe to fill, and for what the program starts
        started = daemon.children(recursive=True)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0, log
        assert "exiting anyway" not in log
        assert "abandoned" not in log
        eventually(lambda: not any(map(lives, started)))  # the kernel takes a moment to end what was killed


SLOW_IMPORT = """
import sys, time

class Slow:
    def find_spec(self, name, path, target=None):
        if name == "numpy":
            time.sleep(10_000)

sys.meta_path.insert(0, Slow())
"""


def test_a_start_that_takes_long_does_not_keep_it_from_ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(SLOW_IMPORT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    port = free_port()
    with running(configuration(tmp_path, tmp_path / "none", port)) as process:
        wait_for(port, process)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0, log
        assert "exiting anyway" not in log
