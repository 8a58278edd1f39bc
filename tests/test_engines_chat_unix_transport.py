"""HTTP over a Unix socket, with a server that is only a socket."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from satellite.engines.chat.unix_transport import unix_transport

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@asynccontextmanager
async def answers(path: Path, sent: bytes) -> AsyncIterator[tuple[httpx.AsyncClient, list[asyncio.StreamWriter]]]:
    """Serve one answer that begins with `sent` and goes on as the test writes it."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writers.append(writer)
        writer.write(sent)

    server = await asyncio.start_unix_server(serve, path)
    async with server, httpx.AsyncClient(transport=unix_transport(path), base_url="http://here", timeout=5) as client:
        yield client, writers
        for writer in writers:
            writer.close()


async def test_an_answer_that_is_cancelled_as_bytes_arrive_leaves_nothing_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with answers(tmp_path / "s", HEAD + b"1\r\na\r\n") as (client, writers):
        async with client.stream("GET", "/") as response:
            parts = response.aiter_raw()
            assert await anext(parts) == b"a"
            task = asyncio.ensure_future(anext(parts))
            for _ in range(10):
                await asyncio.sleep(0)
            writers[0].write(b"1\r\nb\r\n")
            # Callbacks run before those of the sockets that the same turn finds readable.
            asyncio.get_running_loop().call_soon(task.cancel)
            await asyncio.wait([task])
            for _ in range(3):
                await asyncio.sleep(0)
        assert task.cancelled()
    assert caplog.records == []


async def test_a_connection_that_ends_in_the_middle_is_an_error(tmp_path: Path) -> None:
    async with answers(tmp_path / "s", HEAD + b"5\r\na") as (client, writers), client.stream("GET", "/") as response:
        parts = response.aiter_raw()
        assert await anext(parts) == b"a"
        writers[0].close()
        with pytest.raises(httpx.RemoteProtocolError):
            await anext(parts)


async def test_a_socket_that_is_not_there_is_an_error_of_connecting(tmp_path: Path) -> None:
    async with httpx.AsyncClient(transport=unix_transport(tmp_path / "none"), base_url="http://here") as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("/")
    async with answers(tmp_path / "s", b"") as (client, _):
        with pytest.raises(httpx.ReadTimeout):
            await client.get("/", timeout=0.05)


async def test_more_connections_at_once_than_the_server_lets_wait_are_all_made(tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen(0)
        async with httpx.AsyncClient(transport=unix_transport(tmp_path / "s"), base_url="http://here") as client:
            asked = [asyncio.ensure_future(client.get("/", timeout=60)) for _ in range(8)]
            await asyncio.sleep(0.1)
            async with await asyncio.start_unix_server(serve, sock=listening, backlog=1):
                assert [one.status_code for one in await asyncio.gather(*asked)] == [204] * 8
