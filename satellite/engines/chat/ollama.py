"""A chat model served by Ollama."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from typing import Any

from satellite.config.chat import ChatSettings, KeepAliveSettings, OllamaSettings
from satellite.config.settings import DeadlineSettings
from satellite.engines.chat.keepalive.keep_alive_timer import KeepAliveTimer
from satellite.engines.chat.ollama_client import LOAD_SECONDS, OllamaApi
from satellite.engines.chat.provider_status import ProviderStatus, provider_status
from satellite.engines.chat.reply import ChatReplies
from satellite.engines.protocols import AS_CONFIGURED, ChatDelta, ChatStats, Message, Sampling
from satellite.errors import ChatError, ChatUnavailable
from satellite.net.http_client import is_at_home, warn_of_outside
from satellite.net.provider_states import ProviderHealth
from satellite.tasks import begin_task, end_tasks

_WHOLE = 0.9
"""Share of a deadline that counts as all of it: a caller that gave up may have begun a little earlier."""


class OllamaChat:
    """A `ChatModel`. Closing a stream closes its socket, at which Ollama stops generating.

    Before the first word that could abort the loading of the model. The socket is then kept open in the background
    until the model speaks, one socket at a time.
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
        """Use a model as configured; `name` replaces the provider's name in the settings."""
        self.provider = name or settings.name
        self.model = settings.model
        self.context_tokens: int | None = settings.num_ctx
        self.leaves_house = not is_at_home(settings.url)
        self._api = OllamaApi(settings, chat)
        self._patience_seconds = chat.first_token_seconds
        self._first_token_seconds = deadlines.chat_first_token_seconds
        self._gap_seconds = deadlines.chat_gap_seconds
        self.keepalive = KeepAliveTimer(
            self._api,
            keepalive or KeepAliveSettings(),
            [Message("system", chat.system_prompt)],
            patience_seconds=self._patience_seconds,
            deadline_seconds=self._first_token_seconds,
        )
        self._replies = ChatReplies(self.provider)
        self._lingering: asyncio.Task[None] | None = None
        if self.leaves_house or settings.model.endswith("cloud"):  # Ollama forwards models such as gpt-oss:120b-cloud
            warn_of_outside(self.provider, settings.url)

    @property
    def health(self) -> ProviderHealth:
        """Return what the keep-alive timer knows of the model."""
        return self.keepalive.health

    @property
    def status(self) -> ProviderStatus:
        """Return its state, with what the keep-alive timer has seen and sent."""
        return provider_status(self, keepalive=self.keepalive.status)

    async def stream(
        self, messages: Sequence[Message], sampling: Sampling = AS_CONFIGURED
    ) -> AsyncGenerator[ChatDelta, None]:
        """Yield the answer; see `ChatModel`. Raises `ChatError`."""
        began = time.monotonic()
        self._replies.always_thinks = self._api.opens_thought
        reply = self._replies.begin(may_be_empty=sampling.may_be_empty)
        with self.keepalive.question(messages):
            try:
                lines = await self._api.answer(messages, sampling)
                line = await self._first(lines, began)
                async with aclosing(lines):
                    while not line.done:
                        if delta := reply.delta(line.message.content or ""):
                            yield delta
                        line = await self._api.line(
                            lines, self._gap_seconds if reply.has_begun else self._first_token_seconds
                        )
                    await self._api.finish(lines)
                if delta := reply.delta(line.message.content or ""):
                    yield delta
                last = reply.end(_stats(line))
                self.keepalive.answered(_seconds(line.load_duration))
                yield last
            except asyncio.CancelledError:
                if not reply.has_begun:
                    self._given_up(began)
                raise
            except ChatError as error:
                self.keepalive.failed(error)
                if rest := reply.rest():
                    yield rest
                raise

    def prepare(self, messages: Sequence[Message]) -> None:
        """Have the model loaded, and `messages` read, before the question comes."""
        self.keepalive.expect(messages)

    async def warm_up(self) -> None:
        """Wait until the model is loaded and has read its prompt. Raises `ChatUnavailable` when it cannot answer."""
        await self.keepalive.settled()

    async def load(self) -> None:
        """Import the client's library in a thread. Raises `ChatUnavailable`."""
        await self._api.open()

    async def watch(self) -> None:
        """Run the keep-alive timer."""
        with suppress(ChatError):  # which the timer meets as well, and reports
            await self.load()
        await self.keepalive.run()

    async def close(self) -> None:
        """Close the connections; may be called twice."""
        if self._lingering is not None:
            await end_tasks(self._lingering)
        await self._api.close()

    async def _first(self, lines: AsyncGenerator[Any, None], began: float) -> Any:
        """Return the first line of an answer to a question that `began` then."""
        first = begin_task(self._api.line(lines), "first line")
        try:
            async with asyncio.timeout(self._first_token_seconds):
                return await self.keepalive.attended(first)
        except TimeoutError:
            await self._abandon(lines, first, time.monotonic() - began)
            raise ChatUnavailable(
                f"{self._api.server} was silent for {self._first_token_seconds:g} s", kind="timeout"
            ) from None
        except (ChatError, asyncio.CancelledError):
            await self._abandon(lines, first, time.monotonic() - began)
            raise

    async def _abandon(self, lines: AsyncGenerator[Any, None], first: asyncio.Task[Any], waited: float) -> None:
        """Give a request up, but let a load that it may have begun complete."""
        lingers = self._lingering is not None and not self._lingering.done()
        warm = not self.keepalive.is_cold and waited < _WHOLE * self._patience_seconds
        if first.done() or warm or lingers:
            await _hang_up(lines, first)
        else:
            self._lingering = begin_task(_outlast(lines, first), "abandoned load")

    def _given_up(self, began: float) -> None:
        """Record that the caller no longer waits for the first word of a question that `began` then."""
        late = self.keepalive.late_seconds(began)
        if late >= self._patience_seconds:
            kind = "timeout" if late >= _WHOLE * self._first_token_seconds else "slow"
            self.keepalive.failed(ChatUnavailable(f"{self._api.server} had no word within {late:.1f} s", kind=kind))


async def _outlast(lines: AsyncGenerator[Any, None], first: asyncio.Task[Any]) -> None:
    """Wait for the first line of an answer that nobody wants any more, then hang up."""
    try:
        await asyncio.wait([first], timeout=LOAD_SECONDS)
    finally:
        await _hang_up(lines, first)


async def _hang_up(lines: AsyncGenerator[Any, None], first: asyncio.Task[Any]) -> None:
    # The task first: a generator cannot be closed while another task is inside it.
    await end_tasks(first)
    await lines.aclose()


def _stats(line: Any) -> ChatStats:
    """Return the figures of an answer's last line; Ollama counts in nanoseconds."""
    return ChatStats(
        truncated=line.done_reason == "length",
        prompt_tokens=line.prompt_eval_count,
        answer_tokens=line.eval_count,
        load_seconds=_seconds(line.load_duration),
        prompt_seconds=_seconds(line.prompt_eval_duration),
        answer_seconds=_seconds(line.eval_duration),
    )


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e9
