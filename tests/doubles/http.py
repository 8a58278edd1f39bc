"""The HTTP server of all stand-ins, over real sockets, and the sources of their words."""

import asyncio
import json
import socket
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from satellite.engines.protocols import ChatModel, Message

_REMEMBERED_EXCHANGES = 10_000

Piece = TypeVar("Piece")
# Makes the answer to a conversation, a token at a time.
Words = Callable[[list[dict[str, str]]], AsyncGenerator[str, None]]


def script(*pieces: str) -> Words:
    """Return words that are always the same."""

    async def words(_: list[dict[str, str]]) -> AsyncGenerator[str, None]:
        for piece in pieces:
            yield piece

    return words


def dictated(queue: "asyncio.Queue[str | None]") -> Words:
    """Return words that come when the test puts them into `queue`; None ends the answer."""

    async def words(_: list[dict[str, str]]) -> AsyncGenerator[str, None]:
        while (piece := await queue.get()) is not None:
            yield piece

    return words


def thought_by(model: ChatModel) -> Words:
    """Return the words of a real model."""

    async def words(messages: list[dict[str, str]]) -> AsyncGenerator[str, None]:
        async with aclosing(model.stream([Message(**message) for message in messages])) as deltas:
            async for delta in deltas:
                if delta.text:  # the last one has only figures
                    yield delta.text

    return words


class Refusal(Exception):
    """An error response in place of an answer."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers: dict[str, str] = {}


@dataclass
class Exchange:
    """One HTTP request and the answer to it."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any
    writer: asyncio.StreamWriter
    thawed: asyncio.Event
    problem: str = ""  # why the body is no JSON
    streaming: bool = False
    more_headers: dict[str, str] = field(default_factory=dict)  # sent with whatever answer

    async def reply(self, status: int, document: Any, headers: Mapping[str, str] | None = None) -> None:
        """Send a whole answer: bytes as plain text, anything else as JSON."""
        is_text = isinstance(document, bytes)
        content = document if is_text else json.dumps(document).encode()
        kind = f"{'text/plain' if is_text else 'application/json'}; charset=utf-8"
        head = self._head(status, {"Content-Type": kind, "Content-Length": str(len(content))} | dict(headers or {}))
        await self._write(head + (b"" if self.method == "HEAD" else content))

    async def send(self, content: bytes, content_type: str) -> None:
        """Send a piece of a streamed answer, the head before the first."""
        head = b""
        if not self.streaming:
            self.streaming = True
            head = self._head(200, {"Content-Type": content_type, "Transfer-Encoding": "chunked"})
        await self._write(head + f"{len(content):x}\r\n".encode() + content + b"\r\n")

    async def end(self) -> None:
        """Complete a streamed answer."""
        await self._write(b"0\r\n\r\n")

    def _head(self, status: int, headers: dict[str, str]) -> bytes:
        lines = [f"{name}: {value}" for name, value in (self.more_headers | headers).items()]
        return "\r\n".join([f"HTTP/1.1 {status} -", *lines, "", ""]).encode()

    async def _write(self, content: bytes) -> None:
        await self.thawed.wait()
        self.writer.write(content)
        await self.writer.drain()


class HttpServer(ABC):
    """HTTP/1.1 with persistent connections; an answer is abandoned when its client hangs up.

    It can be killed and started again on its port, and frozen, at any moment.
    """

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.host = host
        self.port = port  # where it listens; 0 becomes a free one at the first start
        self.exchanges: list[Exchange] = []  # the last 10,000
        self.connections = 0  # connections that were ever made
        self.asked = asyncio.Event()  # set once a request has come in
        self.abandoned = asyncio.Event()  # set once a client has hung up before its answer was complete
        self.first_token_seconds = 0.0  # how long the first token of an answer takes longer than it needs to
        self.seconds_per_token = 0.0  # the same for each of the others
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._server: asyncio.Server | None = None
        self._reserved: socket.socket | None = None
        self._life = 0
        self._connected: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @abstractmethod
    async def answer(self, exchange: Exchange) -> None:
        """Answer one request."""

    def forget(self) -> None:  # noqa: B027  # most have nothing to forget
        """Lose the state that ends with the process."""

    async def start(self) -> None:
        """Listen; raises `OSError` where another program has the port."""
        self._free_port()
        self._thawed.set()
        self._life += 1
        self._server = await asyncio.start_server(partial(self._serve, self._life), self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """End like a killed process: the port is closed, every connection is cut, all state is lost."""
        if self._server is None:
            return
        self._server.close()
        # Bound, but not listening: no other program gets the port, and no client that tries it is connected to itself.
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.bind((self.host, self.port))
        await self._cut()

    async def _cut(self) -> None:
        self._server = None
        self._life += 1
        tasks = list(self._connected)
        for task, writer in self._connected.items():
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.forget()

    def freeze(self) -> None:
        """Answer nothing from now on, like a stopped process; connections are still accepted."""
        self._thawed.clear()

    def thaw(self) -> None:
        """Continue with everything that was held up."""
        self._thawed.set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
            await self._cut()
        self._free_port()

    async def paced(self, pieces: AsyncGenerator[Piece, None]) -> AsyncGenerator[Piece, None]:
        """Yield `pieces` as slowly as is set at the moment."""
        async with aclosing(pieces):
            await asyncio.sleep(self.first_token_seconds)
            async for piece in pieces:
                yield piece
                await asyncio.sleep(self.seconds_per_token)

    def _free_port(self) -> None:
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None

    async def _serve(self, life: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if life != self._life:  # it was accepted, but the server has been killed since
            writer.transport.abort()
            return
        self._connected[task] = writer
        self.connections += 1
        try:
            await self._converse(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:
            pass  # by `stop`; asyncio 3.11 logs it as an error when a connection's task ends cancelled
        finally:
            del self._connected[task]
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun = b""
        while (exchange := await _read(begun, reader, writer, self._thawed)) is not None:
            await self._thawed.wait()  # a frozen server has not seen the request
            self.exchanges.append(exchange)
            del self.exchanges[:-_REMEMBERED_EXCHANGES]
            self.asked.set()
            begun = await self._watched(exchange, reader)
            if exchange.headers.get("connection", "").lower() == "close":
                return

    async def _watched(self, exchange: Exchange, reader: asyncio.StreamReader) -> bytes:
        """Answer, unless the client hangs up before; return what it has sent of its next request."""
        answer = asyncio.create_task(self.answer(exchange))
        watch = asyncio.create_task(reader.read(1))
        try:
            await asyncio.wait([answer, watch], return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise ConnectionResetError
            await answer
        except ConnectionError:
            self.abandoned.set()
            raise
        else:
            if exchange.headers.get("connection", "").lower() == "close":
                return b""
            return await watch
        finally:
            for task in (answer, watch):
                task.cancel()
                with suppress(asyncio.CancelledError, ConnectionError):
                    await task


async def _read(
    begun: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, thawed: asyncio.Event
) -> Exchange | None:
    """Return the next request; None at the end of the connection, and for what is no HTTP."""
    line = begun + await reader.readline()
    try:
        method, target, _ = line.decode().split()
        headers = {}
        while (header := (await reader.readline()).decode().strip()) != "":
            name, _, value = header.partition(":")
            headers[name.lower()] = value.strip()
        content = await reader.readexactly(int(headers.get("content-length", 0)))
    except ValueError:
        return None
    body, problem = _parsed(content)
    return Exchange(method, urlsplit(target).path, headers, body, writer, thawed, problem)


def _parsed(content: bytes) -> tuple[Any, str]:
    if not content:
        return None, "missing request body"
    try:
        return json.loads(content), ""
    except (ValueError, RecursionError) as error:
        return None, f"invalid request body: {error}"
