"""Sockets to listen on: both families, several hosts, one port; and what cannot be had yet is tried again."""

import asyncio
import logging
import socket
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from satellite.config.loader import parse
from satellite.daemon.daemon import Daemon
from satellite.errors import AlreadyRunning, CannotListen
from satellite.net.binding import PortOpener, bound
from satellite.wire import client
from tests.waiting import until


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again soon what cannot be had yet."""
    monkeypatch.setattr("satellite.net.binding._FIRST_WAIT_SECONDS", 0.05)


async def taken() -> tuple[list[socket.socket], int]:
    """Return what listens at loopback, and its port."""
    sockets = await bound(["127.0.0.1"], 0)
    return sockets, sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("hosts", "families"),
    [
        (["127.0.0.1"], {socket.AF_INET}),
        (["::1"], {socket.AF_INET6}),
        (["::"], {socket.AF_INET, socket.AF_INET6}),
        (["0.0.0.0", "::"], {socket.AF_INET, socket.AF_INET6}),
        (["0.0.0.0", "127.0.0.1", "127.0.0.1"], {socket.AF_INET}),
        (["127.0.0.1", "::1"], {socket.AF_INET, socket.AF_INET6}),
    ],
)
async def test_every_host_is_listened_at_with_one_port(hosts: Sequence[str], families: set[int]) -> None:
    sockets = await bound(hosts, 0)
    try:
        assert {one.family for one in sockets} == families
        assert len(sockets) == len(families)
        assert len({one.getsockname()[1] for one in sockets}) == 1
        for family in families:
            address = "127.0.0.1" if family == socket.AF_INET else "::1"
            socket.create_connection((address, sockets[0].getsockname()[1])).close()
    finally:
        for one in sockets:
            one.close()


async def test_a_name_is_what_it_stands_for() -> None:
    sockets = await bound(["localhost"], 0)
    assert {one.getsockname()[0] for one in sockets} <= {"127.0.0.1", "::1"}
    assert sockets
    for one in sockets:
        one.close()


@pytest.mark.parametrize(
    ("host", "reason"),
    [("192.0.2.77", r"192\.0\.2\.77:1234: this machine does not have"), ("nowhere.invalid", "unknown host name")],
)
async def test_what_cannot_be_had_says_why(host: str, reason: str) -> None:
    for _ in range(2):
        with pytest.raises(CannotListen, match=reason) as caught:
            await bound(["127.0.0.1", host], 1234)
        assert (caught.value.code, caught.value.taken) == ("cannot-listen", False)


async def test_a_door_opens_once_it_can(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    holders, port = await taken()
    opened: list[socket.socket] = []

    async def open_() -> None:
        opened.extend(await bound(["127.0.0.1"], port))

    ports = PortOpener()
    await ports.open("stt_port", open_)
    await ports.open("stt_port", open_)
    assert ports.closed["stt_port"].taken
    watching = asyncio.create_task(ports.watch())
    for holder in holders:
        holder.close()
    await until(lambda: not ports.closed)
    watching.cancel()
    assert len(opened) == 1
    opened[0].close()
    refused, listening = [record.getMessage() for record in caplog.records]
    assert refused.startswith(f"cannot listen on 127.0.0.1:{port}: address already in use; is another server running")
    assert listening == "stt_port: listening"


CONFIG = """
models: {directory: /nowhere}
wyoming: {host: 127.0.0.1, port: %d, wake_port: null, stt_port: null, tts_port: null, handle_port: null}
zeroconf: {enabled: false}
http: {port: %d}
"""


async def test_a_daemon_goes_on_without_a_port_and_takes_it_when_it_is_free() -> None:
    first, port = await taken()
    second, http_port = await taken()
    free, other_port = await taken()
    free[0].close()
    text = CONFIG % (port, http_port)
    async with Daemon(parse(text.replace("wake_port: null", f"wake_port: {other_port}"))) as daemon:
        assert daemon.ports == {"wake_port": other_port}
        told = {one.what: one.text for one in daemon._status.attention()}
        assert f"cannot listen on 127.0.0.1:{port}" in told["port port"]
        assert f"cannot listen on 127.0.0.1:{http_port}" in told["port http"]
        for holder in (*first, *second):
            holder.close()
        await until(lambda: len(daemon.ports) == 3)
        state = await client.status(f"tcp://127.0.0.1:{port}")
        assert not [one for one in state["attention"] if one["what"].startswith("port ")]


async def test_a_second_daemon_says_so_and_ends() -> None:
    free, port = await taken()
    more, http_port = await taken()
    with closing(free[0]), closing(more[0]):
        pass
    async with Daemon(parse(CONFIG % (port, http_port))) as first:
        with pytest.raises(AlreadyRunning, match=f"runs already at tcp://127.0.0.1:{port}"):
            async with Daemon(parse(CONFIG % (port, http_port))):
                raise AssertionError
        assert first.ports == {"port": port, "http": http_port}


async def test_http_waits_for_its_token_and_nothing_else_does(tmp_path: Path) -> None:
    file = tmp_path / "token"
    text = f"models: {{directory: {tmp_path}}}\nzeroconf: {{enabled: false}}\nwyoming: {{host: 127.0.0.1}}\n"
    async with Daemon(parse(f"{text}http: {{host: 0.0.0.0, token_file: {file}}}"), free_ports=True) as daemon:
        assert "http" not in daemon.ports
        assert "port" in daemon.ports
        told = {one.what: one.text for one in daemon._status.attention()}
        assert f"{file} cannot be read: No such file" in told["port http"]
        file.write_text("of-the-house\n")
        await until(lambda: "http" in daemon.ports)
        assert "port http" not in {one.what for one in daemon._status.attention()}
