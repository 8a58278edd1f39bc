"""Connections and the listener: timeouts, admission, eviction, and that a bad client costs one connection."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from wyoming.event import Event

from satellite.errors import CannotListen, DaemonUnreachable, ProtocolError
from satellite.system.process import allow_many_connections
from satellite.wire.connection import Connection, MemoryBudget, Timeouts, dial
from satellite.wire.framing import encode
from satellite.wire.server import AllowedNetworks, Server
from tests.waiting import PATIENCE_SECONDS

QUICK = Timeouts(read_seconds=0.2, write_seconds=0.2)


async def echo(connection: Connection) -> None:
    """Send every event back."""
    async for event in connection:
        await connection.send(event)


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
    """What is sent comes back unchanged."""
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
    """Garbage and a stalled event end the connection with one line in the log and no traceback; others go on."""
    with caplog.at_level(logging.INFO):
        async with serving() as (_, port):
            good = await dial(f"tcp://127.0.0.1:{port}")
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(data)
            assert await closed(reader) == b""
            writer.close()
            await good.send(Event(type="still-here"))
            assert (await answer(good)).type == "still-here"
            await good.close()
    (record,) = caplog.records
    assert "connection closed" in record.message
    assert record.exc_info is None


async def test_a_slow_drip_is_cut_off() -> None:
    """An event whose bytes keep dribbling must still be complete in time."""

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
    """When a client does not take what it asked for, its connection ends and the writer is not kept waiting."""
    async with serving() as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        reader._transport.pause_reading()  # type: ignore[attr-defined]  # a client that does not read
        writer.write(encode(Event(type="x", payload=bytes(1_000_000))) * 16)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while server.connections:
                await asyncio.sleep(0.01)
        writer.transport.abort()


async def test_past_the_limit_the_idlest_connection_goes() -> None:
    """A full house admits the newcomer at the cost of whoever was silent longest."""
    async with serving(max_connections=3) as (server, port):
        connections = []
        for _ in range(3):
            connection = await dial(f"tcp://127.0.0.1:{port}")
            await connection.send(Event(type="hello"))
            await answer(connection)
            connections.append(connection)
        await connections[0].send(Event(type="not-idle"))
        await answer(connections[0])
        newcomer = await dial(f"tcp://127.0.0.1:{port}")
        await newcomer.send(Event(type="welcome"))
        assert (await answer(newcomer)).type == "welcome"
        assert server.connections == 3
        with pytest.raises(StopAsyncIteration):
            await answer(connections[1])
        for connection in (*connections, newcomer):
            await connection.close()


async def test_one_that_only_listens_is_not_idle() -> None:
    """Who is sent something counts as busy for as long as it takes it."""
    async with serving(max_connections=2) as (server, port):
        listener = await dial(f"tcp://127.0.0.1:{port}")
        await listener.send(Event(type="hello"))
        await answer(listener)
        (there,) = server._connections
        silent = await dial(f"tcp://127.0.0.1:{port}")
        await silent.send(Event(type="hello"))
        await answer(silent)
        await there.send(Event(type="word"))
        assert (await answer(listener)).type == "word"
        newcomer = await dial(f"tcp://127.0.0.1:{port}")
        await newcomer.send(Event(type="welcome"))
        assert (await answer(newcomer)).type == "welcome"
        with pytest.raises(StopAsyncIteration):
            await answer(silent)
        await there.send(Event(type="more"))
        assert (await answer(listener)).type == "more"
        for connection in (listener, silent, newcomer):
            await connection.close()


async def test_a_flood_of_tiny_events_leaves_the_others_their_turn() -> None:
    """Of thousands that come in one read, few are handed out at a time."""
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


async def test_a_thousand_idle_connections_disturb_nobody() -> None:
    """With a thousand silent clients, one that speaks is answered."""

    allow_many_connections()
    async with serving(max_connections=2000) as (server, port):
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(1000)]
        connection = await dial(f"tcp://127.0.0.1:{port}")
        await connection.send(Event(type="hello"))
        assert (await answer(connection)).type == "hello"
        assert server.connections == 1001
        await connection.close()
        for _, writer in idle:
            writer.transport.abort()


async def test_closing_ends_every_connection_and_every_task() -> None:
    """After `close` no handler is left, and clients see the end."""
    before = len(asyncio.all_tasks())
    async with serving() as (server, port):
        connection = await dial(f"tcp://127.0.0.1:{port}")
        await connection.send(Event(type="hello"))
        await answer(connection)
        await server.close()
        with pytest.raises(StopAsyncIteration):
            await answer(connection)
        await connection.close()
        assert server.connections == 0
        assert len(asyncio.all_tasks()) == before


async def test_a_port_that_is_taken_is_a_clear_error() -> None:
    """The message names address and reason."""
    async with serving() as (server, port):
        with pytest.raises(CannotListen, match=f"127.0.0.1:{port}.*another server"):
            await server.listen("127.0.0.1", port, echo)


def test_the_memory_of_all_half_received_events_is_bounded() -> None:
    """What one connection reserves is not there for another until it is given back."""
    budget = MemoryBudget(100)
    budget.take(80)
    with pytest.raises(ProtocolError) as caught:
        budget.take(30)
    assert caught.value.code == "protocol-overload"
    budget.give(80)
    budget.take(100)


@pytest.mark.parametrize(
    ("address", "permitted"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("192.168.1.5", True),
        ("10.1.2.3", True),
        ("172.16.0.9", True),
        ("fd00::1", True),
        ("fe80::1%eth0", True),
        ("::ffff:192.168.0.3", True),
        ("::ffff:8.8.8.8", False),
        ("8.8.8.8", False),
        ("2001:4860:4860::8888", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("203.0.113.7", True),
        ("198.51.100.7", False),
        ("169.254.3.4", True),
        ("garbage", False),
    ],
)
def test_admission(address: str, permitted: bool) -> None:
    """Loopback and private ranges may connect, and what `allow` names; nobody else."""
    assert AllowedNetworks(["203.0.113.0/24"]).permits(address) is permitted


async def test_a_peer_outside_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """A refused peer's connection ends without a word, and the log says how to let it in, once."""

    class Nobody(AllowedNetworks):
        def permits(self, host: str) -> bool:
            return False

    with caplog.at_level(logging.INFO):
        async with serving(allowed=Nobody()) as (server, port):
            for _ in range(2):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                assert await closed(reader) == b""
                writer.close()
            assert server.connections == 0
    (record,) = caplog.records
    assert "wyoming.allow" in record.message


@pytest.mark.parametrize(
    "uri", ["tcp://127.0.0.1:1", "127.0.0.1:10600", "tcp://127.0.0.1", "unix:///nowhere", "tcp://[x"]
)
async def test_dialling_nobody_is_a_clear_error(uri: str) -> None:
    """An address where nothing answers, or that is none, is named."""
    with pytest.raises(DaemonUnreachable) as caught:
        await dial(uri)
    assert uri in str(caught.value)
