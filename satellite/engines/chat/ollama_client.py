"""The part of Ollama's native API that is used here; its `/v1` can set neither context length nor keep-alive.

All requests are built by one function. Each names the context length: Ollama reloads the model when it differs from
that of the last request. A keep-alive is only in the request that loads the model and in the one that corrects another
client's. To make room for another model, Ollama sets a model's keep-alive to 0 and waits until it is idle; a request
that brings a keep-alive meanwhile reverts that, and the other client would never be served.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, TypeVar

from satellite.config.chat import ChatSettings, OllamaSettings
from satellite.config.secrets import chat_key
from satellite.engines.chat.http_errors import failure
from satellite.engines.chat.keepalive.loaded_models import LoadedModel
from satellite.engines.chat.thinking import opens_thought
from satellite.engines.protocols import AS_CONFIGURED, Message, Sampling
from satellite.errors import ChatError, ChatUnavailable, in_words
from satellite.net.http_client import client_settings, is_on_this_host, shown_url
from satellite.net.proxies import without_proxies

T = TypeVar("T")

LOAD_SECONDS = 300.0
"""Ollama's own limit for loading, OLLAMA_LOAD_TIMEOUT."""

_CONNECT_SECONDS = 2.0
_FOR_EVER = -1
_UNLOAD_SECONDS = 10.0
_SHOW_SECONDS = 3.0
_PRIME_SECONDS = 120.0
_TAIL_SECONDS = 1.0
"""Time for the rest of an HTTP answer once the model's own is complete."""

GREETING = Message("user", "Hi")
"""Follows a prompt that is to be read and not answered."""


class OllamaApi:
    """One model of one server. Everything that goes wrong is raised as a `ChatError`."""

    def __init__(self, settings: OllamaSettings, chat: ChatSettings) -> None:
        self.model = settings.model
        self.context_tokens = settings.num_ctx
        """What every request names; the keep-alive timer sets a longer one if the model is loaded with that."""

        self.server = f"Ollama at {shown_url(settings.url)}"
        self.opens_thought = False
        """Whether the model's template begins every answer with a thought; known after `trained_tokens`."""

        self.is_here = is_on_this_host(settings.url)
        self._settings = settings
        self._key = chat_key(settings).find_or_explain()
        self._chat = chat
        self._client: Any = None
        self._opening = asyncio.Lock()
        self._closed = False

    async def open(self) -> None:
        """Import the library and make the client, in a thread, unless they are there. Raises `ChatUnavailable`."""
        async with self._opening:
            if self._closed:
                raise ChatUnavailable(f"{self.server} is no longer used: it was closed", kind="not-ready")
            if self._client is None:
                self._client = await asyncio.to_thread(self._connected)

    def _connected(self) -> Any:
        import httpx

        try:
            if "ollama" not in sys.modules:
                with without_proxies():  # its import makes a client of its own, and so reads the certificates as well
                    import_module("ollama")
            import ollama

            return ollama.AsyncClient(
                host=self._settings.url,
                # Reading is limited by the caller: a load takes minutes where a list takes a moment.
                timeout=httpx.Timeout(_CONNECT_SECONDS, read=None),
                limits=httpx.Limits(max_keepalive_connections=4, keepalive_expiry=60),
                headers={"Authorization": f"Bearer {self._key.value}"} if self._key.value else None,
                **client_settings(self._settings.url),
            )
        except (OSError, ValueError, httpx.InvalidURL) as error:  # an unreadable SSL_CERT_FILE, an odd address
            reason = self._key.scrub(in_words(error))
        raise ChatUnavailable(f"{self.server} cannot be asked: {reason}", kind="misconfigured")

    def request(self, messages: Sequence[Message], sampling: Sampling = AS_CONFIGURED) -> dict[str, Any]:
        """Return the body of a request; without messages it only loads the model."""
        options = sampling.options(self._chat.max_tokens, self._chat.temperature)
        return {
            "model": self.model,
            "messages": [message.sent(with_aside=self._settings.tell) for message in messages],
            "think": False,
            "options": {"num_ctx": self.context_tokens, "num_predict": options.pop("max_tokens"), **options},
        }

    async def loaded(self, seconds: float) -> list[LoadedModel]:
        """Return the models in memory."""
        response = await self._call(lambda client: client.ps(), seconds)
        return [
            LoadedModel(
                name=entry.model or entry.name or "",
                size=int(entry.size or 0),
                size_vram=int(entry.size_vram or 0),
                context_tokens=entry.context_length,
                expires_at=entry.expires_at,
            )
            for entry in response.models
        ]

    async def trained_tokens(self) -> int | None:
        """Return the longest context that the model allows; None if Ollama does not know it."""
        shown = await self._call(lambda client: client.show(self.model), _SHOW_SECONDS)
        self.opens_thought = opens_thought(shown.template or "")
        lengths = [value for name, value in (shown.modelinfo or {}).items() if name.endswith(".context_length")]
        return next((length for length in lengths if isinstance(length, int) and length > 0), None)

    async def load(self) -> None:
        """Load the model to stay; reads no prompt. Only for a model that no other client is using."""
        await self._chat_once(self.request([]), LOAD_SECONDS, keep_alive=_FOR_EVER)

    async def ping(self) -> None:
        """Have the model loaded if it is not, and restart its keep-alive; reads no prompt."""
        await self._chat_once(self.request([]), LOAD_SECONDS)

    async def unload(self) -> None:
        """Unload the model once it has completed its present answer."""
        await self._chat_once(self.request([]), _UNLOAD_SECONDS, keep_alive=0)

    async def prime(self, messages: Sequence[Message]) -> None:
        """Let the model read `messages`, so that a question that begins with them is answered sooner.

        A greeting of the user follows them, unless they end with the user's words: templates join that with the system
        prompt, and some refuse a prompt without one.
        """
        *before, last = messages or [GREETING]
        is_question = last.role == "user" and last.sent(with_aside=self._settings.tell)["content"]
        read = messages if is_question else [*(before if last.role == "user" else messages), GREETING]
        await self._chat_once(self.request(read, Sampling(max_tokens=1)), _PRIME_SECONDS)

    async def answer(self, messages: Sequence[Message], sampling: Sampling) -> AsyncGenerator[Any, None]:
        """Return the lines of an answer, for `line`; it is asked for with the first of them."""
        request = self.request(messages, sampling)
        lines: AsyncGenerator[Any, None] = await self._call(lambda client: client.chat(**request, stream=True))
        return lines

    async def line(self, lines: AsyncGenerator[Any, None], seconds: float | None = None) -> Any:
        """Return the next line of an answer. Raises `ChatError`, also when the answer was cut off."""
        line = await self._within(anext(lines, None), seconds)
        if line is None:
            raise ChatUnavailable(f"{self.server} cut its answer off")
        return line

    async def finish(self, lines: AsyncGenerator[Any, None]) -> None:
        """Read a complete answer to its end, so that the connection can be used again."""
        with suppress(ChatError):  # what goes wrong after the model's last word does not matter
            await self.line(lines, _TAIL_SECONDS)

    async def close(self) -> None:
        """Close the connections; may be called twice."""
        self._closed = True
        if self._client is not None:
            await self._client.close()

    async def _chat_once(self, request: dict[str, Any], seconds: float, **more: Any) -> None:
        await self._call(lambda client: client.chat(**request, **more), seconds)

    async def _call(self, call: Callable[[Any], Awaitable[T]], seconds: float | None = None) -> T:
        await self.open()
        return await self._within(call(self._client), seconds)

    async def _within(self, awaitable: Awaitable[T], seconds: float | None) -> T:
        """Return the result of a call to the client; raises what that raises as a `ChatError`."""
        try:
            async with asyncio.timeout(seconds):
                return await awaitable
        except Exception as foreign:  # noqa: BLE001  # the client lets through whatever HTTP, JSON and pydantic raise
            problem = self._translated(foreign, seconds)
        raise problem  # outside the handler, or its traceback would lead to one that may quote the key

    def _translated(self, foreign: Exception, seconds: float | None) -> ChatError:
        import httpx
        import ollama

        match foreign:
            case ollama.ResponseError():
                return self._refusal(foreign.status_code, str(foreign.error))
            case TimeoutError() if seconds is not None:
                return ChatUnavailable(f"{self.server} was silent for {seconds:g} s", kind="timeout")
            case httpx.ConnectError() | httpx.ConnectTimeout() | ConnectionError():
                return ChatUnavailable(f"{self.server} cannot be reached; is it running?", kind="unreachable")
        return ChatUnavailable(f"{self.server} broke off: {self._key.scrub(in_words(foreign))}")

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
