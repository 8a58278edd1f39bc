"""A chat model behind any OpenAI-compatible API: Groq, vLLM, llama.cpp's server, a proxy before many."""

import asyncio
import email.utils
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from typing import Any

from satellite.config import Chat, Deadlines, OpenAICompatible
from satellite.engines import ChatDelta, Message
from satellite.engines.chat.address import NO_PROXY, is_at_home, shown, warn_of_outside
from satellite.engines.chat.answer import Answer
from satellite.engines.chat.failures import failure
from satellite.engines.chat.key import find_key
from satellite.engines.chat.stats import ChatStats
from satellite.errors import ChatError, ChatUnavailable

_CONNECT_SECONDS = 2.0
_GAP_SECONDS = 10.0
"""Longest silence between two tokens."""

_TAIL_SECONDS = 1.0
"""How long the end of the HTTP answer may take once the model's is complete."""


class OpenAIChat:
    """A `ChatModel`. Closing a stream closes its socket. The key is in no message, log, repr or traceback."""

    def __init__(
        self, settings: OpenAICompatible, chat: Chat, deadlines: Deadlines, *, gap_seconds: float = _GAP_SECONDS
    ) -> None:
        import openai

        self.provider = settings.name
        self.leaves_house = not is_at_home(settings.url)
        """Whether this provider hears the household's words outside the house."""

        self.sent_outside = 0
        """Requests that have left the house."""

        self._settings = settings
        self._chat = chat
        self._first_token_seconds = deadlines.chat_first_token_seconds
        self._gap_seconds = gap_seconds
        self._server = f"{settings.name} at {shown(settings.url)}"
        self._key = find_key(settings)
        if self.leaves_house:
            warn_of_outside(self.provider, settings.url)
        self._openai = openai
        self._client = openai.AsyncOpenAI(
            api_key=self._key.value or "none",
            base_url=settings.url,
            max_retries=0,  # whoever waits for an answer is better served by the next provider
            # Reading is limited by `_next`: the first chunk and those after it may take differently long.
            timeout=openai.Timeout(_CONNECT_SECONDS, read=None),
            http_client=None if self.leaves_house else openai.DefaultAsyncHttpxClient(mounts=NO_PROXY),
        )
        self._create: Any = self._client.chat.completions.create  # now: this imports much of the library

    async def stream(self, messages: Sequence[Message]) -> AsyncGenerator[ChatDelta, None]:
        """Yield the answer; see `ChatModel`. Raises `ChatError`."""
        if self.leaves_house:
            self.sent_outside += 1
        try:
            async with aclosing(self._deltas(messages)) as deltas:
                async for delta in deltas:
                    yield delta
            return
        except ChatError as error:
            problem = error
        except Exception as foreign:  # noqa: BLE001  # the engine seam; what comes through varies with the library
            problem = self._translated(foreign)
        # Outside the handlers, or Python would chain to ours the library's error, which may quote the key.
        raise problem

    async def close(self) -> None:
        """Close the connections; may be called twice."""
        await self._client.close()

    async def _deltas(self, messages: Sequence[Message]) -> AsyncGenerator[ChatDelta, None]:
        answer = Answer(self.provider)
        seconds = self._first_token_seconds
        async with asyncio.timeout(seconds):
            stream = await self._create(**self._request(messages))
        async with stream:
            while True:
                async with asyncio.timeout(seconds):
                    chunk = await anext(stream, None)
                if chunk is None:
                    raise ChatUnavailable(f"{self._server} cut its answer off")
                choice = chunk.choices[0] if chunk.choices else None
                if choice and (delta := answer.delta(choice.delta.content or "")):
                    yield delta
                if choice and choice.finish_reason:
                    break
                seconds = self._gap_seconds
            stats = await _read_to_end(stream) or _stats(chunk)
        yield answer.end(stats)

    def _request(self, messages: Sequence[Message]) -> dict[str, Any]:
        return {
            "model": self._settings.model,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "max_tokens": self._chat.max_tokens,
            "temperature": self._chat.temperature,
            "stream": True,
        }

    def _translated(self, foreign: Exception) -> ChatError:
        if isinstance(foreign, self._openai.APIStatusError):
            return self._refusal(foreign)
        if isinstance(foreign, TimeoutError):
            return ChatUnavailable(f"{self._server} was silent for too long", kind="timeout")
        if isinstance(foreign, self._openai.APIConnectionError) and _is_unconnected(foreign):
            return ChatUnavailable(f"{self._server} cannot be reached: {foreign.__cause__}", kind="unreachable")
        reason = self._key.scrub(str(foreign)) or type(foreign).__name__
        return ChatUnavailable(f"{self._server} broke off: {reason}")

    def _refusal(self, error: Any) -> ChatError:
        body = error.body
        reason = str(body.get("message", body)) if isinstance(body, dict) else error.message
        if error.status_code in (401, 403):
            reason += f" (the key is from {self._key.source})"
        retry_after = _retry_after_seconds(error.response.headers.get("retry-after"))
        return failure(self._server, error.status_code, self._key.scrub(reason), retry_after_seconds=retry_after)


async def _read_to_end(stream: Any) -> ChatStats | None:
    """Leave the connection fit for the next request; what goes wrong after the model's last word does not matter."""
    stats = None
    with suppress(Exception):
        async with asyncio.timeout(_TAIL_SECONDS):
            while (chunk := await anext(stream, None)) is not None:
                stats = _stats(chunk) or stats
    return stats


def _stats(chunk: Any) -> ChatStats | None:
    """Return the figures in a chunk: in `usage`, or where Groq puts them."""
    groq = (chunk.model_extra or {}).get("x_groq") or {}
    usage = chunk.usage.to_dict() if chunk.usage else groq.get("usage")
    if not usage:
        return None
    return ChatStats(
        prompt_tokens=usage.get("prompt_tokens"),
        cached_tokens=(usage.get("prompt_tokens_details") or {}).get("cached_tokens"),
        answer_tokens=usage.get("completion_tokens"),
        prompt_seconds=usage.get("prompt_time"),
        answer_seconds=usage.get("completion_time"),
    )


def _is_unconnected(error: Exception) -> bool:
    """Tell a connection that never was from one that broke; the cause is of whatever HTTP library openai uses."""
    return type(error.__cause__).__name__ in ("ConnectError", "ConnectTimeout")


def _retry_after_seconds(header: str | None) -> float | None:
    """Return the delay that a Retry-After header asks for, as a number of seconds or as a date."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return None
