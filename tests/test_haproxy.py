"""Two services behind HAProxy, as docs/scaling.md has it; one of them is killed."""

import asyncio
import csv
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from satellite.audio.pcm import read_wav
from satellite.errors import SatelliteError
from satellite.wire import client
from tests.command_line import SATELLITE, configuration, free_port
from tests.running_daemon import DATA, RunningDaemon
from tests.waiting import PATIENCE_SECONDS, until

pytestmark = pytest.mark.models

ROOT = Path(__file__).parent.parent
COMMAND = read_wav(DATA / "commands" / "what_time_is_it.wav")
HAPROXY = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")


@contextmanager
def process(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield running
    finally:
        running.kill()
        running.wait(20)


def documented(ports: dict[str, int], control: Path) -> str:
    """Return the configuration in the documentation, for this machine: `ports` by what stands there."""
    found = re.search(r"```haproxy\n(.*?)```", (ROOT / "docs" / "scaling.md").read_text(), re.DOTALL)
    assert found
    text = found[1]
    for name, port in ports.items():
        assert name in text
        text = text.replace(name, f"bind 127.0.0.1:{port}" if name.startswith("bind") else f"127.0.0.1:{port}")
    return text.replace("global\n", f"global\n    stats socket {control}\n", 1)


def states(control: Path) -> dict[str, str]:
    """Return the state of each server of `stt`, such as UP, as HAProxy reports it; nothing until it does."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(10)
        if asking.connect_ex(str(control)):
            return {}
        asking.sendall(b"show stat\n")
        answer = b""
        while more := asking.recv(65_536):
            answer += more
    rows = csv.DictReader(answer.decode().removeprefix("# ").splitlines())
    return {row["svname"]: row["status"] for row in rows if row["pxname"] == "stt"}


async def wait(control: Path, **wanted: str) -> None:
    """Wait until servers of `stt` are in these states."""
    await until(lambda: all(states(control).get(name, "").startswith(state) for name, state in wanted.items()))


async def test_the_death_of_one_costs_its_own_requests_alone(
    daemon: RunningDaemon, models_directory: Path, tmp_path: Path
) -> None:
    assert HAPROXY, "haproxy is missing: scripts/test installs it"
    second, front, control = free_port(), free_port(), tmp_path / "control"
    others = f"commands: {{enabled: false}}\nwake: {{uri: '{daemon.uri}'}}\ntts: {{uri: '{daemon.uri}'}}\n"
    chat = "chat: {providers: [{type: openai, name: nobody, model: m, url: 'http://127.0.0.1:9/v1'}]}\n"
    serve = (*SATELLITE, "--config", str(configuration(tmp_path, models_directory, second, others + chat)), "run")
    ports = {"gpu1:10300": daemon.port("stt_port"), "gpu2:10300": second, "gpu1:10600": daemon.port()}
    ports |= {"gpu2:10600": daemon.port(), "bind :10300": front, "bind :10600": free_port()}
    written = tmp_path / "haproxy.cfg"
    written.write_text(documented(ports, control))
    began: list[float] = []
    failed: list[float] = []

    async def ask(times: int) -> None:
        for _ in range(times):
            at = time.monotonic()
            began.append(at)
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    heard = await client.transcribe(f"tcp://127.0.0.1:{front}", COMMAND)
            except (SatelliteError, ConnectionError):
                failed.append(at)
            else:
                assert "what time is it" in heard.transcript.lower()

    with process(HAPROXY, "-db", "-f", str(written)):
        with process(*serve) as dying:
            await wait(control, gpu1="UP", gpu2="UP")
            await ask(2)
            assert failed == []
            asking = [asyncio.create_task(ask(4)) for _ in range(4)]
            await until(lambda: len(began) >= 6)  # each service has some, and more come
            dying.kill()
            dying.wait(20)
            died = time.monotonic()
            await asyncio.gather(*asking)
        assert [at for at in failed if at >= died] == []
        assert len(failed) <= 4
        await wait(control, gpu2="DOWN")
        with process(*serve):
            await wait(control, gpu2="UP")
            lost = len(failed)
            await ask(2)
            assert len(failed) == lost
