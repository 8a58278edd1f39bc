"""A chat model behind any OpenAI-compatible API: Groq, vLLM, llama.cpp's server, a proxy before many."""

import asyncio
import email.utils
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from satellite.config import Chat, Deadlines, OpenAICompatible
from satellite.engines import ChatDelta, Message
from satellite.engines.chat.address import NO_PROXY, is_at_home, shown, warn_of_outside
from satellite.engines.chat.answer import Answer
from satellite.engines.chat.failures import failure
from satellite.engines.chat.key import find_key
from satellite.engines.chat.stats import ChatStats
from satellite.errors import ChatError, ChatRejected, ChatUnavailable

_CONNECT_SECONDS = 2.0
_GAP_SECONDS = 10.0
"""Longest silence between two tokens."""


class OpenAIChat:
    """A `ChatModel`. Closing a stream closes its socket. The key appears in no message, log, repr or traceback."""

    def __init__(
        self, settings: OpenAICompatible, chat: Chat, deadlines: Deadlines, *, gap_seconds: float = _GAP_SECONDS
    ) -> None:
        import openai

        self.provider = settings.name
        self.leaves_house = not is_at_home(settings.url)
        """Whether this provider receives the household's words outside the house."""

        self.sent_outside = 0
        """Requests that have left the house."""

        self._settings = settings
        self._chat = chat
        self._first_token_seconds = deadlines.chat_first_token_seconds
        self._gap_seconds = gap_seconds
        self._server = f"{settings.name} at {shown(settings.url)}"
        self._key = find_key(settings)
        self._errors = openai
        if self.leaves_house:
            warn_of_outside(self.provider, settings.url)
        self._client = openai.AsyncOpenAI(
            api_key=self._key.value or "none",
            base_url=settings.url,
            max_retries=0,  # whoever waits for an answer is better served by the next provider
            # Reading is limited by `_deltas`: the first chunk and those after it may take differently long.
            timeout=openai.Timeout(_CONNECT_SECONDS, read=None),
            http_client=None if self.leaves_house else openai.DefaultAsyncHttpxClient(mounts=NO_PROXY),
        )
        self._create: Any = self._client.chat.completions.create  # the library imports half of itself here

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
        except Exception as foreign:  # the engine seam: what comes through depends on the library's version
            problem = self._translated(foreign)
        # Outside the handlers, or Python would chain the library's error, which may quote the key, to ours.
        raise problem

    async def close(self) -> None:
        """Close the connections; may be called twice."""
        await self._client.close()

    async def _deltas(self, messages: Sequence[Message]) -> AsyncGenerator[ChatDelta, None]:
        answer = Answer(self.provider)
        finished, stats = False, None
        async with aclosing(self._chunks(messages)) as chunks:
            async for chunk in chunks:
                stats = _stats(chunk) or stats
                for choice in chunk.choices or ():
                    if delta := answer.delta(choice.delta.content or ""):
                        yield delta
                    finished = finished or choice.finish_reason is not None
        if not finished:
            raise ChatUnavailable(f"{self._server} cut its answer off")
        yield answer.end(stats)

    async def _chunks(self, messages: Sequence[Message]) -> AsyncGenerator[Any, None]:
        """Yield what the server sends, each chunk by its deadline."""
        async with self._within(self._first_token_seconds):
            stream = await self._create(**self._request(messages))
        async with stream:
            seconds = self._first_token_seconds
            while True:
                async with self._within(seconds):
                    chunk = await anext(stream, None)
                if chunk is None:
                    return
                yield chunk
                seconds = self._gap_seconds
