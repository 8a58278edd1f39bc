"""A server with the OpenAI-compatible chat API and Groq's ways of refusing, over real sockets."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from enum import Enum, auto
from typing import Any

from satellite.errors import ChatError
from tests.doubles.http import Exchange, HttpServer, Refusal, Words
from tests.doubles.limits import Limits
from tests.doubles.runner import PrefixCache, prompt_tokens, tokens

_SSE = "text/event-stream"
_CONTEXT_TOKENS = 131_072


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
    """One model behind a key; every setting may be changed at any time."""

    def __init__(
        self,
        words: Words,
        *,
        key: str | None = None,
        model: str = "llama-3.1-8b-instant",
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        super().__init__(host=host, port=port)
        self.words = words
        self.key = key
        """What it takes for the right key; None takes any, and none."""

        self.model = model
        self.repeats_key = False
        """Whether its refusals quote the key that it was given."""

        self.wants_max_completion_tokens = False
        """Whether it refuses max_tokens, as OpenAI's newer models do."""

        self.limits: Limits | None = None
        """How much may be asked of it, as Groq tells with every reply."""

        self.limits_lists = False
        """Whether asking for the list of models uses the limits up, too."""

        self.retry_after = "8"
        """What a `RATE_LIMIT` says."""

        self.faults: list[Fault] = []
        """One for each of the next chat requests."""

        self.answers = 0
        self.cache = PrefixCache()

    @property
    def base_url(self) -> str:
        """What a client is configured with."""
        return f"{self.url}/openai/v1"

    def forget(self) -> None:
        """Read every conversation from its beginning again."""
        self.cache = PrefixCache()

    async def answer(self, exchange: Exchange) -> None:
        """Answer one request."""
        try:
            await self._served(exchange)
        except Refusal as refusal:
            given = exchange.headers.get("authorization", "")
            error = _error(refusal.message + (f" {given}" if self.repeats_key else ""), refusal.code, refusal.param)
            if not exchange.streaming:
                return await exchange.reply(refusal.status, error, refusal.headers)
            await _send(exchange, error)
            await exchange.end()

    async def _served(self, exchange: Exchange) -> None:
        if self.limits is not None:
            exchange.more_headers = self.limits.headers()
        match exchange.method, exchange.path:
            case "POST", "/openai/v1/chat/completions":
                fault = self.faults.pop(0) if self.faults else None
                self._check_key(exchange)
                await self._chat(exchange, fault)
            case "GET", "/openai/v1/models":
                self._check_key(exchange)
                if self.limits is not None and self.limits_lists:
                    self.limits.take(0, self.model)
                await exchange.reply(200, {"object": "list", "data": [self._described()]})
            case _:
                raise Refusal(404, f"Unknown request URL: {exchange.method} {exchange.path}", "unknown_url")

    def _check_key(self, exchange: Exchange) -> None:
        if self.key is not None and exchange.headers.get("authorization", "") != f"Bearer {self.key}":
            raise Refusal(401, "Invalid API Key", "invalid_api_key")

    def _described(self) -> dict[str, Any]:
        head = {"id": self.model, "object": "model", "created": 1, "owned_by": "Meta"}
        return {**head, "active": True, "context_window": _CONTEXT_TOKENS}

    async def _chat(self, exchange: Exchange, fault: Fault | None) -> None:
        body = exchange.body
        if exchange.problem or not isinstance(body, dict) or not isinstance(body.get("messages"), list):
            raise Refusal(400, exchange.problem or "'messages' : property 'messages' is missing", "invalid_request")
        if body.get("model") != self.model:
            message = f"The model `{body.get('model')}` does not exist or you do not have access to it."
            raise Refusal(404, message, "model_not_found")
        if self.wants_max_completion_tokens and "max_tokens" in body:
            message = "Unsupported parameter: 'max_tokens' is not supported with this model."
            refusal = Refusal(400, f"{message} Use 'max_completion_tokens' instead.", "unsupported_parameter")
            refusal.param = "max_tokens"
            raise refusal
        messages = [_message(message) for message in body["messages"]]
        if self.limits is not None:
            self.limits.take(len(prompt_tokens(messages)), self.model)
            exchange.more_headers = self.limits.headers()
        await self._refuse(fault)
        await _Answer(self, exchange, messages).give(fault)

    async def _refuse(self, fault: Fault | None) -> None:
        """Go wrong before the first token."""
        match fault:
            case Fault.RATE_LIMIT:
                refusal = Refusal(429, "Rate limit reached.", "rate_limit_exceeded")
                refusal.headers = {"retry-after": self.retry_after}
                raise refusal
            case Fault.CRASH:
                raise Refusal(500, "Internal Server Error", "internal_server_error")
            case Fault.OVERLOAD:
                raise Refusal(503, "Service Unavailable", "service_unavailable")
            case Fault.BAD_REQUEST:
                message = "Please reduce the length of the messages: the context is exceeded."
                raise Refusal(400, message, "context_length_exceeded")
            case Fault.HANG:
                await asyncio.Event().wait()


class _Answer:
    """An answer on its way, and what it costs."""

    def __init__(self, server: OpenAIServer, exchange: Exchange, messages: list[dict[str, str]]) -> None:
        self._server = server
        self._exchange = exchange
        self._messages = messages
        self._said: list[str] = []
        self._prompt = prompt_tokens(messages)
        self._cached = server.cache.cached(self._prompt)
        self._began = self._first = time.monotonic()

    async def give(self, fault: Fault | None) -> None:
        """Generate the answer and send it; raises `Refusal`."""
        body = self._exchange.body
        streams = bool(body.get("stream"))
        if streams:
            await _send(self._exchange, self._chunk({"role": "assistant", "content": ""}))
        reason = "stop"
        try:
            async with aclosing(self._words()) as words:
                async for word in words:
                    if streams:
                        await _send(self._exchange, self._chunk({"content": word}))
                    if fault is not None:
                        return await self._break(fault)
                    if len(self._said) == (body.get("max_completion_tokens") or body.get("max_tokens")):
                        reason = "length"
                        break
        except ChatError as error:  # the real model behind the words cannot go on
            raise Refusal(500, str(error), "internal_server_error") from error
        finally:
            self._server.cache.remember([*self._prompt, *tokens("".join(self._said))])
        if self._server.limits is not None:
            self._server.limits.spend(len(self._said))
        self._server.answers += 1
        return await (self._finish(reason) if streams else self._exchange.reply(200, self._whole(reason)))

    async def _words(self) -> AsyncGenerator[str, None]:
        async with aclosing(self._server.paced(self._server.words(self._messages))) as words:
            async for word in words:
                if not self._said:
                    self._first = time.monotonic()
                self._said.append(word)
                yield word

    async def _finish(self, reason: str) -> None:
        usage = self._usage()
        last = self._chunk({}, finish_reason=reason) | {"usage": usage, "x_groq": {"id": "req_1", "usage": usage}}
        await _send(self._exchange, last)
        await self._exchange.send(b"data: [DONE]\n\n", _SSE)
        await self._exchange.end()

    def _whole(self, reason: str) -> dict[str, Any]:
        message = {"role": "assistant", "content": "".join(self._said)}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
        return {**self._head("chat.completion"), "choices": [choice], "usage": self._usage()}

    def _usage(self) -> dict[str, Any]:
        prompt, answer = len(self._prompt), len(self._said)
        first = self._first if self._said else time.monotonic()
        return {
            "queue_time": 0.0,
            "prompt_tokens": prompt,
            "prompt_tokens_details": {"cached_tokens": self._cached},
            "prompt_time": first - self._began,
            "completion_tokens": answer,
            "completion_time": time.monotonic() - first,
            "total_tokens": prompt + answer,
        }

    async def _break(self, fault: Fault) -> None:
        """Go wrong, behind the first token."""
        match fault:
            case Fault.STALL:
                await asyncio.Event().wait()
            case Fault.ERROR_EVENT:
                raise Refusal(500, "over capacity", "over_capacity")
            case Fault.GARBAGE if not self._exchange.streaming:
                return await self._exchange.reply(200, b"<html>")
            case Fault.GARBAGE:
                await self._exchange.send(b"data: <html>\n\n", _SSE)
            case Fault.CUT if self._exchange.streaming:
                pass
            case _:
                return self._exchange.writer.transport.abort()
        return await self._exchange.end()

    def _chunk(self, delta: dict[str, str], *, finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": "chatcmpl-1", "object": kind, "created": int(time.time()), "model": self._server.model}


def _message(message: dict[str, Any]) -> dict[str, str]:
    if not isinstance(message, dict) or not isinstance(message.get("content"), str):
        raise Refusal(400, "'messages' : content must be a string", "invalid_request")
    return {"role": str(message.get("role")), "content": message["content"]}


async def _send(exchange: Exchange, event: dict[str, Any]) -> None:
    await exchange.send(b"data: " + json.dumps(event).encode() + b"\n\n", _SSE)


def _error(message: str, code: str, param: str | None) -> dict[str, Any]:
    error = {"message": message, "type": "invalid_request_error", "code": code}
    return {"error": error | ({"param": param} if param else {})}
