"""Connections and the listener: timeouts, admission, eviction, and that a bad client costs one connection."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from wyoming.event import Event

from satellite.errors import CannotListen, DaemonUnreachable, ProtocolError
from satellite.wire.connection import Connection, MemoryBudget, Timeouts, dial
from satellite.wire.framing import encode
from satellite.wire.server import AllowedNetworks, Server
from tests.waiting import PATIENCE_SECONDS

QUICK = Timeouts(read_seconds=0.2, write_seconds=0.2)


async def echo(connection: Connection) -> None:
    """Send every event back."""
    async for event in connection:
        await connection.send(event)


async def greeted(port: int, type_: str = "hello") -> Connection:
    """Return a new connection over which an event has gone both ways."""
    connection = await dial(f"tcp://127.0.0.1:{port}")
    await say(connection, type_)
    return connection


async def say(connection: Connection, type_: str) -> None:
    """Send an event, and wait for its echo."""
    await connection.send(Event(type=type_))
    assert (await answer(connection)).type == type_


@asynccontextmanager
async def serving(
    timeouts: Timeouts = QUICK, *, max_connections: int = 100, allowed: AllowedNetworks | None = None
) -> AsyncIterator[tuple[Server, int]]:
    """Run an echo server on a free port."""
    server = Server(allowed or AllowedNetworks(), timeouts, max_connections=max_connections)
    try:
        yield server, await server.listen("127.0.0.1", 0, echo)
    finally:
        await server.close()


async def answer(connection: Connection) -> Event:
    """Return the next event."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await anext(aiter(connection))


async def closed(reader: asyncio.StreamReader) -> bytes:
    """Return what still comes until the peer closes."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await reader.read()
    except ConnectionError:
        return b""


async def test_events_go_both_ways() -> None:
    async with serving() as (_, port):
        connection = await dial(f"tcp://127.0.0.1:{port}")
        event = Event(type="x", data={"ä": 1}, payload=bytes(100_000))
        await connection.send(event)
        assert await answer(connection) == event
        await connection.close()
        await connection.close()


@pytest.mark.parametrize("data", [b"garbage\n", encode(Event(type="x", payload=b"1234"))[:-2]])
async def test_a_broken_client_loses_its_connection_and_leaves_one_line(
    data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        async with serving() as (_, port):
            good = await greeted(port)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(data)
            assert await closed(reader) == b""
            writer.close()
            await say(good, "still-here")
            await good.close()
    (record,) = caplog.records
    assert "connection closed" in record.message
    assert record.exc_info is None


async def test_a_slow_drip_is_cut_off() -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"x")
            await asyncio.sleep(0.02)

    async with serving() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b'{"type": "x", "payload_length": 1000}\n')
        dripping = asyncio.create_task(drip(writer))
        assert await closed(reader) == b""
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)
        writer.close()


async def test_a_client_that_never_reads_is_cut_off() -> None:
    async with serving() as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        reader._transport.pause_reading()  # type: ignore[attr-defined]  # a client that does not read
        writer.write(encode(Event(type="x", payload=bytes(1_000_000))) * 16)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while server._connections:
                await asyncio.sleep(0.01)
        writer.transport.abort()


async def test_past_the_limit_the_idlest_connection_goes() -> None:
    async with serving(max_connections=3) as (server, port):
        connections = [await greeted(port) for _ in range(3)]
        await say(connections[0], "not-idle")
        newcomer = await greeted(port)
        assert len(server._connections) == 3
        with pytest.raises(StopAsyncIteration):
            await answer(connections[1])
        for connection in (*connections, newcomer):
            await connection.close()


async def test_one_that_only_listens_is_not_idle() -> None:
    async with serving(max_connections=2) as (server, port):
        listener = await greeted(port)
        (there,) = server._connections
        silent = await greeted(port)
        await there.send(Event(type="word"))
        assert (await answer(listener)).type == "word"
        newcomer = await greeted(port)
        with pytest.raises(StopAsyncIteration):
            await answer(silent)
        await there.send(Event(type="more"))
        assert (await answer(listener)).type == "more"
        for connection in (listener, silent, newcomer):
            await connection.close()


async def test_a_flood_of_tiny_events_leaves_the_others_their_turn() -> None:
    in_a_row = longest = 0
    done = asyncio.Event()

    async def count(connection: Connection) -> None:
        nonlocal in_a_row, longest
        async for event in connection:
            in_a_row += 1
            longest = max(longest, in_a_row)
            if event.type == "last":
                done.set()

    async def others() -> None:
        nonlocal in_a_row
        while not done.is_set():
            in_a_row = 0
            await asyncio.sleep(0)

    server = Server(AllowedNetworks(), QUICK, max_connections=2)
    port = await server.listen("127.0.0.1", 0, count)
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b'{"type":"x"}\n' * 4_000 + b'{"type":"last"}\n')
    async with asyncio.timeout(PATIENCE_SECONDS):
        await others()
    writer.close()
    await server.close()
    assert longest <= 8


async def test_closing_ends_every_connection_and_every_task() -> None:
    before = len(asyncio.all_tasks())
    async with serving() as (server, port):
        connection = await greeted(port)
        await server.close()
        with pytest.raises(StopAsyncIteration):
            await answer(connection)
        await connection.close()
        assert len(server._connections) == 0
        assert len(asyncio.all_tasks()) == before


async def test_a_port_that_is_taken_is_a_clear_error() -> None:
    async with serving() as (server, port):
        with pytest.raises(CannotListen, match=f"127.0.0.1:{port}.*another server"):
            await server.listen("127.0.0.1", port, echo)


def test_the_memory_of_all_half_received_events_is_bounded() -> None:
    budget = MemoryBudget(100)
    budget.take(80)
    with pytest.raises(ProtocolError) as caught:
        budget.take(30)
    assert caught.value.code == "protocol-overload"
    budget.give(80)
    budget.take(100)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "::1", "192.168.1.5", "10.1.2.3", "172.16.0.9", "169.254.3.4"),
        *("fd00::1", "fe80::1%eth0", "::ffff:192.168.0.3", "203.0.113.7"),
    ],
)
def test_the_house_and_what_is_named_may_connect(address: str) -> None:
    assert AllowedNetworks(["203.0.113.0/24"]).permits(address)


@pytest.mark.parametrize(
    "address",
    ["::ffff:8.8.8.8", "8.8.8.8", "2001:4860:4860::8888", "100.64.0.1", "0.0.0.0", "198.51.100.7", "garbage"],
)
def test_nobody_else_may_connect(address: str) -> None:
    assert not AllowedNetworks(["203.0.113.0/24"]).permits(address)


async def test_a_peer_outside_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    class Nobody(AllowedNetworks):
        def permits(self, host: str) -> bool:
            return False

    with caplog.at_level(logging.INFO):
        async with serving(allowed=Nobody()) as (server, port):
            for _ in range(2):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                assert await closed(reader) == b""
                writer.close()
            assert len(server._connections) == 0
    (record,) = caplog.records
    assert "wyoming.allow" in record.message


@pytest.mark.parametrize(
    "uri", ["tcp://127.0.0.1:1", "127.0.0.1:10600", "tcp://127.0.0.1", "unix:///nowhere", "tcp://[x"]
)
async def test_dialling_nobody_is_a_clear_error(uri: str) -> None:
    with pytest.raises(DaemonUnreachable) as caught:
        await dial(uri)
    assert uri in str(caught.value)
