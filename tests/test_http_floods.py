"""Clients that send as much as they can, in the smallest pieces: others are served between any two of them."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from satellite.http.schemas import has_many_values
from tests.room_page import house
from tests.scripted_engine import ScriptedEngine, scripted_stages

pytestmark = pytest.mark.virtual_clock

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
POST = b"POST /chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
READ_BYTES = 4096


def frame(kind: int, content: bytes = b"", *, final: bool = True) -> bytes:
    return bytes([0x80 * final + kind, 0x80 + len(content), *bytes(4)]) + content


TEXT, MORE, PING, PONG = 1, 0, 9, 10
WRONG = frame(TEXT, b"{}")

FLOODS = {
    "pings": (UPGRADE, frame(PING) * 20_000 + WRONG, b"protocol-error"),
    "pongs": (UPGRADE, frame(PONG) * 20_000 + WRONG, b"protocol-error"),
    "fragments": (
        UPGRADE,
        frame(TEXT, b"{", final=False) + frame(MORE, final=False) * 20_000 + frame(MORE, b"}"),
        b"protocol-error",
    ),
    "chunks": (POST, b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n", b"HTTP/1.1 4"),
    "headers": (POST, b"a:b\r\n" * 24_000 + b"Content-Length: 0\r\n\r\n", b"HTTP/1.1 400"),
    "head": (POST, b"a: " + b"b" * 120_000 + b"\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 400"),
}
"""How a connection begins, what follows at once, and what the answer contains."""


@asynccontextmanager
async def connected(folder: Path, begin: bytes) -> AsyncIterator[socket.socket]:
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        async with house(scripted_stages(ScriptedEngine({})), folder) as there:
            raw.connect(("127.0.0.1", there.port))
            raw.setblocking(False)
            await asyncio.get_running_loop().sock_sendall(raw, begin)
            if begin == UPGRADE:
                await received(raw, b"ready")
            yield raw


async def received(raw: socket.socket, wanted: bytes) -> bytes:
    data = b""
    while wanted not in data:
        data += (piece := await asyncio.get_running_loop().sock_recv(raw, 65536))
        assert piece, data[-500:]
    return data


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_leaves_the_event_loop_to_others(flood: str, tmp_path: Path) -> None:
    begin, sent, answer = FLOODS[flood]
    turns = 0
    async with connected(tmp_path, begin) as raw:
        raw.setblocking(True)
        raw.sendall(sent)  # all of it is there before any of it is read
        raw.setblocking(False)
        reading = asyncio.create_task(received(raw, answer))
        while not reading.done():
            turns += 1
            await asyncio.sleep(0)
        await reading
    assert turns >= (
        3 if begin == POST and flood != "chunks" else len(sent) / READ_BYTES
    )  # a head is refused at 16 KiB


async def test_answers_that_nobody_reads_are_not_kept(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with connected(tmp_path, UPGRADE) as raw:
        sent = frame(PING, b"x" * 125) * 100_000
        await loop.sock_sendall(raw, sent)
        await loop.sock_sendall(raw, WRONG)
        assert len(await received(raw, b"protocol-error")) < 0.8 * len(sent)  # of the last ones, answers are read


async def test_a_connection_that_nobody_reads_ends(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with connected(tmp_path, UPGRADE) as raw:
        with pytest.raises(ConnectionError):
            while True:
                await loop.sock_sendall(raw, frame(PING, b"x" * 125) * 1000)
                await asyncio.sleep(0.1)


async def test_a_second_request_that_never_arrives_ends_the_connection(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with connected(tmp_path, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n") as raw:
        await received(raw, b"200 OK")
        with pytest.raises(ConnectionError):
            for _ in range(20):
                await loop.sock_sendall(raw, b"G")
                await asyncio.sleep(5)


MANY = json.dumps(dict.fromkeys(map(str, range(20_000)), 0)).encode()


@pytest.mark.parametrize(
    ("begin", "sent"),
    [
        (POST, b"Content-Length: %d\r\n\r\n%s" % (len(MANY), MANY)),
        (UPGRADE, bytes([0x80 + TEXT, 0xFF, *len(MANY).to_bytes(8), *bytes(4)]) + MANY),
    ],
)
async def test_json_with_thousands_of_mistakes_is_not_described(begin: bytes, sent: bytes, tmp_path: Path) -> None:
    async with connected(tmp_path, begin) as raw:
        await asyncio.get_running_loop().sock_sendall(raw, sent)
        answer = await received(raw, b"more than 5000 values")
        assert (b"HTTP/1.1 413" in answer) is (begin == POST)


def test_values_are_counted_outside_of_texts_in_linear_time() -> None:
    assert not has_many_values(json.dumps({"text": 'a, "b" [c] {d}\\' * 5000}).encode())
    assert all(map(has_many_values, (MANY, b"[" * 6000, b"[0" + b",0" * 5000 + b"]")))
    start = time.process_time()
    assert not has_many_values(b'"' + b'\\"' * 1_000_000)
    assert time.process_time() - start < 5
