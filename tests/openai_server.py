"""A server with the OpenAI-compatible chat API and Groq's ways of refusing, and the HTTP that all stand-ins share.

Real sockets throughout. The words come from whatever the test hands in: the model in the process, or a script.
"""

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Self
from urllib.parse import urlsplit

from satellite.engines import ChatModel, Message

_SSE = "text/event-stream"

Words = Callable[[list[dict[str, str]]], AsyncGenerator[str, None]]
"""Makes the answer to a conversation."""


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
                yield delta.text

    return words


@dataclass
class Exchange:
    """One HTTP request and the answer to it."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any
    writer: asyncio.StreamWriter
    streaming: bool = False

    async def reply(self, status: int, document: Any, headers: Mapping[str, str] | None = None) -> None:
        """Send a whole answer."""
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        lines = [f"HTTP/1.1 {status} -", "Content-Type: application/json", f"Content-Length: {len(content)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + content)
        await self.writer.drain()

    async def send(self, content: bytes, content_type: str) -> None:
        """Send a piece of a streamed answer, the head before the first."""
        if not self.streaming:
            self.streaming = True
            head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n"
            self.writer.write(head.encode())
        self.writer.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
        await self.writer.drain()

    async def end(self) -> None:
        """Complete a streamed answer."""
        self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()


class HttpServer(ABC):
    """HTTP/1.1 with persistent connections on a free port; an answer is abandoned when its client hangs up."""

    def __init__(self) -> None:
        self.url = ""
        self.exchanges: list[Exchange] = []
        self.connections = 0
        """Connections that were ever made."""

        self.asked = asyncio.Event()
        """Set once a request has come in."""

        self.abandoned = asyncio.Event()
        """Set once a client has hung up before its answer was complete."""

        self._tasks: set[asyncio.Task[None]] = set()

    @abstractmethod
    async def answer(self, exchange: Exchange) -> None:
        """Answer one request."""

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening and cut every connection."""
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        begun = b""
        try:
            while (exchange := await _read(begun, reader, writer)) is not None:
                self.exchanges.append(exchange)
                self.asked.set()
                begun = await self._watched(exchange, reader)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:
            pass  # by `__aexit__`; asyncio 3.11 logs it as an error when a connection's task ends cancelled
        finally:
            writer.close()

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
            return await watch
        finally:
            for task in (answer, watch):
                task.cancel()
                with suppress(asyncio.CancelledError, ConnectionError):
                    await task


async def _read(begun: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Exchange | None:
    line = begun + await reader.readline()
    if not line.strip():
        return None
    method, target, _ = line.decode().split()
    headers = {}
    while (header := (await reader.readline()).decode().strip()) != "":
        name, _, value = header.partition(":")
        headers[name.lower()] = value.strip()
    content = await reader.readexactly(int(headers.get("content-length", 0)))
    return Exchange(method, urlsplit(target).path, headers, json.loads(content) if content else None, writer)


class Fault(Enum):
    """What may go wrong with one request."""

    RATE_LIMIT = auto()
    """429 with Retry-After."""

    CRASH = auto()
    """500."""

    OVERLOAD = auto()
    """503."""

    BAD_REQUEST = auto()
    """400, the conversation being too long."""

    HANG = auto()
    """Nothing at all, for ever."""

    STALL = auto()
    """Nothing more after the first token."""

    ERROR_EVENT = auto()
    """An error among the events, behind the first token."""

    CUT = auto()
    """An orderly end, but nothing says that the answer is complete."""

    RESET = auto()
    """The connection breaks behind the first token."""

    GARBAGE = auto()
    """An event that is no JSON."""


class OpenAIServer(HttpServer):
    """One model behind a key."""

    def __init__(self, words: Words, *, key: str | None = None, model: str = "llama-3.1-8b-instant") -> None:
        super().__init__()
        self.words = words
        self.key = key
        """What it takes for the right key; None takes any, and none."""

        self.model = model
        self.repeats_key = False
        """Whether its refusals quote the key that it was given."""

        self.retry_after = "8"
        self.faults: list[Fault] = []
        """One for each of the next requests."""

        self.answers = 0

    @property
    def base_url(self) -> str:
        """What a client is configured with."""
        return f"{self.url}/openai/v1"

    async def answer(self, exchange: Exchange) -> None:
        """Answer one request."""
        given = exchange.headers.get("authorization", "")
        fault = self.faults.pop(0) if self.faults else None
        told = f" {given}" if self.repeats_key else ""
        if exchange.path != "/openai/v1/chat/completions":
            await exchange.reply(404, _error(f"Unknown request URL: {exchange.path}", "unknown_url"))
        elif self.key is not None and given != f"Bearer {self.key}":
            await exchange.reply(401, _error(f"Invalid API Key{told}", "invalid_api_key"))
        elif exchange.body["model"] != self.model:
            message = f"The model `{exchange.body['model']}` does not exist or you do not have access to it."
            await exchange.reply(404, _error(message, "model_not_found"))
        elif fault is Fault.RATE_LIMIT:
            headers = {"retry-after": self.retry_after}
            await exchange.reply(429, _error(f"Rate limit reached.{told}", "rate_limit_exceeded"), headers)
        elif fault is Fault.CRASH:
            await exchange.reply(500, _error(f"Internal Server Error{told}", "internal_server_error"))
        elif fault is Fault.OVERLOAD:
            await exchange.reply(503, _error("Service Unavailable", "service_unavailable"))
        elif fault is Fault.BAD_REQUEST:
            message = f"Please reduce the length of the messages: the context is exceeded.{told}"
            await exchange.reply(400, _error(message, "context_length_exceeded"))
        elif fault is Fault.HANG:
            await asyncio.Event().wait()
        else:
            await self._generate(exchange, fault)

    async def _generate(self, exchange: Exchange, fault: Fault | None) -> None:
        await _send(exchange, self._chunk({"role": "assistant", "content": ""}))
        tokens = 0
        async with aclosing(self.words(exchange.body["messages"])) as words:
            async for piece in words:
                tokens += 1
                await _send(exchange, self._chunk({"content": piece}))
                if fault is not None:
                    return await self._break(exchange, fault)
        self.answers += 1
        usage: dict[str, float] = {"prompt_tokens": 20, "completion_tokens": tokens, "total_tokens": 20 + tokens}
        usage |= {"prompt_time": 0.002, "completion_time": 0.05}
        await _send(exchange, self._chunk({}, finish_reason="stop") | {"x_groq": {"id": "req_1", "usage": usage}})
        await exchange.send(b"data: [DONE]\n\n", _SSE)
        return await exchange.end()

    async def _break(self, exchange: Exchange, fault: Fault) -> None:
        """Go wrong, behind the first token."""
        match fault:
            case Fault.STALL:
                await asyncio.Event().wait()
            case Fault.RESET:
                exchange.writer.transport.abort()
                return
            case Fault.GARBAGE:
                await exchange.send(b"data: <html>\n\n", _SSE)
            case Fault.ERROR_EVENT:
                told = exchange.headers.get("authorization", "") if self.repeats_key else ""
                await _send(exchange, _error(f"over capacity {told}", "over_capacity"))
        await exchange.end()

    def _chunk(self, delta: dict[str, str], *, finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": self.model}
        return {**head, "choices": [choice]}


async def _send(exchange: Exchange, event: dict[str, Any]) -> None:
    await exchange.send(b"data: " + json.dumps(event).encode() + b"\n\n", _SSE)


def _error(message: str, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "code": code}}
