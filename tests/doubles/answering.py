"""One answer of Ollama's: read what is new of the conversation, say it word by word, tell what it cost, or go wrong."""

import asyncio
import re
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from enum import Enum, auto
from typing import TYPE_CHECKING

from satellite.errors import ChatError
from tests.doubles.dialects import Dialect, Said
from tests.doubles.http import Exchange, Refusal
from tests.doubles.residency import DIED, Generation, Runner
from tests.doubles.runner import fitted, prompt_tokens, tokens

if TYPE_CHECKING:
    from tests.doubles.ollama import OllamaServer

_REMEMBERED_GENERATIONS = 10_000


class Fault(Enum):
    """What may go wrong with one chat request."""

    CRASH = auto()
    """500 before the first token."""

    BUSY = auto()
    """503 before the first token."""

    BAD_REQUEST = auto()
    """400: the request is at fault."""

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


class Answer:
    """An answer on its way, and the figures of its last line."""

    def __init__(
        self,
        server: "OllamaServer",
        exchange: Exchange,
        dialect: Dialect,
        runner: Runner,
        began: int,
        fault: Fault | None,
    ) -> None:
        self._server = server
        self._exchange = exchange
        self._dialect = dialect
        self._runner = runner
        self._fault = fault
        self._began = began
        self._loaded = self._started = self._first = time.monotonic_ns()
        self._said = Said()
        self._tokens = 0
        self._figures: dict[str, int] = {}

    async def give(self) -> None:
        """Generate the answer and send it; raises `Refusal`."""
        if self._fault is Fault.HANG:
            await asyncio.Event().wait()
        messages = fitted(self._dialect.asked.messages, self._runner.options["num_ctx"])
        prompt = await self._read(messages)
        try:
            reason = await self._say(messages)
        except ChatError as error:  # the real model behind the words cannot go on
            raise Refusal(500, str(error)) from error
        finally:
            self._runner.cache.remember([*prompt, *tokens(self._said.content)])
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
        limit = self._dialect.asked.longest_answer
        async with aclosing(self._server.paced(self._thoughts_and_words(messages))) as pieces:
            async for piece in pieces:
                if not self._tokens:
                    self._first = time.monotonic_ns()
                self._tokens += 1
                self._said.content += piece.content
                self._said.thinking += piece.thinking
                if self._dialect.asked.stream:
                    await self._send(self._dialect.encoded(self._dialect.piece(piece)))
                if self._fault is not None:
                    await self._break(self._fault)
                    return None
                if self._tokens == limit:
                    return "length"
        return "stop"

    async def _thoughts_and_words(self, messages: list[dict[str, str]]) -> AsyncGenerator[Said, None]:
        if self._dialect.asked.think is not False:
            for thought in re.findall(r"\s*\S+\s*", self._server.thinks):
                yield Said(thinking=thought)
        async with aclosing(self._server.words(messages)) as words:
            async for word in words:
                yield Said(word)

    async def _finish(self, reason: str) -> None:
        self._server.counts.answers += 1
        now = time.monotonic_ns()
        figures = {
            "total_duration": now - self._began,
            "load_duration": self._loaded - self._began,
            **self._figures,
            "prompt_eval_duration": (self._first if self._tokens else now) - self._started,
            "eval_count": self._tokens,
            "eval_duration": now - self._first if self._tokens else 0,
        }
        if not self._dialect.asked.stream:
            return await self._exchange.reply(200, self._dialect.whole(self._said, reason, figures))
        await self._send(self._dialect.encoded(self._dialect.last(reason, figures)) + self._dialect.tail())
        return await self._exchange.end()

    async def _break(self, fault: Fault) -> None:
        """Go wrong, behind the first token."""
        match fault:
            case Fault.STALL:
                await asyncio.Event().wait()
            case Fault.ERROR_LINE:
                raise Refusal(500, DIED)
            case Fault.GARBAGE if not self._dialect.asked.stream:
                return await self._exchange.reply(200, b"<html>")
            case Fault.GARBAGE:
                await self._send(b"<html>\n")
            case Fault.CUT if self._dialect.asked.stream:
                pass
            case _:
                return self._exchange.writer.transport.abort()
        return await self._exchange.end()

    async def _send(self, content: bytes) -> None:
        await self._exchange.send(content, self._dialect.content_type)
