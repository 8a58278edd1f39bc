"""Sockets to listen on: both families, several hosts, one port; and what cannot be had yet is tried again."""

import asyncio
import logging
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from satellite.config.loader import parse
from satellite.daemon.daemon import Daemon
from satellite.errors import CannotListen
from satellite.net.binding import PortOpener, bound
from tests.command_line import free_port
from tests.waiting import until


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("satellite.net.binding._FIRST_WAIT_SECONDS", 0.05)


@pytest.fixture
def taken() -> Iterator[tuple[socket.socket, int]]:
    """What listens at loopback, and its port."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        yield holder, holder.getsockname()[1]


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
    with ExitStack() as stack:
        sockets = [stack.enter_context(one) for one in await bound(hosts, 0)]
        assert sorted(one.family for one in sockets) == sorted(families)
        (port,) = {one.getsockname()[1] for one in sockets}
        for family in families:
            socket.create_connection(("127.0.0.1" if family == socket.AF_INET else "::1", port)).close()


async def test_a_name_is_what_it_stands_for() -> None:
    sockets = await bound(["localhost"], 0)
    addresses = {one.getsockname()[0] for one in sockets}
    for one in sockets:
        one.close()
    assert addresses
    assert addresses <= {"127.0.0.1", "::1"}


@pytest.mark.parametrize(
    ("host", "reason"),
    [("192.0.2.77", r"192\.0\.2\.77:1234: this machine does not have"), ("nowhere.invalid", "unknown host name")],
)
async def test_what_cannot_be_had_says_why(host: str, reason: str) -> None:
    for _ in range(2):
        with pytest.raises(CannotListen, match=reason) as caught:
            await bound(["127.0.0.1", host], 1234)
        assert (caught.value.code, caught.value.taken) == ("cannot-listen", False)


async def test_a_port_opens_once_it_can(caplog: pytest.LogCaptureFixture, taken: tuple[socket.socket, int]) -> None:
    caplog.set_level(logging.INFO)
    holder, port = taken
    opened: list[socket.socket] = []

    async def open_() -> None:
        opened.extend(await bound(["127.0.0.1"], port))

    ports = PortOpener()
    await ports.open("stt_port", open_)
    await ports.open("stt_port", open_)
    assert ports.closed["stt_port"].taken
    watching = asyncio.create_task(ports.watch())
    holder.close()
    await until(lambda: not ports.closed)
    watching.cancel()
    (one,) = opened
    one.close()
    refused, listening = [record.getMessage() for record in caplog.records]
    assert refused.startswith(f"cannot listen on 127.0.0.1:{port}: address already in use; is another server running")
    assert listening == "stt_port: listening"


CONFIG = """
models: {directory: /nowhere}
wyoming: {host: 127.0.0.1, port: %d, wake_port: %d, stt_port: null, tts_port: null, handle_port: null}
zeroconf: {enabled: false}
http: {port: %d}
"""


def closed_ports(daemon: Daemon) -> dict[str, str]:
    return {one.what: one.text for one in daemon._status.attention() if one.what.startswith("port ")}


async def test_a_daemon_goes_on_without_a_port_and_takes_it_when_it_is_free(taken: tuple[socket.socket, int]) -> None:
    holder, port = taken
    with socket.create_server(("127.0.0.1", 0)) as other:
        http_port, wake_port = other.getsockname()[1], free_port()
        async with Daemon(parse(CONFIG % (port, wake_port, http_port))) as daemon:
            assert daemon.ports == {"wake_port": wake_port}
            closed = closed_ports(daemon)
            assert f"cannot listen on 127.0.0.1:{port}" in closed["port port"]
            assert f"cannot listen on 127.0.0.1:{http_port}" in closed["port http"]
            holder.close()
            other.close()
            await until(lambda: len(daemon.ports) == 3)
            assert closed_ports(daemon) == {}


async def test_http_waits_for_its_token_and_nothing_else_does(tmp_path: Path) -> None:
    file = tmp_path / "token"
    text = f"models: {{directory: {tmp_path}}}\nzeroconf: {{enabled: false}}\nwyoming: {{host: 127.0.0.1}}\n"
    async with Daemon(parse(f"{text}http: {{host: 0.0.0.0, token_file: {file}}}"), free_ports=True) as daemon:
        assert "http" not in daemon.ports
        assert "port" in daemon.ports
        assert f"{file} cannot be read: No such file" in closed_ports(daemon)["port http"]
        file.write_text("of-the-house\n")
        await until(lambda: "http" in daemon.ports)
        assert closed_ports(daemon) == {}
