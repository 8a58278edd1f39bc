"""What systemd would receive, on a real notification socket."""

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from satellite.engines.worker import Worker
from satellite.errors import Stage
from satellite.supervision import Supervisor


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


def test_a_daemon_that_lives_says_so(systemd: socket.socket) -> None:
    """Ready, its status when that changes, and that all is well, in time."""
    words = ["loading"]
    supervisor = Supervisor(lambda: words[0], {}, lambda: 1)

    async def scenario() -> None:
        task = asyncio.create_task(supervisor.run())
        await asyncio.sleep(0.25)
        words[0] = "ready · 4 rooms"
        supervisor.ready()
        await asyncio.sleep(0.25)
        task.cancel()
        supervisor.stopping()

    asyncio.run(scenario())
    told = received(systemd)
    assert [line for line in told if line.startswith("STATUS=")] == [
        "STATUS=loading",
        "STATUS=ready · 4 rooms",
        "STATUS=stopping",
    ]
    assert told.count("WATCHDOG=1") >= 3
    assert told.index("READY=1") < told.index("STOPPING=1")


def test_a_wedged_engine_starves_the_watchdog(systemd: socket.socket, caplog: pytest.LogCaptureFixture) -> None:
    """Though the event loop turns; an engine that only works for long does not, and one that is done feeds it again."""
    worker = Worker(Stage.STT)
    supervisor = Supervisor(lambda: "", {"stt": worker}, lambda: 0.4)

    async def scenario() -> tuple[list[str], list[str]]:
        task = asyncio.create_task(supervisor.run())
        hangs = asyncio.create_task(worker.run(time.sleep, 1.5))
        await asyncio.sleep(0.3)
        assert "WATCHDOG=1" in received(systemd)
        await asyncio.sleep(0.3)
        received(systemd)
        await asyncio.sleep(0.6)
        while_it_hangs = received(systemd)
        await hangs
        await asyncio.sleep(0.3)
        task.cancel()
        return while_it_hangs, received(systemd)

    while_it_hangs, after = asyncio.run(scenario())
    worker.close()
    assert while_it_hangs == []
    assert "WATCHDOG=1" in after
    assert caplog.text.count("it hangs") == 1


def test_without_systemd_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon runs in a terminal as well."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    supervisor = Supervisor(lambda: "ready", {}, lambda: 1)
    supervisor.ready()
    supervisor.stopping()


def test_the_watchdog_of_another_process_is_not_ours(systemd: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a parent is to be asked for is none of our business."""
    monkeypatch.setenv("WATCHDOG_PID", "1")
    supervisor = Supervisor(lambda: "ready", {}, lambda: 1)

    async def scenario() -> None:
        task = asyncio.create_task(supervisor.run())
        await asyncio.sleep(0.2)
        task.cancel()

    asyncio.run(scenario())
    assert received(systemd) == ["STATUS=ready"]
