"""`/api/chat`: read what is new of the conversation, answer word by word with what it cost, or go wrong."""

import asyncio
import json
import time
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from satellite.errors import ChatError
from tests.doubles.http import Exchange, Refusal
from tests.doubles.residency import DIED, Generation, Runner
from tests.doubles.runner import integer, keep_alive_seconds, prompt_tokens, timestamp, tokens

if TYPE_CHECKING:
    from tests.doubles.ollama import OllamaServer

LINES = "application/x-ndjson"
_REMEMBERED_GENERATIONS = 10_000


class Fault(Enum):
    """What may go wrong with one chat request."""

    CRASH = auto()  # 500 before the first token
    BUSY = auto()  # 503 before the first token
    BAD_REQUEST = auto()  # 400: the request is at fault
    HANG = auto()  # Nothing at all, for ever
    STALL = auto()  # Nothing more after the first token
    ERROR_LINE = auto()  # An error among the lines, behind the first token
    CUT = auto()  # An orderly end, but without the last line
    RESET = auto()  # The connection breaks behind the first token
    GARBAGE = auto()  # A line that is no JSON


@dataclass(frozen=True, slots=True)
class Asked:
    """A request."""

    model: str
    messages: list[dict[str, str]]
    options: Mapping[str, Any]
    keep_alive_seconds: float | None
    stream: bool

    @classmethod
    def read(cls, body: Any) -> "Asked":
        """Read the body of a request; raises `Refusal`."""
        try:
            return cls(
                model=str(body["model"]),
                messages=[
                    {"role": str(message["role"]), "content": str(message.get("content") or "")}
                    for message in body.get("messages") or ()
                ],
                options=dict(body.get("options") or {}),
                keep_alive_seconds=keep_alive_seconds(body.get("keep_alive")),
                stream=body.get("stream") is not False,
            )
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise Refusal(400, str(error)) from error

    @property
    def is_ping(self) -> bool:
        """Whether there is nothing to answer: the model is to be loaded or unloaded."""
        return not self.messages

    @property
    def unloads(self) -> bool:
        """Whether the model is to be unloaded; Ollama looks at whole seconds."""
        return self.is_ping and self.keep_alive_seconds is not None and self.keep_alive_seconds < 1

    @property
    def longest_answer(self) -> int | None:
        """How many tokens the answer may have; 0 and less are no limit."""
        limit = integer(self.options, "num_predict", -1)
        return limit if limit > 0 else None

    def line(self, content: str = "", reason: str = "", figures: Mapping[str, int] | None = None) -> dict[str, Any]:
        """Return a line of an answer: the last one, or all of it, if there is a `reason` why it ends."""
        head = {"model": self.model, "created_at": timestamp(time.time_ns())}
        ending = {"done": True, "done_reason": reason, **(figures or {})} if reason else {"done": False}
        return {**head, "message": {"role": "assistant", "content": content}, **ending}


class Answer:
    """An answer on its way, and the figures of its last line."""

    def __init__(
        self, server: "OllamaServer", exchange: Exchange, asked: Asked, runner: Runner, began: int, fault: Fault | None
    ) -> None:
        self._server = server
        self._exchange = exchange
        self._asked = asked
        self._runner = runner
        self._fault = fault
        self._began = began
        self._loaded = self._started = self._first = time.monotonic_ns()
        self._said = ""
        self._tokens = 0
        self._figures: dict[str, int] = {}

    async def give(self) -> None:
        """Generate the answer and send it; raises `Refusal`."""
        if self._fault is Fault.HANG:
            await asyncio.Event().wait()
        prompt = await self._read(self._asked.messages)
        try:
            reason = await self._say(self._asked.messages)
        except ChatError as error:  # the real model behind the words cannot go on
            raise Refusal(500, str(error)) from error
        finally:
            self._runner.cache.remember([*prompt, *tokens(self._said)])
        if reason is not None:
            await self._finish(reason)

    async def _read(self, messages: list[dict[str, str]]) -> list[str]:
        """Take the time for what the runner does not know yet."""
        prompt = prompt_tokens(messages)
        cached = self._runner.cache.cached(prompt)
        evaluated = len(prompt) - cached
        generations = self._server.counts.generations
        generations.append(Generation(evaluated, cached))
        del generations[:-_REMEMBERED_GENERATIONS]
        if self._server.counts_cached_tokens:
            self._figures = {"prompt_eval_count": len(prompt), "prompt_eval_cached_count": cached}
        else:
            self._figures = {"prompt_eval_count": evaluated}
        self._started = time.monotonic_ns()
        await asyncio.sleep(evaluated * self._server.prefill_seconds_per_token)
        return prompt

    async def _say(self, messages: list[dict[str, str]]) -> str | None:
        """Send the words; return why there are no more, or None when the answer has gone wrong."""
        limit = self._asked.longest_answer
        async with aclosing(self._server.paced(self._server.words(messages))) as pieces:
            async for piece in pieces:
                if not self._tokens:
                    self._first = time.monotonic_ns()
                self._tokens += 1
                self._said += piece
                if self._asked.stream:
                    await self._send(self._asked.line(piece))
                if self._fault is not None:
                    await self._break(self._fault)
                    return None
                if self._tokens == limit:
                    return "length"
        return "stop"

    async def _finish(self, reason: str) -> None:
        now = time.monotonic_ns()
        figures = {
            "total_duration": now - self._began,
            "load_duration": self._loaded - self._began,
            **self._figures,
            "prompt_eval_duration": (self._first if self._tokens else now) - self._started,
            "eval_count": self._tokens,
            "eval_duration": now - self._first if self._tokens else 0,
        }
        if not self._asked.stream:
            return await self._exchange.reply(200, self._asked.line(self._said, reason, figures))
        await self._send(self._asked.line("", reason, figures))
        return await self._exchange.end()

    async def _break(self, fault: Fault) -> None:
        """Go wrong, behind the first token."""
        match fault:
            case Fault.STALL:
                await asyncio.Event().wait()
            case Fault.ERROR_LINE:
                raise Refusal(500, DIED)
            case Fault.GARBAGE if not self._asked.stream:
                return await self._exchange.reply(200, b"<html>")
            case Fault.GARBAGE:
                await self._exchange.send(b"<html>\n", LINES)
            case Fault.CUT if self._asked.stream:
                pass
            case _:
                return self._exchange.writer.transport.abort()
        return await self._exchange.end()

    async def _send(self, line: Mapping[str, Any]) -> None:
        await self._exchange.send(json.dumps(line).encode() + b"\n", LINES)
