"""OpenAI's streaming chat completions, as hosted servers, servers at home and llama.cpp's own offer them."""

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from satellite.engines.protocols import ChatStats

if TYPE_CHECKING:
    import httpx

_TAIL_SECONDS = 1.0
"""Time for the rest of an HTTP answer once the model's own is complete."""

_NO_CHUNKS = ("", "[DONE]")
"""Data of events without content: a heartbeat, and the last event."""

_TIMINGS = frozenset({"cache_n", "prompt_n", "predicted_n", "prompt_ms", "predicted_ms"})
"""The figures of llama.cpp that are used; older versions of its server, and its relatives, lack some."""


class ServerError(Exception):
    """The server refused a request, or reported an error in the middle of an answer."""

    def __init__(self, status: int, reason: str, headers: Mapping[str, str]) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = headers


def failures(*more: type[Exception]) -> tuple[type[Exception], ...]:
    """Return what requests and answers raise (refusals, lost connections, deadlines, invalid JSON), and `more`."""
    import httpx  # not at the top: engines are built before the daemon listens, and this takes tenths of a second

    # InvalidURL: a redirection may lead to anything.
    return (ServerError, httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, TimeoutError, ValueError, *more)


@dataclass(frozen=True, slots=True)
class Chunk:
    """One event of an answer."""

    text: str
    finish_reason: str | None
    stats: ChatStats | None


class Completion:
    """One answer as it arrives. `begin` it, take `next` until there is no more, and close it in any case."""

    def __init__(self, response: "httpx.Response") -> None:
        from httpx_sse import EventSource

        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._events = EventSource(response).aiter_sse()

    @classmethod
    async def begin(cls, client: "httpx.AsyncClient", request: dict[str, object]) -> "Completion":
        """Ask; return once the server has accepted. Raises one of `failures`."""
        try:
            built = client.build_request("POST", "chat/completions", json={**request, "stream": True})
        except UnicodeEncodeError as error:  # half a surrogate pair: the question's fault, not the server's
            raise ServerError(400, str(error), {}) from error
        response = await client.send(built, stream=True)
        if response.is_success:
            return cls(response)
        try:
            await response.aread()
        finally:
            await response.aclose()
        raise refusal(response)

    async def next(self) -> Chunk | None:
        """Return the next event, None after the last. Raises one of `failures`."""
        event = await anext(self._events, None)
        while event is not None and event.data in _NO_CHUNKS:  # the connection can be used again only once it has ended
            event = await anext(self._events, None)
        return None if event is None else self._chunk(event.data)

    async def rest(self) -> ChatStats | None:
        """Read to the end, so that the connection serves the next request; return the figures that come last."""
        stats = None
        with suppress(*failures()):  # what goes wrong after the model's last word does not matter
            async with asyncio.timeout(_TAIL_SECONDS):
                while (chunk := await self.next()) is not None:
                    stats = chunk.stats or stats
        return stats

    async def aclose(self) -> None:
        """Hang up, unless the answer was read to its end."""
        await self._events.aclose()
        await self._response.aclose()

    def _chunk(self, data: str) -> Chunk:
        try:
            event: dict[str, Any] = json.loads(data)
            if error := event.get("error"):
                raise ServerError(_status(error), _reason(error), self.headers)
            choice = (event.get("choices") or [{}])[0]
            text = (choice.get("delta") or {}).get("content") or ""
            if not isinstance(text, str):  # some send thoughts as a list of objects
                raise TypeError(text)
            return Chunk(text, choice.get("finish_reason"), _stats(event))
        except (AttributeError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"not an event of a chat completion: {data[:80]}") from error


def refusal(response: "httpx.Response") -> ServerError:
    """Return the error in an HTTP answer that is none of success."""
    try:
        body = response.json()
        reason = _reason(body.get("error", body) if isinstance(body, dict) else body)
    except (ValueError, RecursionError):  # no JSON, or nested so deeply that it is no explanation either
        reason = response.text or response.reason_phrase
    return ServerError(response.status_code, reason, response.headers)


def _reason(error: object) -> str:
    return str(error.get("message", error) if isinstance(error, dict) else error)


def _status(error: object) -> int:
    """Return the HTTP status that an error within an answer stands for: llama.cpp names it, others name their own."""
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) else 500


def _stats(event: dict[str, Any]) -> ChatStats | None:
    """Return the figures in an event: where llama.cpp puts them, where all others do, or where Groq does."""
    timings = event.get("timings") or {}
    if timings.keys() >= _TIMINGS:
        return ChatStats(
            prompt_tokens=timings["cache_n"] + timings["prompt_n"],
            cached_tokens=timings["cache_n"],
            answer_tokens=timings["predicted_n"],
            prompt_seconds=timings["prompt_ms"] / 1000,
            answer_seconds=timings["predicted_ms"] / 1000,
        )
    usage = event.get("usage") or (event.get("x_groq") or {}).get("usage")
    if not usage:
        return None
    return ChatStats(
        prompt_tokens=usage.get("prompt_tokens"),
        cached_tokens=(usage.get("prompt_tokens_details") or {}).get("cached_tokens"),
        answer_tokens=usage.get("completion_tokens"),
        prompt_seconds=usage.get("prompt_time"),
        answer_seconds=usage.get("completion_time"),
    )
