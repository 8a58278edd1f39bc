"""What the daemon asks of the operating system for its own process."""

import asyncio
import socket
import subprocess
import time
from contextlib import ExitStack, closing
from datetime import datetime
from pathlib import Path

import pytest

from satellite.system.process import follow_time_zone
from tests.command_line import SATELLITE, configuration, free_port, wait_for
from tests.waiting import PATIENCE_SECONDS, until


async def test_a_change_of_the_time_zone_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("satellite.system.process._TIME_ZONE_SECONDS", 0.02)
    monkeypatch.setenv("TZ", "UTC0")
    time.tzset()
    following = asyncio.create_task(follow_time_zone())
    try:
        for zone, hour in (("JST-9", 9), ("EST5", 19)):
            assert datetime.fromtimestamp(0).hour != hour
            monkeypatch.setenv("TZ", zone)
            await until(lambda hour=hour: datetime.fromtimestamp(0).hour == hour)  # type: ignore[misc]
    finally:
        following.cancel()
        monkeypatch.undo()
        time.tzset()


@pytest.mark.slow
def test_more_clients_than_open_files_fill_no_log(tmp_path: Path) -> None:
    port = free_port()
    config = configuration(tmp_path, tmp_path / "none", port)
    limited = ("sh", "-c", 'ulimit -n 256; exec "$@"', "sh", *SATELLITE, "--config", str(config), "run")
    log = tmp_path / "log"
    with (
        log.open("w") as errors,
        subprocess.Popen(limited, stderr=errors, text=True) as process,
        ExitStack() as clients,
    ):
        try:
            wait_for(port, process)
            for _ in range(300):
                client = socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)
                clients.enter_context(closing(client))
                client.sendall(b'{"type": "ping"}\n')
                assert b"pong" in client.recv(1024)
        finally:
            process.terminate()
            process.wait(PATIENCE_SECONDS)
    assert "max_connections 2000 is reduced to 64" in log.read_text()
    assert "out of system resource" not in log.read_text()
