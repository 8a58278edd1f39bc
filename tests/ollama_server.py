"""A server with Ollama's native API that behaves as Ollama 0.32 was seen to, over real sockets.

Its words come from whatever the test hands it: the model in the process, or a script. What a request costs a real
one is kept: a model is loaded at first use and again when an option differs, one answer is generated at a time,
headers come with the first token, and generation ends when the client hangs up.
"""

import asyncio
import json
import math
import time
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import takewhile
from typing import Any

from tests.openai_server import Exchange, HttpServer, Words

RELOADING = ("num_ctx", "num_batch", "num_gpu", "num_thread", "use_mmap")
"""Options that cost a reload when they differ from the loaded runner's."""

DEFAULT_KEEP_ALIVE_SECONDS = 300.0
_NDJSON = "application/x-ndjson"


class Fault(Enum):
    """What may go wrong with one chat request."""

    CRASH = auto()
    """500 before the first token."""

    BUSY = auto()
    """503 before the first token."""

    HANG = auto()
    """Nothing at all, for ever."""

    STALL = auto()
    """Nothing more after the first token."""

    ERROR_LINE = auto()
    """An error among the lines, behind the first token."""

    CUT = auto()
    """An orderly end, but without the last line."""

    RESET = auto()
    """The connection breaks behind the first token."""

    GARBAGE = auto()
    """A line that is no JSON."""


@dataclass
class Runner:
    """A loaded model."""

    model: str
    options: dict[str, Any]
    keep_alive_seconds: float
    expires_at: float = math.inf
    prompt: str = ""
    """The last conversation, whose beginning need not be read again."""


@dataclass
class Counts:
    """What has happened so far."""

    loads: int = 0
    reloads: int = 0
    answers: int = 0
    """Answers generated to their end."""

    cached_characters: list[int] = field(default_factory=list)
    """Of each conversation, how much was still known from the one before."""


class OllamaServer(HttpServer):
    """Ollama with one model in memory at a time and OLLAMA_NUM_PARALLEL at 1."""

    def __init__(
        self, words: Words, *, models: tuple[str, ...] = ("smollm2",), max_queue: int = 512, load_seconds: float = 0
    ) -> None:
        super().__init__()
        self.words = words
        self.models = models
        self.max_queue = max_queue
        self.load_seconds = load_seconds
        self.faults: list[Fault] = []
        """One for each of the next chat requests."""

        self.counts = Counts()
        self.runner: Runner | None = None
        self._one = asyncio.Lock()
        self._waiting = 0

    async def answer(self, exchange: Exchange) -> None:
        """Answer one request."""
        match exchange.method, exchange.path:
            case "POST", "/api/chat":
                await self._chat(exchange)
            case "GET", "/api/ps":
                await exchange.reply(200, {"models": self._resident()})
            case "GET", "/":
                await exchange.reply(200, b"Ollama is running")
            case _:
                await exchange.reply(404, b"404 page not found")

    def _resident(self) -> list[dict[str, Any]]:
        """Return what is loaded, after what has expired is gone."""
        if self.runner is not None and self.runner.expires_at <= time.monotonic():
            self.runner = None
        if self.runner is None:
            return []
        left = self.runner.expires_at - time.monotonic()
        return [{"name": self.runner.model, "context_length": self.runner.options["num_ctx"], "left_seconds": left}]

    async def _chat(self, exchange: Exchange) -> None:
        body = exchange.body
        fault = self.faults.pop(0) if self.faults else None
        if body["model"] not in self.models:
            await exchange.reply(404, {"error": f"model '{body['model']}' not found"})
        elif body.get("think") is True:
            await exchange.reply(400, {"error": f'"{body["model"]}" does not support thinking'})
        elif fault is Fault.BUSY or self._waiting >= self.max_queue:
            message = "server busy, please try again.  maximum pending requests exceeded"
            await exchange.reply(503, {"error": message})
        elif fault is Fault.CRASH:
            await exchange.reply(500, {"error": "llama-server process has terminated: exit status 2"})
        else:
            self._waiting += 1
            try:
                async with self._one:
                    await self._run(exchange, await self._loaded(body), fault)
            finally:
                self._waiting -= 1

    async def _loaded(self, body: dict[str, Any]) -> Runner:
        """Return the runner for a request: the one that is there, or after a load a new one."""
        self._resident()
        options = {"num_ctx": 4096} | {k: v for k, v in body.get("options", {}).items() if k in RELOADING}
        asked = body.get("keep_alive")
        if self.runner is None or (self.runner.model, self.runner.options) != (body["model"], options):
            self.counts.reloads += self.runner is not None
            self.runner = None
            await asyncio.sleep(self.load_seconds)  # abandoned here, nothing is loaded afterwards
            self.counts.loads += 1
            self.runner = Runner(body["model"], options, DEFAULT_KEEP_ALIVE_SECONDS)
        if asked is not None:
            self.runner.keep_alive_seconds = math.inf if asked < 0 else asked
        return self.runner

    async def _run(self, exchange: Exchange, runner: Runner, fault: Fault | None) -> None:
        began = time.monotonic_ns()
        try:
            if exchange.body["messages"]:
                await self._generate(exchange, runner, fault, began)
            else:
                reason = "unload" if runner.keep_alive_seconds == 0 else "load"
                await exchange.reply(200, _line(runner.model, "", done=True, done_reason=reason))
        finally:  # the time to live begins when a request ends, however it ends
            runner.expires_at = time.monotonic() + runner.keep_alive_seconds
            self._resident()

    async def _generate(self, exchange: Exchange, runner: Runner, fault: Fault | None, began: int) -> None:
        if fault is Fault.HANG:
            await asyncio.Event().wait()
        prompt = json.dumps(exchange.body["messages"])
        self.counts.cached_characters.append(
            sum(1 for _ in takewhile(_equal, zip(prompt, runner.prompt, strict=False)))
        )
        runner.prompt = prompt
        tokens = 0
        async with aclosing(self.words(exchange.body["messages"])) as words:
            async for piece in words:
                tokens += 1
                await _send(exchange, _line(runner.model, piece))
                if fault is not None:
                    return await _break(exchange, fault)
        self.counts.answers += 1
        figures = {"prompt_eval_count": len(prompt.split()), "eval_count": tokens, "load_duration": 68_000_000}
        figures |= {"prompt_eval_duration": 1_000_000, "eval_duration": time.monotonic_ns() - began}
        await _send(exchange, _line(runner.model, "", done=True, done_reason="stop", **figures))
        return await exchange.end()


async def _break(exchange: Exchange, fault: Fault) -> None:
    """Go wrong, behind the first token."""
    match fault:
        case Fault.STALL:
            await asyncio.Event().wait()
        case Fault.RESET:
            exchange.writer.transport.abort()
        case Fault.GARBAGE:
            await exchange.send(b"<html>\n", _NDJSON)
        case Fault.ERROR_LINE:
            error = "an error was encountered while running the model: unexpected EOF"
            await _send(exchange, {"error": error})
    if fault is not Fault.RESET:
        await exchange.end()


def _line(model: str, content: str, *, done: bool = False, **more: Any) -> dict[str, Any]:
    line = {"model": model, "created_at": "2026-01-01T00:00:00.000000001Z", "done": done, **more}
    return {**line, "message": {"role": "assistant", "content": content}}


async def _send(exchange: Exchange, line: dict[str, Any]) -> None:
    await exchange.send(json.dumps(line).encode() + b"\n", _NDJSON)


def _equal(pair: tuple[str, str]) -> bool:
    return pair[0] == pair[1]
