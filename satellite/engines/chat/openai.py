"""A chat model behind any OpenAI-compatible API: Groq, vLLM, llama.cpp's server, a proxy before many."""

import asyncio
import logging
import math
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeGuard

from satellite.config.chat import ChatSettings, KeepAliveSettings, OpenAISettings
from satellite.config.secrets import chat_key
from satellite.config.settings import DeadlineSettings
from satellite.engines.chat.http_failures import RateLimited, failure
from satellite.engines.chat.provider_health import Health
from satellite.engines.chat.rate_limits import exhausted_seconds, retry_after_seconds
from satellite.engines.chat.reply import Answer, Answers
from satellite.engines.chat.schedule import Schedule
from satellite.engines.chat.tokens import estimated_tokens
from satellite.engines.chat.usage import ChatStats
from satellite.engines.protocols import AS_CONFIGURED, ChatDelta, Message, Sampling
from satellite.errors import ChatError, ChatRejected, ChatUnavailable
from satellite.net.circuit_breaker import Breaker, BreakerState
from satellite.net.http_client import client_settings, is_at_home, made_once, shown_url, warn_of_outside

_LOGGER = logging.getLogger(__name__)

_CONNECT_SECONDS = 2.0
_WHOLE = 0.9
"""What part of a deadline is as good as all of it: whoever gave up waiting may have begun a little earlier."""

_TAIL_SECONDS = 1.0
"""How long the end of the HTTP answer may take once the model's is complete."""

_PROBE_SECONDS = 5.0
_TOUCH_SECONDS = 30.0
"""How long a connection may lie unused before it is used for nothing: a new one costs several round trips."""

_CONNECTION_SECONDS = 90.0


class OpenAIChat:
    """A `ChatModel`. Closing a stream closes its socket. The key is in no message, log, repr or traceback.

    `watch` keeps a connection open and looks, by asking for the list of models, whether a provider that failed is
    back; no words leave the house with that.
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
        """Talk with a model as configured; `name` is what it is called, if not by its settings."""
        self.provider = name or settings.name
        self.model = settings.model
        self.context_tokens: int | None = None
        self.leaves_house = not is_at_home(settings.url)
        """Whether this provider hears the household's words outside the house."""

        self.sent_outside = 0
        """How often a question has left the house."""

        self.breaker = Breaker()
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
        self._answers = Answers(self.provider)
        self._limit = "max_tokens"
        self._closed = False
        self._contact_at = self._used_at = time.monotonic()
        self._asking = 0
        """Questions that are being answered, or wait."""

        self._answered_at = -math.inf
        self._poked = asyncio.Event()
        if self.leaves_house and self._key.value:
            warn_of_outside(self.provider, settings.url)

    @made_once
    def _client(self) -> Any:
        """The client; the first to use it waits for its library, unless it has been loaded."""
        if self._closed:
            raise RuntimeError("closed")
        import openai

        limits: Any = type(openai.DEFAULT_CONNECTION_LIMITS)  # of whatever HTTP library openai uses
        client = openai.AsyncOpenAI(
            api_key=self._key.value or "none",
            base_url=self._settings.url,
            max_retries=0,  # whoever waits for an answer is better served by the next provider
            # Reading is limited by `_deltas`: the first chunk and those after it may take differently long.
            timeout=openai.Timeout(_CONNECT_SECONDS, read=None),
            http_client=openai.DefaultAsyncHttpxClient(
                limits=limits(max_keepalive_connections=4, keepalive_expiry=_CONNECTION_SECONDS),
                **client_settings(self._settings.url),
            ),
        )
        _ = client.chat.completions  # now: imports much of the library
        return client

    async def load(self) -> None:
        """Import the library, which takes a second, beside whatever else is to be done. Raises `ChatUnavailable`."""
        if not self._usable or "_client" in self.__dict__:
            return
        reason = ""
        try:
            await asyncio.to_thread(lambda: self._client)
        except ChatError:
            raise
        except Exception as foreign:  # noqa: BLE001  # the engine seam: whatever the library has against the settings
            reason = self._key.scrub(str(foreign)) or type(foreign).__name__
        if reason:  # outside the handler: the library's error may quote the key
            raise ChatUnavailable(f"{self._server} cannot be asked: {reason}", kind="misconfigured")

    @property
    def health(self) -> Health:
        """Return whether it is worth asking: by what came of it before, and by its rate limits."""
        if not self._usable:
            words = f"{self.provider} is not used: no key was found ({self._key.source})"
            return Health("no-key", False, words, forbidden=True)
        breaker = self.breaker
        if breaker.state is BreakerState.CLOSED:
            return Health("ready", True, f"{self._server} answers", since=breaker.since)
        if breaker.state is BreakerState.HALF_OPEN:
            return Health("recovering", True, breaker.reason, since=breaker.since)
        is_late = breaker.cause == "slow"
        return Health(breaker.cause, False, breaker.reason, breaker.forbidden, breaker.since, is_late)

    @property
    def _usable(self) -> bool:
        return bool(self._key.value) or not self.leaves_house

    @property
    def details(self) -> dict[str, Any]:
        """Return how often it was asked outside the house."""
        return {"sent_outside": self.sent_outside}

    def stream(
        self, messages: Sequence[Message], sampling: Sampling = AS_CONFIGURED
    ) -> AsyncGenerator[ChatDelta, None]:
        """Yield the answer; see `ChatModel`. Raises `ChatError`."""
        return self._answered(messages, sampling, time.monotonic())

    async def _answered(
        self, messages: Sequence[Message], sampling: Sampling, began: float
    ) -> AsyncGenerator[ChatDelta, None]:
        if not self._usable:
            raise ChatRejected(self.health.words, kind="refused")
        self._used_at = time.monotonic()
        silent, whole = True, False
        answer = self._answers.begin(may_be_empty=sampling.may_be_empty)
        self._asking += 1
        try:
            await self.load()
            async with aclosing(self._deltas(answer, messages, sampling)) as deltas:
                async for delta in deltas:
                    silent, whole = False, delta.stats is not None
                    yield delta
            return
        except ChatError as error:
            problem = error
        except asyncio.CancelledError:
            late = self._late_seconds(began)
            if silent and late >= self._patience_seconds:  # nobody shall wait for it again
                kind = "timeout" if late >= _WHOLE * self._first_token_seconds else "slow"
                self._suspect(ChatUnavailable(f"{self._server} had no word within {late:.1f} s", kind=kind))
            raise
        except Exception as foreign:  # noqa: BLE001  # the engine seam; what comes through varies with the library
            problem = self._translated(foreign)
        finally:
            self._asking -= 1
            self._contact_at = self._answered_at = time.monotonic()
            if not whole:  # the connection is gone as well
                self._contact_at = -math.inf
                self._poked.set()
        self._suspect(problem)
        if rest := answer.rest():
            yield rest
        # Outside the handlers, or Python would chain to ours the library's error, which may quote the key.
        raise problem

    def _late_seconds(self, began: float) -> float:
        """Return for how long a question that `began` then waits, not counting a server at home that answers another.

        Such a server may give one answer at a time, which is no fault of it.
        """
        if self.leaves_house:
            return time.monotonic() - began
        return 0.0 if self._asking > 1 else time.monotonic() - max(began, self._answered_at)

    def _suspect(self, problem: ChatError) -> None:
        """Note that a question or a probe failed; what was asked before a limit was told does not lift it."""
        hold_seconds = problem.retry_after_seconds if _is_limit(problem) else None
        if hold_seconds is not None or not self.breaker.forbidden:
            self.breaker.failed(problem, hold_seconds=hold_seconds)

    def prepare(self, messages: Sequence[Message]) -> None:
        """Have a connection ready before the question comes."""
        self._used_at = time.monotonic()
        self._poked.set()

    async def warm_up(self) -> None:
        """Make a connection. Raises `ChatError` when the server does not answer, or refuses the key."""
        if problem := await self._probe():
            if self._usable:
                self._suspect(problem)
            raise problem

    async def watch(self) -> None:
        """Keep a connection open, and look whether a provider that failed is back, until cancelled."""
        await self.load()
        while self._usable:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._keepalive.interval_seconds):
                    await self._poked.wait()
            self._poked.clear()
            if self.breaker.due or self._is_getting_cold():
                if problem := await self._probe():
                    self._suspect(problem)
                elif self.breaker.due:
                    self.breaker.probed(None)

    def _is_getting_cold(self) -> bool:
        now = time.monotonic()
        wanted = self._keepalive.enabled and self._schedule.wants_warm(datetime.now(), now - self._used_at)
        return wanted and self.breaker.up and now - self._contact_at >= self._touch_seconds

    async def _probe(self) -> ChatError | None:
        """Ask for the list of models; return what is wrong."""
        if not self._usable:
            return ChatUnavailable(self.health.words, kind="not-ready")
        self._contact_at = time.monotonic()
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                await self._client.models.with_raw_response.list()
        except Exception as foreign:  # noqa: BLE001  # the engine seam; what comes through varies with the library
            problem = self._translated(foreign)
            # What speaks HTTP without having such a list is there all the same.
            return None if problem.code == "chat-unknown-model" else problem
        return None

    async def close(self) -> None:
        """Close the connections; may be called twice."""
        self._closed = True
        if "_client" in self.__dict__:
            await self._client.close()

    def _note_leaving(self) -> None:
        if self.leaves_house:
            self.sent_outside += 1
            _LOGGER.info("chat: question %d leaves the house, to %s", self.sent_outside, self._server)

    async def _deltas(
        self, answer: Answer, messages: Sequence[Message], sampling: Sampling
    ) -> AsyncGenerator[ChatDelta, None]:
        seconds = self._first_token_seconds
        async with asyncio.timeout(seconds):
            raw = await self._begin(messages, sampling)
        truncated = False
        async with raw.parse() as stream:
            while True:
                async with asyncio.timeout(seconds):
                    chunk = await anext(stream, None)
                if chunk is None:
                    raise ChatUnavailable(f"{self._server} cut its answer off")
                choice = chunk.choices[0] if chunk.choices else None
                if choice and (delta := answer.delta(choice.delta.content or "")):
                    yield delta
                if choice and choice.finish_reason:
                    truncated = choice.finish_reason == "length"
                    break
                if answer.has_begun:
                    seconds = self._gap_seconds
            stats = await _read_to_end(stream) or _stats(chunk) or ChatStats()
        last = answer.end(replace(stats, truncated=truncated))
        if not self.breaker.forbidden:  # else a later question was told to wait
            self.breaker.succeeded()
            self._mind_limits(raw.headers, messages)
        yield last

    async def _begin(self, messages: Sequence[Message], sampling: Sampling) -> Any:
        """Ask; a server that does not know the one name for the longest answer knows the other."""
        import openai

        request = self._request(messages, sampling)
        create: Any = self._client.chat.completions.with_raw_response.create
        self._note_leaving()
        try:
            return await create(**request)
        except openai.BadRequestError as error:
            if "max_tokens" not in request or "max_tokens" not in str(error):
                raise
            self._limit = "max_completion_tokens"
        self._note_leaving()
        return await create(**self._request(messages, sampling))

    def _request(self, messages: Sequence[Message], sampling: Sampling) -> dict[str, Any]:
        options = sampling.options(self._chat.max_tokens, self._chat.temperature)
        return {
            "model": self._settings.model,
            "messages": [
                {"role": message.role, "content": message.whole if self._settings.tell else message.content}
                for message in messages
            ],
            self._limit: options.pop("max_tokens"),
            **options,
            "stream": True,
        }

    def _mind_limits(self, headers: Mapping[str, str], messages: Sequence[Message]) -> None:
        """Do not ask again before the provider would answer."""
        tokens = sum(estimated_tokens(message.whole) for message in messages)
        if seconds := exhausted_seconds(headers, tokens):
            self.breaker.rest(seconds, f"{self._server} allows no more requests for {seconds:.0f} s")

    def _translated(self, foreign: Exception) -> ChatError:
        import openai

        if isinstance(foreign, openai.APIStatusError):
            return self._refusal(foreign)
        if isinstance(foreign, TimeoutError):
            return ChatUnavailable(f"{self._server} was silent for too long", kind="timeout")
        if isinstance(foreign, openai.APIConnectionError) and _is_unconnected(foreign):
            return ChatUnavailable(f"{self._server} cannot be reached: {foreign.__cause__}", kind="unreachable")
        reason = self._key.scrub(str(foreign)) or type(foreign).__name__
        return ChatUnavailable(f"{self._server} broke off: {reason}")

    def _refusal(self, error: Any) -> ChatError:
        body = error.body
        reason = str(body.get("message", body)) if isinstance(body, dict) else error.message
        if error.status_code in (401, 403):
            reason += f" (the key is from {self._key.source})"
        headers = error.response.headers
        retry_after = retry_after_seconds(headers)
        if retry_after is None:
            retry_after = exhausted_seconds(headers, 1)
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


def _is_limit(problem: ChatError) -> TypeGuard[RateLimited]:
    return isinstance(problem, RateLimited)
