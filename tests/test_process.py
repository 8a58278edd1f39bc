"""What the daemon asks of the operating system for its own process."""

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import datetime
from pathlib import Path

import pytest

from satellite.system.process import follow_time_zone
from tests.command_line import SATELLITE, configuration, free_port, wait_for
from tests.waiting import PATIENCE_SECONDS


@pytest.fixture
def _own_zone() -> Iterator[None]:
    """Leave the time zone as it was."""
    before = os.environ.get("TZ")
    yield
    os.environ.pop("TZ", None)
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.usefixtures("_own_zone")
async def test_a_change_of_the_time_zone_is_followed() -> None:
    os.environ["TZ"] = "UTC0"
    time.tzset()
    os.environ["TZ"] = "JST-9"
    assert datetime.fromtimestamp(0).hour == 0
    following = asyncio.create_task(follow_time_zone())
    async with asyncio.timeout(PATIENCE_SECONDS):
        while datetime.fromtimestamp(0).hour != 9:
            await asyncio.sleep(0.01)
        os.environ["TZ"] = "EST5"
        while datetime.fromtimestamp(0).hour != 19:
            await asyncio.sleep(0.01)
    following.cancel()


@pytest.mark.slow
def test_more_clients_than_open_files_fill_no_log(tmp_path: Path) -> None:
    port = free_port()
    config = configuration(tmp_path, tmp_path / "none", port)
    limited = ("sh", "-c", 'ulimit -n 256; exec "$@"', "sh", *SATELLITE, "--config", str(config), "run")
    told = tmp_path / "log"
    with (
        told.open("w") as errors,
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
    log = told.read_text()
    assert "max_connections 2000 is reduced to 64" in log
    assert "out of system resource" not in log
