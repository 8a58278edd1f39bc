"""What systemd would receive, on a real notification socket."""

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from satellite.daemon.systemd import Supervisor
from satellite.engines.worker import Worker
from satellite.errors import Stage
from tests.waiting import PATIENCE_SECONDS, until


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A notification socket, and a watchdog that waits for 0.3 s."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        end.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "300000")
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
        yield end


def received(end: socket.socket) -> list[str]:
    """Return what has come."""
    lines: list[str] = []
    while True:
        try:
            lines += end.recv(4096).decode().splitlines()
        except BlockingIOError:
            return lines


async def test_a_daemon_that_lives_says_so(systemd: socket.socket) -> None:
    words = ["loading"]
    told: list[str] = []
    supervisor = Supervisor(lambda: words[0], {}, lambda: 1)

    def fed(times: int) -> bool:
        told.extend(received(systemd))
        return told.count("WATCHDOG=1") >= times

    task = asyncio.create_task(supervisor.run())
    await until(lambda: fed(1))
    words[0] = "ready · 4 rooms"
    supervisor.ready()
    await until(lambda: fed(3))
    task.cancel()
    supervisor.stopping()
    told += received(systemd)
    assert [line for line in told if line.startswith("STATUS=")] == [
        "STATUS=loading",
        "STATUS=ready · 4 rooms",
        "STATUS=stopping",
    ]
    assert told.index("READY=1") < told.index("STOPPING=1")


async def test_a_wedged_engine_starves_the_watchdog(systemd: socket.socket, caplog: pytest.LogCaptureFixture) -> None:
    worker = Worker(Stage.STT)
    longest_seconds = [2 * PATIENCE_SECONDS]
    supervisor = Supervisor(lambda: "", {"stt": worker}, lambda: longest_seconds[0])
    release = threading.Event()
    try:
        task = asyncio.create_task(supervisor.run())
        hangs = asyncio.create_task(worker.run(release.wait, PATIENCE_SECONDS))
        await until(lambda: worker.busy_since is not None)
        received(systemd)
        await until(lambda: "WATCHDOG=1" in received(systemd))
        longest_seconds[0] = 0.0
        await until(lambda: "it hangs" in caplog.text)
        received(systemd)
        await asyncio.sleep(0.6)  # twice as long as systemd would wait
        assert received(systemd) == []
        release.set()
        await hangs
        await until(lambda: "WATCHDOG=1" in received(systemd))
        task.cancel()
    finally:
        release.set()
        worker.close()
    assert caplog.text.count("it hangs") == 1


def test_without_systemd_nothing_is_told(systemd: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET")
    supervisor = Supervisor(lambda: "ready", {}, lambda: 1)
    supervisor.ready()
    supervisor.stopping()
    assert received(systemd) == []


async def test_the_watchdog_of_another_process_is_not_ours(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_PID", "1")
    supervisor = Supervisor(lambda: "ready", {}, lambda: 1)
    task = asyncio.create_task(supervisor.run())
    await asyncio.sleep(0.2)
    task.cancel()
    assert received(systemd) == ["STATUS=ready"]
