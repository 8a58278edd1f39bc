"""What systemd would receive, on a real notification socket."""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from satellite.daemon.systemd import Supervisor
from satellite.engines.worker import Worker
from satellite.errors import Stage
from tests.waiting import PATIENCE_SECONDS, until


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A notification socket, and a watchdog that waits for 0.15 s."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        end.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "150000")
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
        yield end


def received(end: socket.socket) -> list[str]:
    lines: list[str] = []
    while True:
        try:
            lines += end.recv(4096).decode().splitlines()
        except BlockingIOError:
            return lines


async def test_a_daemon_that_lives_says_so(systemd: socket.socket) -> None:
    status, sent = "loading", received(systemd)

    def fed(times: int) -> bool:
        sent.extend(received(systemd))
        return sent.count("WATCHDOG=1") >= times

    supervisor = Supervisor(lambda: status, {}, lambda: 1)
    task = asyncio.create_task(supervisor.run())
    await until(lambda: fed(1))
    status = "ready · 4 rooms"
    supervisor.ready()
    await until(lambda: fed(3))
    task.cancel()
    supervisor.stopping()
    fed(0)
    assert [line for line in sent if line != "WATCHDOG=1"] == [
        *(
            "STATUS=loading",
            "EXTEND_TIMEOUT_USEC=60000000",
            "STATUS=ready · 4 rooms",
            "READY=1",
            "STOPPING=1",
            "STATUS=stopping",
        )
    ]


async def test_a_wedged_engine_starves_the_watchdog(systemd: socket.socket, caplog: pytest.LogCaptureFixture) -> None:
    worker = Worker(Stage.STT)
    longest_seconds = [2 * PATIENCE_SECONDS]
    supervisor = Supervisor(lambda: "", {"stt": worker}, lambda: longest_seconds[0])
    supervisor.ready()
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
        await asyncio.sleep(0.3)  # twice as long as systemd would wait
        assert received(systemd) == []
        release.set()
        await hangs
        await until(lambda: "WATCHDOG=1" in received(systemd))
        task.cancel()
    finally:
        release.set()
        worker.close()
    assert caplog.text.count("it hangs") == 1


async def test_without_systemd_or_with_the_watchdog_of_another_process_nothing_is_fed(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_PID", "1")
    task = asyncio.create_task(Supervisor(lambda: "ready", {}, lambda: 1).run())
    await asyncio.sleep(0.1)
    task.cancel()
    monkeypatch.delenv("NOTIFY_SOCKET")
    without = Supervisor(lambda: "ready", {}, lambda: 1)
    without.ready()
    without.stopping()
    assert received(systemd) == ["STATUS=ready", "EXTEND_TIMEOUT_USEC=60000000"]


class Busy:
    def __init__(self, seconds: float, *, is_loading: bool = False) -> None:
        self.busy_since: float | None = time.monotonic() - seconds
        self.is_loading = is_loading


@pytest.mark.parametrize(("longest_seconds", "extended"), [(600, True), (20, False)])
async def test_a_slow_start_is_extended_and_one_that_hangs_is_not(
    systemd: socket.socket, longest_seconds: float, extended: bool
) -> None:
    supervisor = Supervisor(lambda: "loading", {"stt": Busy(seconds=601)}, lambda: longest_seconds)
    task = asyncio.create_task(supervisor.run())
    await asyncio.sleep(0)
    task.cancel()
    assert ("EXTEND_TIMEOUT_USEC=60000000" in received(systemd)) is extended


@pytest.mark.parametrize(("is_loading", "fed"), [(True, True), (False, False)])
async def test_a_model_that_is_loaded_later_may_take_as_long_as_at_the_start(
    systemd: socket.socket, is_loading: bool, fed: bool
) -> None:
    supervisor = Supervisor(lambda: "", {"tts": Busy(seconds=601, is_loading=is_loading)}, lambda: 70)
    supervisor.ready()
    task = asyncio.create_task(supervisor.run())
    await asyncio.sleep(0.3)  # twice as long as systemd would wait
    task.cancel()
    assert ("WATCHDOG=1" in received(systemd)) is fed
