"""A chat model served by Ollama, by its native API: `/v1` can set neither context length nor keep-alive."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from typing import Any

from satellite.config import Chat, Deadlines, Ollama
from satellite.engines import ChatDelta, Message
from satellite.engines.chat.address import NO_PROXY, is_at_home, shown, warn_of_outside
from satellite.engines.chat.answer import Answer
from satellite.engines.chat.failures import failure
from satellite.engines.chat.stats import ChatStats
from satellite.errors import ChatError, ChatUnavailable

_CONNECT_SECONDS = 2.0
_GAP_SECONDS = 10.0
"""Longest silence between two tokens."""

_TAIL_SECONDS = 1.0
"""How long the end of the HTTP answer may take once the model's is complete."""


class OllamaChat:
    """A `ChatModel`. Closing a stream closes its socket, at which Ollama stops generating."""

    provider = "ollama"

    def __init__(
        self, settings: Ollama, chat: Chat, deadlines: Deadlines, *, gap_seconds: float = _GAP_SECONDS
    ) -> None:
        import httpx
        import ollama

        self._settings = settings
        self._chat = chat
        self._first_token_seconds = deadlines.chat_first_token_seconds
        self._gap_seconds = gap_seconds
        self._server = f"Ollama at {shown(settings.url)}"
        self._refused = ollama.ResponseError
        self._unreachable = (httpx.ConnectError, httpx.ConnectTimeout)
        at_home = is_at_home(settings.url)
        if not at_home or settings.model.endswith("cloud"):  # Ollama hands models such as gpt-oss:120b-cloud on
            warn_of_outside(self.provider, settings.url)
        self._client: Any = ollama.AsyncClient(
            host=settings.url,
            # Reading is limited by `stream`: the first line and those after it may take differently long.
            timeout=httpx.Timeout(_CONNECT_SECONDS, read=None),
            mounts=NO_PROXY if at_home else None,
        )

    def request(self, messages: Sequence[Message]) -> dict[str, Any]:
        """Return all of a request for the next answer.

        Context length and keep-alive go into every one: Ollama reloads the model when the former differs from the
        last request's, and a reload without the latter falls back to five minutes.
        """
        return {
            "model": self._settings.model,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "think": False,
            "keep_alive": self._settings.keep_alive,
            "options": {
                "num_ctx": self._settings.num_ctx,
                "num_predict": self._chat.max_tokens,
                "temperature": self._chat.temperature,
            },
        }

    async def stream(self, messages: Sequence[Message]) -> AsyncGenerator[ChatDelta, None]:
        """Yield the answer; see `ChatModel`. Raises `ChatError`."""
        answer = Answer(self.provider)
        seconds = self._first_token_seconds  # covers loading the model and reading the conversation
        try:
            async with aclosing(await self._client.chat(**self.request(messages), stream=True)) as parts:
                while True:
                    async with asyncio.timeout(seconds):
                        part = await anext(parts, None)
                    if part is None:
                        raise ChatUnavailable(f"{self._server} cut its answer off")
                    if delta := answer.delta(part.message.content or ""):
                        yield delta
                    if part.done:
                        break
                    seconds = self._gap_seconds
                await _read_to_end(parts)
        except ChatError:
            raise
        except Exception as foreign:  # the engine seam: the client lets through what HTTP and JSON raise
            raise self._translated(foreign, seconds) from foreign
        yield answer.end(_stats(part))

    async def close(self) -> None:
        """Close the connections; may be called twice."""
        await self._client.close()

    def _translated(self, foreign: Exception, seconds: float) -> ChatError:
        if isinstance(foreign, self._refused):
            return self._refusal(foreign.status_code, str(foreign.error))
        if isinstance(foreign, TimeoutError):
            return ChatUnavailable(f"{self._server} was silent for {seconds:g} s", kind="timeout")
        if isinstance(foreign, self._unreachable):
            return ChatUnavailable(f"{self._server} cannot be reached: {foreign}", kind="unreachable")
        return ChatUnavailable(f"{self._server} broke off: {foreign or type(foreign).__name__}")

    def _refusal(self, status: int, reason: str) -> ChatError:
        if status == -1:  # an error among the lines of an answer that had begun with 200
            return ChatUnavailable(f"{self._server} broke off: {reason}")
        if status == 404 and "model" in reason:
            name = self._settings.model
            return ChatUnavailable(f"{self._server} has no model {name}; run: ollama pull {name}", kind="unknown-model")
        if status == 404:
            return ChatUnavailable(f"{self._server} answered 404: that is no Ollama", kind="unreachable")
        return failure(self._server, status, reason)


async def _read_to_end(parts: AsyncGenerator[Any, None]) -> None:
    """Leave the connection fit for the next request; what goes wrong after the model's last word does not matter."""
    with suppress(Exception):
        async with asyncio.timeout(_TAIL_SECONDS):
            await anext(parts, None)


def _stats(part: Any) -> ChatStats:
    """Return the figures of an answer's last line; Ollama counts in nanoseconds."""
    return ChatStats(
        prompt_tokens=part.prompt_eval_count,
        answer_tokens=part.eval_count,
        load_seconds=_seconds(part.load_duration),
        prompt_seconds=_seconds(part.prompt_eval_duration),
        answer_seconds=_seconds(part.eval_duration),
    )


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e9
