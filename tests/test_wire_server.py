"""Connections and the listener: timeouts, admission, eviction, and that a bad client costs one connection."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing

import pytest
from wyoming.event import Event

from satellite.errors import CannotListen, DaemonUnreachable, ProtocolError
from satellite.wire.connection import Connection, MemoryBudget, Timeouts, dial
from satellite.wire.framing import encode
from satellite.wire.server import AllowedNetworks, Handler, Server
from tests.waiting import PATIENCE_SECONDS, until

QUICK = Timeouts(read_seconds=0.2, write_seconds=0.2)


async def echo(connection: Connection) -> None:
    async for event in connection:
        await connection.send(event)


@asynccontextmanager
async def serving(
    handler: Handler = echo, *, max_connections: int = 100, allowed: AllowedNetworks | None = None
) -> AsyncIterator[tuple[Server, int]]:
    server = Server(allowed or AllowedNetworks(), QUICK, max_connections=max_connections)
    try:
        yield server, await server.listen("127.0.0.1", 0, handler)
    finally:
        await server.close()


class Clients(AsyncExitStack):
    """Connections to an echo server, closed at the end."""

    async def greeted(self, port: int) -> Connection:
        """Return a new connection over which an event has gone both ways."""
        connection = await dial(f"tcp://127.0.0.1:{port}")
        self.push_async_callback(connection.close)
        await echoed(connection, Event(type="hello"))
        return connection


async def echoed(connection: Connection, event: Event) -> None:
    await connection.send(event)
    assert await answer(connection) == event


async def answer(connection: Connection) -> Event | None:
    """Return the next event, None at the end."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await anext(aiter(connection), None)


async def closed(reader: asyncio.StreamReader) -> bool:
    """Return whether nothing comes before the peer closes."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await reader.read() == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("data", [b"garbage\n", encode(Event(type="x", payload=b"1234"))[:-2]])
async def test_a_broken_client_loses_its_connection_and_leaves_one_line(
    data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        async with serving() as (_, port), Clients() as clients:
            good = await clients.greeted(port)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with closing(writer):
                writer.write(data)
                assert await closed(reader)
            await echoed(good, Event(type="still-here"))
    (record,) = caplog.records
    assert "connection closed" in record.message
    assert record.exc_info is None


async def test_a_slow_drip_is_cut_off() -> None:
    async with serving() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b'{"type": "x", "payload_length": 1000}\n')
        cut_off = asyncio.create_task(closed(reader))
        while not cut_off.done():
            writer.write(b"x")
            await asyncio.sleep(0.02)
        assert cut_off.result()
        writer.close()


async def test_a_client_that_never_reads_is_cut_off() -> None:
    async with serving() as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        reader._transport.pause_reading()  # type: ignore[attr-defined]  # a client that does not read
        writer.write(encode(Event(type="x", payload=bytes(1_000_000))) * 16)
        await until(lambda: not server._connections)
        writer.transport.abort()


async def test_past_the_limit_the_connection_goes_that_has_been_idle_in_both_directions_for_longest() -> None:
    async with serving(max_connections=3) as (server, port), Clients() as clients:
        listener = await clients.greeted(port)
        (to_listener,) = server._connections
        idlest, talking = await clients.greeted(port), await clients.greeted(port)
        await echoed(talking, Event(type="not-idle", data={"ä": 1}, payload=bytes(100_000)))
        await to_listener.send(Event(type="word"))
        assert await answer(listener) == Event(type="word")
        newcomer = await clients.greeted(port)
        assert len(server._connections) == 3
        assert await answer(idlest) is None
        for connection in (listener, talking, newcomer):
            await echoed(connection, Event(type="still-here"))


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

    async with serving(count) as (_, port), asyncio.timeout(PATIENCE_SECONDS):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b'{"type":"x"}\n' * 4_000 + b'{"type":"last"}\n')
        while not done.is_set():
            in_a_row = 0
            await asyncio.sleep(0)
        writer.close()
    assert longest <= 8


async def test_closing_ends_every_connection_and_every_task() -> None:
    before = len(asyncio.all_tasks())
    async with serving() as (server, port), Clients() as clients:
        connection = await clients.greeted(port)
        await server.close()
        assert await answer(connection) is None
        assert len(server._connections) == 0
        assert len(asyncio.all_tasks()) == before


async def test_a_port_that_is_taken_is_a_clear_error() -> None:
    async with serving() as (server, port):
        with pytest.raises(CannotListen, match=f"127.0.0.1:{port}.*another server"):
            await server.listen("127.0.0.1", port, echo)


def test_the_memory_of_all_half_received_events_is_bounded() -> None:
    budget = MemoryBudget(100)
    budget.take(80)
    with pytest.raises(ProtocolError, check=lambda error: error.code == "protocol-overload"):
        budget.take(30)
    budget.give(80)
    budget.take(100)


def test_only_the_house_and_what_is_named_may_connect() -> None:
    allowed = AllowedNetworks(["203.0.113.0/24"])
    inside = (
        *("127.0.0.1", "::1", "192.168.1.5", "10.1.2.3", "172.16.0.9", "169.254.3.4"),
        *("fd00::1", "fe80::1%eth0", "::ffff:192.168.0.3", "203.0.113.7"),
    )
    outside = ("::ffff:8.8.8.8", "8.8.8.8", "2001:4860:4860::8888", "100.64.0.1", "0.0.0.0", "198.51.100.7", "garbage")
    assert [address for address in inside if not allowed.permits(address)] == []
    assert [address for address in outside if allowed.permits(address)] == []


async def test_a_peer_outside_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    class Nobody(AllowedNetworks):
        def permits(self, host: str) -> bool:
            return False

    with caplog.at_level(logging.INFO):
        async with serving(allowed=Nobody()) as (server, port):
            for _ in range(2):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                with closing(writer):
                    assert await closed(reader)
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
