"""Ollama's native API as we use it: `/v1` can set neither context length nor keep-alive.

Every request is made by one function. The context length goes into each: Ollama reloads the model when it differs from
the last request's. A keep-alive goes only into the request that loads and the one that sets another client's right: to
make room for another model Ollama sets a model's keep-alive to nought and waits for it to fall idle, and a request that
comes meanwhile with a keep-alive of its own sets it back, so that nobody else is ever served.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing
from importlib import import_module
from typing import Any, TypeVar

from satellite.config.chat import ChatSettings, OllamaSettings
from satellite.config.secrets import chat_key
from satellite.engines.chat.http_errors import failure
from satellite.engines.chat.keepalive.loaded_models import Loaded
from satellite.engines.chat.thinking import opens_thought
from satellite.engines.protocols import AS_CONFIGURED, Message, Sampling
from satellite.errors import ChatError, ChatUnavailable
from satellite.net.http_client import client_settings, is_on_this_host, made_once, shown_url
from satellite.net.proxies import without_proxies

T = TypeVar("T")

_CONNECT_SECONDS = 2.0
_FOR_EVER = -1
_UNLOAD_SECONDS = 10.0
GREETING = Message("user", "Hi")
"""What stands behind a prompt that is to be read and not answered."""


class OllamaApi:
    """One model of one server. Everything that goes wrong is raised as a `ChatError`."""

    def __init__(self, settings: OllamaSettings, chat: ChatSettings) -> None:
        self.model = settings.model
        self.context_tokens = settings.num_ctx
        """What every request names; whoever looks after the model takes a longer one if that is what is loaded."""

        self.server = f"Ollama at {shown_url(settings.url)}"
        self.opens_thought = False
        """Whether the model's template begins every answer with a thought; known once `trained_tokens` was asked."""

        self.is_here = is_on_this_host(settings.url)
        self._settings = settings
        self._key = chat_key(settings).find_or_explain()
        self._closed = False
        self._chat = chat

    @made_once
    def _client(self) -> Any:
        """The client; the first to use it waits for its library, unless it has been loaded."""
        if self._closed:
            raise RuntimeError("closed")
        _load_library()
        import httpx
        import ollama

        return ollama.AsyncClient(
            host=self._settings.url,
            # Reading is limited by whoever waits: a load takes minutes where a list takes a moment.
            timeout=httpx.Timeout(_CONNECT_SECONDS, read=None),
            limits=httpx.Limits(max_keepalive_connections=4, keepalive_expiry=60),
            **client_settings(self._settings.url),
            headers={"Authorization": f"Bearer {self._key.value}"} if self._key.value else None,
        )

    async def open(self) -> None:
        """Import the library, and make the client, in a thread, unless they are there. Raises `ChatUnavailable`."""
        if "_client" in self.__dict__:
            return
        try:
            await asyncio.to_thread(lambda: self._client)
        except ChatError:
            raise
        except Exception as foreign:  # the engine seam: whatever the library has against the settings
            raise ChatUnavailable(f"{self.server} cannot be asked: {foreign}", kind="misconfigured") from foreign

    def request(self, messages: Sequence[Message], sampling: Sampling = AS_CONFIGURED) -> dict[str, Any]:
        """Return all of a request: for an answer, or of one token to have the prompt read, or to load."""
        options = sampling.options(self._chat.max_tokens, self._chat.temperature)
        return {
            "model": self.model,
            "messages": [
                {"role": message.role, "content": message.whole if self._settings.tell else message.content}
                for message in messages
            ],
            "think": False,
            "options": {"num_ctx": self.context_tokens, "num_predict": options.pop("max_tokens"), **options},
        }

    async def loaded(self, seconds: float) -> list[Loaded]:
        """Return what is loaded."""
        response = await self._within(self._client.ps(), seconds)
        return [
            Loaded(
                name=entry.model or entry.name or "",
                size=int(entry.size or 0),
                size_vram=int(entry.size_vram or 0),
                context_tokens=entry.context_length,
                expires_at=entry.expires_at,
            )
            for entry in response.models
        ]

    async def trained_tokens(self, seconds: float) -> int | None:
        """Return the longest context that the model allows; None where that is not told."""
        told = await self._within(self._client.show(self.model), seconds)
        self.opens_thought = opens_thought(told.template or "")
        lengths = [value for name, value in (told.modelinfo or {}).items() if name.endswith(".context_length")]
        return next((length for length in lengths if isinstance(length, int) and length > 0), None)

    async def load(self, seconds: float) -> None:
        """Load the model, and tell it to stay; reads no prompt. For one that nobody else is using."""
        await self._within(self._client.chat(**self.request([]), keep_alive=_FOR_EVER), seconds)

    async def ping(self, seconds: float) -> None:
        """Have the model loaded if it is not, and start the time that it stays anew; reads no prompt."""
        await self._within(self._client.chat(**self.request([])), seconds)

    async def unload(self) -> None:
        """Let the model go, once whatever it is answering is complete."""
        await self._within(self._client.chat(**self.request([]), keep_alive=0), _UNLOAD_SECONDS)

    async def prime(self, messages: Sequence[Message], seconds: float) -> Any:
        """Let the model read `messages`, so that it need not when a question follows; return the answer's figures.

        A few words of a user stand behind them: templates join those with the system prompt, and some refuse a prompt
        that has none.
        """
        request = self.request([*messages, GREETING], Sampling(max_tokens=1))
        return await self._within(self._client.chat(**request), seconds)

    def parts(self, messages: Sequence[Message], sampling: Sampling) -> AsyncGenerator[Any, None]:
        """Yield the lines of an answer. What goes wrong is foreign here: hand it to `translated`."""
        return self._parts(self.request(messages, sampling))

    async def _parts(self, request: dict[str, Any]) -> AsyncGenerator[Any, None]:
        async with aclosing(await self._client.chat(**request, stream=True)) as parts:
            async for part in parts:
                yield part

    async def close(self) -> None:
        """Close the connections; may be called twice."""
        self._closed = True
        if "_client" in self.__dict__:
            await self._client.close()

    async def _within(self, call: Awaitable[T], seconds: float) -> T:
        try:
            async with asyncio.timeout(seconds):
                return await call
        except Exception as foreign:  # the engine seam: the client lets through what HTTP and JSON raise
            raise self.translated(foreign, seconds) from foreign

    def translated(self, foreign: Exception, seconds: float) -> ChatError:
        """Return the error for what the client raised while waiting for `seconds`."""
        import httpx

        _load_library()
        import ollama

        if isinstance(foreign, ChatError):
            return foreign
        if isinstance(foreign, ollama.ResponseError):
            return self._refusal(foreign.status_code, str(foreign.error))
        if isinstance(foreign, TimeoutError):
            return ChatUnavailable(f"{self.server} was silent for {seconds:g} s", kind="timeout")
        if isinstance(foreign, httpx.ConnectError | httpx.ConnectTimeout | ConnectionError):
            return ChatUnavailable(f"{self.server} cannot be reached; is it running?", kind="unreachable")
        reason = self._key.scrub(str(foreign)) or type(foreign).__name__
        return ChatUnavailable(f"{self.server} broke off: {reason}")

    def _refusal(self, status: int, reason: str) -> ChatError:
        reason = self._key.scrub(reason)
        if status in (401, 403):
            reason += f" (the key is from {self._key.source})" if self._key.value else f" (no key: {self._key.source})"
        if status == -1:  # an error among the lines of an answer that had begun with 200
            return ChatUnavailable(f"{self.server} broke off: {reason}")
        if status == 404 and "model" in reason:
            return ChatUnavailable(
                f"{self.server} has no model {self.model}; run: ollama pull {self.model}", kind="unknown-model"
            )
        if status == 404:
            return ChatUnavailable(f"{self.server} answered 404: that is no Ollama", kind="unreachable")
        return failure(self.server, status, reason)


def _load_library() -> None:
    """Import the official client's library, which makes a client of its own then: without anybody's proxy."""
    if "ollama" not in sys.modules:
        with without_proxies():
            import_module("ollama")
