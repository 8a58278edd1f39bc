"""A chat model served by Ollama."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from typing import Any

from satellite.config.chat import ChatSettings, KeepAliveSettings, OllamaSettings
from satellite.config.settings import DeadlineSettings
from satellite.engines.chat.keepalive.keeper import Keeper
from satellite.engines.chat.ollama_client import OllamaApi
from satellite.engines.chat.provider_health import Health
from satellite.engines.chat.reply import ChatReplies
from satellite.engines.chat.status import ProviderStatus, provider_status
from satellite.engines.chat.usage import ChatStats
from satellite.engines.protocols import AS_CONFIGURED, ChatDelta, Message, Sampling
from satellite.errors import ChatError, ChatUnavailable
from satellite.net.http_client import is_at_home, warn_of_outside
from satellite.tasks import begin_task, end_tasks

_WHOLE = 0.9
"""What part of a deadline is as good as all of it: whoever gave up waiting may have begun a little earlier."""

_TAIL_SECONDS = 1.0
"""How long the end of the HTTP answer may take once the model's is complete."""

_LINGER_SECONDS = 300.0
"""Ollama's own limit for loading, OLLAMA_LOAD_TIMEOUT."""


class OllamaChat:
    """A `ChatModel`. Closing a stream closes its socket, at which Ollama stops generating.

    Before the first word that might abort the loading of the model, so that then the socket is kept, in the
    background and one at a time, until the model speaks.
    """

    def __init__(
        self,
        settings: OllamaSettings,
        chat: ChatSettings,
        deadlines: DeadlineSettings,
        keepalive: KeepAliveSettings | None = None,
        *,
        name: str = "",
    ) -> None:
        """Talk with a model as configured; `name` is what it is called, if not by its settings."""
        self.provider = name or settings.name
        self.model = settings.model
        self.context_tokens: int | None = settings.num_ctx
        self.leaves_house = not is_at_home(settings.url)
        self._api = OllamaApi(settings, chat)
        prefix = [Message("system", chat.system_prompt)]
        patience = chat.first_token_seconds
        self.keeper = Keeper(
            self._api,
            keepalive or KeepAliveSettings(),
            prefix,
            patience_seconds=patience,
            deadline_seconds=deadlines.chat_first_token_seconds,
        )
        self._patience_seconds = patience
        self._first_token_seconds = deadlines.chat_first_token_seconds
        self._gap_seconds = deadlines.chat_gap_seconds
        self._replies = ChatReplies(self.provider)
        self._lingering: asyncio.Task[None] | None = None
        if self.leaves_house or settings.model.endswith("cloud"):  # Ollama hands models such as gpt-oss:120b-cloud on
            warn_of_outside(self.provider, settings.url)

    @property
    def health(self) -> Health:
        """Return what the keep-alive timer knows of the model."""
        return self.keeper.health

    @property
    def status(self) -> ProviderStatus:
        """Return its state, with what the keep-alive timer has seen and sent."""
        return provider_status(self, keepalive=self.keeper.status)

    def stream(
        self, messages: Sequence[Message], sampling: Sampling = AS_CONFIGURED
    ) -> AsyncGenerator[ChatDelta, None]:
        """Yield the answer; see `ChatModel`. Raises `ChatError`."""
        return self._answered(messages, sampling, time.monotonic())

    async def _answered(
        self, messages: Sequence[Message], sampling: Sampling, began: float
    ) -> AsyncGenerator[ChatDelta, None]:
        silent = True
        with self.keeper.turn(messages):
            try:
                async with aclosing(self._deltas(messages, sampling)) as deltas:
                    async for delta in deltas:
                        silent = False
                        if delta.stats is not None:
                            self.keeper.answered(delta.stats.load_seconds)
                        yield delta
            except ChatError as error:
                self.keeper.suspect(error)
                raise
            except asyncio.CancelledError:
                late = self.keeper.late_seconds(began)
                if silent and late >= self._patience_seconds:
                    self.keeper.suspect(self._late(late))
                raise

    def prepare(self, messages: Sequence[Message]) -> None:
        """Have the model loaded, and `messages` read, before the question comes."""
        self.keeper.expect(messages)

    async def warm_up(self) -> None:
        """Wait until the model is loaded and has read its prompt. Raises `ChatUnavailable` when it cannot answer."""
        await self.keeper.settled()

    async def load(self) -> None:
        """Import the library beside whatever else is to be done."""
        await self._api.open()

    async def watch(self) -> None:
        """Run the keep-alive timer."""
        with suppress(ChatError):  # which the timer meets as well, and tells
            await self.load()
        await self.keeper.run()

    async def close(self) -> None:
        """Close the connections; may be called twice."""
        if self._lingering is not None:
            await end_tasks(self._lingering)
        await self._api.close()

    async def _deltas(self, messages: Sequence[Message], sampling: Sampling) -> AsyncGenerator[ChatDelta, None]:
        self._replies.always_thinks = self._api.opens_thought
        answer = self._replies.begin(may_be_empty=sampling.may_be_empty)
        seconds = self._first_token_seconds
        parts = self._api.parts(messages, sampling)
        began = time.monotonic()
        problem: ChatError | None = None
        try:
            await self._api.open()
            part = await self._first(parts, began)
            async with aclosing(parts):
                while part is not None:
                    if delta := answer.delta(part.message.content or ""):
                        yield delta
                    if part.done:
                        break
                    seconds = self._gap_seconds if answer.has_begun else self._first_token_seconds
                    async with asyncio.timeout(seconds):
                        part = await anext(parts, None)
                else:
                    raise ChatUnavailable(f"{self._api.server} cut its answer off")
                await _read_to_end(parts)
        except Exception as foreign:  # noqa: BLE001  # the engine seam: the client lets through what HTTP and JSON raise
            problem = self._api.translated(foreign, seconds)
        if problem is not None:
            if delta := answer.rest():
                yield delta
            raise problem
        yield answer.end(self._stats(part))

    async def _first(self, parts: AsyncGenerator[Any, None], began: float) -> Any:
        """Return the first line of a request that `began` then, None when there is none."""
        first = begin_task(_next(parts), "first line")
        try:
            async with asyncio.timeout(self._first_token_seconds):
                while not first.done():
                    await asyncio.wait([first], timeout=self._patience_seconds)
                    if not first.done():
                        await self._looked_aside(first)
            return first.result()
        except (ChatError, TimeoutError, asyncio.CancelledError):
            await self._abandon(parts, first, time.monotonic() - began)
            raise

    async def _looked_aside(self, first: asyncio.Task[Any]) -> None:
        """Look whether Ollama is still there, for as long as the first line is not; raises `ChatError` if it is not."""
        look = begin_task(self.keeper.look_aside(), "look aside")
        try:
            await asyncio.wait([first, look], return_when=asyncio.FIRST_COMPLETED)
            if not first.done():
                look.result()
        finally:
            await end_tasks(look)

    async def _abandon(self, parts: AsyncGenerator[Any, None], first: asyncio.Task[Any], waited: float) -> None:
        """Give a request up, but let a load that it may have begun come to its end."""
        lingers = self._lingering is not None and not self._lingering.done()
        warm = not self.keeper.is_cold and waited < _WHOLE * self._patience_seconds
        if first.done() or warm or lingers:
            await _drop(parts, first)
        else:
            self._lingering = begin_task(_outlast(parts, first), "abandoned load")

    def _late(self, waited: float) -> ChatUnavailable:
        kind = "timeout" if waited >= _WHOLE * self._first_token_seconds else "slow"
        return ChatUnavailable(f"{self._api.server} had no word within {waited:.1f} s", kind=kind)

    def _stats(self, part: Any) -> ChatStats:
        """Return the figures of an answer's last line; Ollama counts in nanoseconds."""
        return ChatStats(
            truncated=part.done_reason == "length",
            prompt_tokens=part.prompt_eval_count,
            answer_tokens=part.eval_count,
            load_seconds=_seconds(part.load_duration),
            prompt_seconds=_seconds(part.prompt_eval_duration),
            answer_seconds=_seconds(part.eval_duration),
        )


async def _next(parts: AsyncGenerator[Any, None]) -> Any:
    return await anext(parts, None)


async def _outlast(parts: AsyncGenerator[Any, None], first: asyncio.Task[Any]) -> None:
    """Wait for the first line of an answer that nobody wants any more, then hang up."""
    try:
        await asyncio.wait([first], timeout=_LINGER_SECONDS)
    finally:
        await _drop(parts, first)


async def _drop(parts: AsyncGenerator[Any, None], first: asyncio.Task[Any]) -> None:
    """Hang up; what the first line was, or would have been, does not matter."""
    await end_tasks(first)
    await parts.aclose()


async def _read_to_end(parts: AsyncGenerator[Any, None]) -> None:
    """Leave the connection fit for the next request; what goes wrong after the model's last word does not matter."""
    with suppress(Exception):
        async with asyncio.timeout(_TAIL_SECONDS):
            await anext(parts, None)


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e9
