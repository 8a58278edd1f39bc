"""A chat model behind an OpenAI-compatible API, such as Groq, vLLM, llama.cpp's server or a proxy."""

import asyncio
import logging
import math
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from satellite.config.chat import ChatSettings, KeepAliveSettings, OpenAISettings
from satellite.config.secrets import chat_key
from satellite.config.settings import DeadlineSettings
from satellite.engines.chat.completions import Chunk, Completion, ServerError, failures, refusal
from satellite.engines.chat.http_errors import RateLimited, exhausted_seconds, failure, retry_after_seconds
from satellite.engines.chat.keepalive.schedule import Schedule
from satellite.engines.chat.provider_status import ProviderStatus, provider_status
from satellite.engines.chat.reply import ChatReplies, ChatReply
from satellite.engines.chat.tokens import estimated_tokens
from satellite.engines.protocols import AS_CONFIGURED, ChatDelta, ChatStats, Message, Sampling
from satellite.errors import ChatError, ChatRejected, ChatUnavailable, in_words
from satellite.net.circuit_breaker import BreakerState, CircuitBreaker
from satellite.net.http_client import client_settings, is_at_home, shown_url, warn_of_outside
from satellite.net.provider_states import ProviderHealth

if TYPE_CHECKING:
    import httpx

_LOGGER = logging.getLogger(__name__)

_CONNECT_SECONDS = 2.0
_WHOLE = 0.9
"""Share of a deadline that counts as all of it: a caller that gave up may have begun a little earlier."""

_PROBE_SECONDS = 5.0
_TOUCH_SECONDS = 30.0
"""Idle time after which a connection is used just to keep it open: a new one costs several round trips."""

_CONNECTION_SECONDS = 90.0


class OpenAIChat:
    """A `ChatModel`. Closing a stream closes its socket. The key appears in no message, log, repr or traceback.

    `watch` keeps a connection open, and asks for the list of models to find out whether a provider that failed is
    back; nothing that was said leaves the house with that.
    """

    def __init__(
        self,
        settings: OpenAISettings,
        chat: ChatSettings,
        deadlines: DeadlineSettings,
        keepalive: KeepAliveSettings | None = None,
        *,
        name: str = "",
        touch_seconds: float = _TOUCH_SECONDS,
    ) -> None:
        """Use a model as configured; `name` replaces the provider's name in the settings."""
        self.provider = name or settings.name
        self.model = settings.model
        self.context_tokens: int | None = None
        self.leaves_house = not is_at_home(settings.url)
        """Whether what people say is sent outside the house."""

        self.sent_outside = 0
        """Questions that have left the house."""

        self.breaker = CircuitBreaker()
        self._settings = settings
        self._chat = chat
        self._keepalive = keepalive or KeepAliveSettings()
        self._schedule = Schedule(self._keepalive)
        self._patience_seconds = chat.first_token_seconds
        self._first_token_seconds = deadlines.chat_first_token_seconds
        self._gap_seconds = deadlines.chat_gap_seconds
        self._touch_seconds = touch_seconds
        self._server = f"{self.provider} at {shown_url(settings.url)}"
        self._key = chat_key(settings).find_or_explain()
        self._replies = ChatReplies(self.provider)
        self._limit = "max_tokens"
        """The server's name for the longest answer; OpenAI's newer models refuse this one."""

        self._client: httpx.AsyncClient | None = None
        self._opening = asyncio.Lock()
        self._closed = False
        self._contact_at = self._used_at = time.monotonic()
        self._asking = 0
        """Questions that are being answered, or wait."""

        self._answered_at = -math.inf
        self._poked = asyncio.Event()
        if self.leaves_house and self._key.value:
            warn_of_outside(self.provider, settings.url)

    async def load(self) -> None:
        """Make the client, unless there is one. Raises `ChatUnavailable`."""
        async with self._opening:
            if self._client is None and self._usable and not self._closed:
                self._client = await asyncio.to_thread(self._connected)  # in a thread: it reads all certificates

    def _connected(self) -> "httpx.AsyncClient":
        import httpx

        try:
            return httpx.AsyncClient(
                base_url=self._settings.url,
                headers={"Authorization": f"Bearer {self._key.value or 'none'}"},
                follow_redirects=True,  # of a reverse proxy to HTTPS; the key is not sent to another host
                # Reading is limited by `_next`: the first chunk and those after it may take differently long.
                timeout=httpx.Timeout(_CONNECT_SECONDS, read=None),
                limits=httpx.Limits(max_keepalive_connections=4, keepalive_expiry=_CONNECTION_SECONDS),
                **client_settings(self._settings.url),
            )
        except (OSError, ValueError, httpx.InvalidURL) as error:  # an unreadable SSL_CERT_FILE, an odd address
            reason = self._key.scrub(str(error))
        raise ChatUnavailable(f"{self._server} cannot be asked: {reason}", kind="misconfigured")

    async def _opened(self) -> "httpx.AsyncClient":
        await self.load()
        if self._client is None or self._closed:
            raise ChatUnavailable(f"{self._server} is no longer used: it was closed", kind="not-ready")
        return self._client

    @property
    def health(self) -> ProviderHealth:
        """Return whether it is worth asking, by its earlier answers and its rate limits."""
        if not self._usable:
            message = f"{self.provider} is not used: no key was found ({self._key.source})"
            return ProviderHealth("no-key", False, message, forbidden=True)
        breaker = self.breaker
        if breaker.state is BreakerState.CLOSED:
            return ProviderHealth("ready", True, f"{self._server} answers", since=breaker.since)
        if breaker.state is BreakerState.HALF_OPEN:
            return ProviderHealth("recovering", True, breaker.reason, since=breaker.since)
        is_late = breaker.cause == "slow"
        return ProviderHealth(breaker.cause, False, breaker.reason, breaker.forbidden, breaker.since, is_late)

    @property
    def _usable(self) -> bool:
        return bool(self._key.value) or not self.leaves_house

    @property
    def status(self) -> ProviderStatus:
        """Return its state, with the number of questions that left the house."""
        return provider_status(self, sent_outside=self.sent_outside)

    async def stream(
        self, messages: Sequence[Message], sampling: Sampling = AS_CONFIGURED
    ) -> AsyncGenerator[ChatDelta, None]:
        """Yield the answer; see `ChatModel`. Raises `ChatError`."""
        if not self._usable:
            raise ChatRejected(self.health.message, kind="refused")
        began = self._used_at = time.monotonic()
        reply = self._replies.begin(may_be_empty=sampling.may_be_empty)
        completion: Completion | None = None
        is_whole = False
        self._asking += 1
        try:
            client = await self._opened()
            async with asyncio.timeout(self._first_token_seconds):
                completion = await self._begin(client, messages, sampling)
            while True:
                chunk = await self._next(completion, reply)
                if delta := reply.delta(chunk.text):
                    yield delta
                if chunk.finish_reason:
                    break
            stats = await completion.rest() or chunk.stats or ChatStats()
            last = reply.end(replace(stats, truncated=chunk.finish_reason == "length"))
            self._succeeded(completion, messages)
            is_whole = True
            yield last
        except asyncio.CancelledError:
            if not reply.has_begun:
                self._given_up(began)
            raise
        except failures(ChatError) as failed:
            problem = self._translated(failed)
            self._failed(problem)
            if rest := reply.rest():
                yield rest
            raise problem from None  # what it came from may quote the key
        finally:
            self._asking -= 1
            self._contact_at = self._answered_at = time.monotonic()
            if not is_whole:  # the connection is lost: open the next one now, not when the next question needs it
                self._contact_at = -math.inf
                self._poked.set()
            if completion is not None:
                await completion.aclose()

    async def _next(self, completion: Completion, reply: ChatReply) -> Chunk:
        async with asyncio.timeout(self._gap_seconds if reply.has_begun else self._first_token_seconds):
            chunk = await completion.next()
        if chunk is None:
            raise ChatUnavailable(f"{self._server} cut its answer off")
        return chunk

    def _succeeded(self, completion: Completion, messages: Sequence[Message]) -> None:
        if self.breaker.forbidden:  # another question has hit the rate limit meanwhile, which still holds
            return
        self.breaker.succeeded()
        tokens = sum(estimated_tokens(message.whole) for message in messages)
        if seconds := exhausted_seconds(completion.headers, tokens):
            self.breaker.rest(seconds, f"{self._server} allows no more requests for {seconds:.0f} s")

    def _given_up(self, began: float) -> None:
        """Record that the caller no longer waits for the first word of a question that `began` then."""
        late = self._late_seconds(began)
        if late >= self._patience_seconds:
            kind = "timeout" if late >= _WHOLE * self._first_token_seconds else "slow"
            self._failed(ChatUnavailable(f"{self._server} had no word within {late:.1f} s", kind=kind))

    def _late_seconds(self, began: float) -> float:
        """Return for how long a question that `began` then has waited, except while a local server gave another answer.

        Such a server may give one answer at a time, which is no failure.
        """
        if self.leaves_house:
            return time.monotonic() - began  # a hosted one answers many at a time
        return 0.0 if self._asking > 1 else time.monotonic() - max(began, self._answered_at)

    def _failed(self, problem: ChatError) -> None:
        """Record a failed question or probe; one that was sent before a rate limit was reported does not lift it."""
        hold_seconds = problem.retry_after_seconds if isinstance(problem, RateLimited) else None
        if hold_seconds is not None or not self.breaker.forbidden:
            self.breaker.failed(problem, hold_seconds=hold_seconds)

    def prepare(self, messages: Sequence[Message]) -> None:
        """Open a connection before the question comes."""
        self._used_at = time.monotonic()
        self._poked.set()

    async def warm_up(self) -> None:
        """Open a connection. Raises `ChatError` when the server does not answer or refuses the key."""
        if problem := await self._probe():
            if self._usable:
                self._failed(problem)
            raise problem

    async def watch(self) -> None:
        """Keep a connection open, and probe a provider that has failed, until cancelled."""
        await self.load()
        while self._usable:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._keepalive.interval_seconds):
                    await self._poked.wait()
            self._poked.clear()
            if self.breaker.due or self._is_idle():
                if problem := await self._probe():
                    self._failed(problem)
                elif self.breaker.due:
                    self.breaker.probe_succeeded()

    def _is_idle(self) -> bool:
        now = time.monotonic()
        wanted = self._keepalive.enabled and self._schedule.wants_warm(datetime.now(), now - self._used_at)
        return wanted and self.breaker.up and now - self._contact_at >= self._touch_seconds

    async def _probe(self) -> ChatError | None:
        """Ask for the list of models; return what went wrong."""
        if not self._usable:
            return ChatUnavailable(self.health.message, kind="not-ready")
        self._contact_at = time.monotonic()
        try:
            client = await self._opened()
            async with asyncio.timeout(_PROBE_SECONDS):
                response = await client.get("models")
            if not response.is_success:
                raise refusal(response)
        except failures(ChatError) as failed:
            problem = self._translated(failed)
            # A server without such a list is there all the same.
            return None if problem.code == "chat-unknown-model" else problem
        return None

    async def close(self) -> None:
        """Close the connections; may be called twice."""
        self._closed = True
        if self._client is not None:
            await self._client.aclose()

    def _count_leaving(self) -> None:
        if self.leaves_house:
            self.sent_outside += 1
            _LOGGER.info("chat: question %d leaves the house, to %s", self.sent_outside, self._server)

    async def _begin(self, client: "httpx.AsyncClient", messages: Sequence[Message], sampling: Sampling) -> Completion:
        """Ask, with the other name for the longest answer if the server refuses the first."""
        request = self._request(messages, sampling)
        self._count_leaving()
        try:
            return await Completion.begin(client, request)
        except ServerError as error:
            # Not by `_limit`: the refusal of another question may have changed it meanwhile.
            if error.status != 400 or "max_tokens" not in request or "max_tokens" not in error.reason:
                raise
        self._limit = "max_completion_tokens"
        self._count_leaving()
        return await Completion.begin(client, self._request(messages, sampling))

    def _request(self, messages: Sequence[Message], sampling: Sampling) -> dict[str, object]:
        options = sampling.options(self._chat.max_tokens, self._chat.temperature)
        return {
            "model": self._settings.model,
            "messages": [message.sent(with_aside=self._settings.tell) for message in messages],
            self._limit: options.pop("max_tokens"),
            **options,
        }

    def _translated(self, failed: Exception) -> ChatError:
        import httpx

        match failed:
            case ChatError():
                return failed
            case ServerError():
                return self._refusal(failed)
            case TimeoutError():
                return ChatUnavailable(f"{self._server} was silent for too long", kind="timeout")
            case httpx.ConnectError() | httpx.ConnectTimeout():
                return ChatUnavailable(f"{self._server} cannot be reached: {in_words(failed)}", kind="unreachable")
        return ChatUnavailable(f"{self._server} broke off: {self._key.scrub(in_words(failed))}")

    def _refusal(self, error: ServerError) -> ChatError:
        reason = error.reason
        if error.status in (401, 403):
            reason += f" (the key is from {self._key.source})"
        retry_after = retry_after_seconds(error.headers)
        if retry_after is None:
            retry_after = exhausted_seconds(error.headers, 1)
        return failure(self._server, error.status, self._key.scrub(reason), retry_after_seconds=retry_after)
