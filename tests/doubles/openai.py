"""A server with the OpenAI-compatible chat API and Groq's ways of refusing, over real sockets."""

import asyncio
import json
import time
from contextlib import aclosing
from enum import Enum, auto
from typing import Any

from satellite.errors import ChatError
from tests.doubles.http import Exchange, HttpServer, Refusal, Words
from tests.doubles.limits import Limits
from tests.doubles.runner import prompt_tokens

_SSE = "text/event-stream"


class Fault(Enum):
    """What may go wrong with one request, before the first token or, from STALL on, after it."""

    RATE_LIMIT = auto()  # 429 with Retry-After
    CRASH = auto()  # 500
    OVERLOAD = auto()  # 503
    BAD_REQUEST = auto()  # 400, the conversation being too long
    HANG = auto()  # nothing at all, for ever
    STALL = auto()  # nothing more
    ERROR_EVENT = auto()  # an error among the events
    CUT = auto()  # an orderly end, but nothing says that the answer is complete
    RESET = auto()  # the connection breaks
    GARBAGE = auto()  # an event that is no JSON


class OpenAIServer(HttpServer):
    """One model behind a key, whose answers are always streamed; every setting may be changed at any time."""

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
        self.key = key  # what it takes for the right key; None takes any, and none
        self.model = model
        self.repeats_key = False  # whether its refusals quote the key that it was given
        self.wants_max_completion_tokens = False  # whether it refuses max_tokens, as OpenAI's newer models do
        self.limits: Limits | None = None  # how much may be asked of it, as Groq tells with every reply
        self.limits_lists = False  # whether asking for the list of models uses the limits up, too
        self.retry_after = "8"  # what a `RATE_LIMIT` says
        self.faults: list[Fault] = []  # one for each of the next chat requests
        self.answers = 0

    @property
    def base_url(self) -> str:
        """What a client is configured with."""
        return f"{self.url}/openai/v1"

    async def answer(self, exchange: Exchange) -> None:
        try:
            await self._served(exchange)
        except Refusal as refusal:
            given = exchange.headers.get("authorization", "")
            error = {"message": refusal.message + (f" {given}" if self.repeats_key else ""), "code": refusal.code}
            if not exchange.streaming:
                return await exchange.reply(refusal.status, {"error": error}, refusal.headers)
            await _send(exchange, {"error": error})
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
                    self.limits.take()
                await exchange.reply(200, {"object": "list", "data": [{"id": self.model, "object": "model"}]})
            case _:
                raise Refusal(404, f"Unknown request URL: {exchange.method} {exchange.path}", "unknown_url")

    def _check_key(self, exchange: Exchange) -> None:
        if self.key is not None and exchange.headers.get("authorization", "") != f"Bearer {self.key}":
            raise Refusal(401, "Invalid API Key", "invalid_api_key")

    async def _chat(self, exchange: Exchange, fault: Fault | None) -> None:
        body = exchange.body
        if body["model"] != self.model:
            message = f"The model `{body['model']}` does not exist or you do not have access to it."
            raise Refusal(404, message, "model_not_found")
        if self.wants_max_completion_tokens and "max_tokens" in body:
            message = "Unsupported parameter: 'max_tokens' is not supported with this model."
            raise Refusal(400, f"{message} Use 'max_completion_tokens' instead.", "unsupported_parameter")
        if self.limits is not None:
            self.limits.take()
            exchange.more_headers = self.limits.headers()
        await self._refuse(fault)
        await self._stream(exchange, fault)

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

    async def _stream(self, exchange: Exchange, fault: Fault | None) -> None:
        """Generate the answer and send it; raises `Refusal`."""
        longest = exchange.body.get("max_completion_tokens") or exchange.body.get("max_tokens")
        began = first = time.monotonic()
        said, reason = 0, "stop"
        await self._chunk(exchange, {"role": "assistant", "content": ""})
        try:
            async with aclosing(self.paced(self.words(exchange.body["messages"]))) as words:
                async for word in words:
                    first = first if said else time.monotonic()
                    said += 1
                    await self._chunk(exchange, {"content": word})
                    if fault is not None:
                        return await _break(exchange, fault)
                    if said == longest:
                        reason = "length"
                        break
        except ChatError as error:  # the real model behind the words cannot go on
            raise Refusal(500, str(error), "internal_server_error") from error
        self.answers += 1
        usage = {
            "prompt_tokens": len(prompt_tokens(exchange.body["messages"])),
            "prompt_time": first - began,
            "completion_tokens": said,
            "completion_time": time.monotonic() - first,
        }
        await self._chunk(exchange, {}, finish_reason=reason, x_groq={"id": "req_1", "usage": usage})
        await exchange.send(b"data: [DONE]\n\n", _SSE)
        return await exchange.end()

    async def _chunk(
        self, exchange: Exchange, delta: dict[str, str], *, finish_reason: str | None = None, **more: Any
    ) -> None:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        await _send(exchange, {"object": "chat.completion.chunk", "model": self.model, "choices": [choice], **more})


async def _break(exchange: Exchange, fault: Fault) -> None:
    """Go wrong, after the first token."""
    match fault:
        case Fault.STALL:
            await asyncio.Event().wait()
        case Fault.ERROR_EVENT:
            raise Refusal(500, "over capacity", "over_capacity")
        case Fault.RESET:
            return exchange.writer.transport.abort()
        case Fault.GARBAGE:
            await exchange.send(b"data: <html>\n\n", _SSE)
    return await exchange.end()  # of a CUT that is all


async def _send(exchange: Exchange, event: dict[str, Any]) -> None:
    await exchange.send(b"data: " + json.dumps(event).encode() + b"\n\n", _SSE)
