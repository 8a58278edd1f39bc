"""A chat provider behind a piece of network, a second one that answers in its place, and faults of the first."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, Self, TypeVar

from satellite.engines.chat.failover import FailoverChat
from satellite.engines.protocols import ChatDelta, ChatStats, Message
from satellite.errors import ChatError, ChatUnavailable
from satellite.net.provider_states import ProviderHealth
from tests.doubles.http import Words, dictated, script
from tests.doubles.ollama import OllamaServer
from tests.doubles.openai import OpenAIServer
from tests.relay import Relay
from tests.waiting import PATIENCE_SECONDS, until


class Moment(StrEnum):
    """When a fault meets a question."""

    START = "start"  # before anybody has looked at the provider
    IDLE = "idle"  # it was well
    ANSWERING = "answering"  # the first words of an answer have come


ServerT = TypeVar("ServerT", bound=OllamaServer | OpenAIServer)


@dataclass(frozen=True)
class Answer:
    """A complete answer."""

    provider: str
    stats: ChatStats


@dataclass
class FaultyRoute(Generic[ServerT]):
    """A provider, the network that leads to it, and a second provider."""

    first: ServerT
    relay: Relay
    second: OpenAIServer
    chat: FailoverChat
    question: list[Message]
    tasks: list["asyncio.Task[Any]"] = field(default_factory=list, kw_only=True)

    @property
    def health(self) -> ProviderHealth:
        return self.chat.models[0].health

    @property
    def questions(self) -> int:
        """How many questions the first provider has seen; what else it is sent is none."""
        return sum(bool(e.method == "POST" and (e.body or {}).get("stream")) for e in self.first.exchanges)

    @property
    def second_asked(self) -> int:
        return sum(exchange.method == "POST" for exchange in self.second.exchanges)

    def look_after(self) -> None:
        self.tasks.append(asyncio.create_task(self.chat.watch()))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.chat.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for what is to come about by itself."""
        try:
            await until(condition)
        except TimeoutError:
            raise AssertionError(f"never came about: {self.chat.status}") from None

    async def answered(self) -> Answer:
        """Ask; there must be exactly one whole answer."""
        async with asyncio.timeout(PATIENCE_SECONDS), aclosing(self.chat.stream(self.question)) as stream:
            *deltas, last = [delta async for delta in stream]
        provider = last.provider
        assert {delta.provider for delta in deltas} <= {provider}
        assert "".join(delta.text for delta in [*deltas, last]) == f"Paris, says {provider}."
        assert not any(delta.stats for delta in deltas)
        assert last.stats is not None
        return Answer(provider, last.stats)

    async def who_answers(self) -> str:
        return (await self.answered()).provider

    async def interrupted(self, break_: Callable[[], Awaitable[None] | None]) -> ChatError | None:
        """Let a fault come when the first words have; the answer is said once, and nobody else is asked.

        Returns the error that says that it is only half.
        """
        provider = self.chat.models[0].provider
        words: asyncio.Queue[str | None] = asyncio.Queue()
        usual, self.first.words = self.first.words, dictated(words)
        words.put_nowait("Paris")
        said: list[ChatDelta] = []
        asked, broke = self.second_asked, None
        try:
            async with asyncio.timeout(PATIENCE_SECONDS), aclosing(self.chat.stream(self.question)) as deltas:
                said.append(await anext(deltas))
                breaking = asyncio.create_task(performed(break_))
                self.tasks.append(breaking)
                await asyncio.wait([breaking], timeout=0.1)  # what another client asks for may have to wait for the end
                for word in (f", says {provider}.", None):
                    words.put_nowait(word)
                async for delta in deltas:
                    said.append(delta)  # noqa: PERF401  # what came before an error counts
        except ChatUnavailable as error:
            broke = error
        self.first.words = usual
        await breaking
        assert {delta.provider for delta in said} == {provider}
        assert "".join(delta.text for delta in said) == ("Paris" if broke else f"Paris, says {provider}.")
        assert self.second_asked == asked
        return broke

    async def stop(self) -> None:
        """Kill the first provider; through the network as it is, a port that nobody listens on is one that refuses."""
        await self.first.stop()
        await self.relay.close()

    async def start(self) -> None:
        await self.first.start()
        await self.relay.open()


RouteT = TypeVar("RouteT", bound=FaultyRoute[Any])


async def performed(act: Callable[[], Awaitable[None] | None]) -> None:
    if (acting := act()) is not None:
        await acting


@dataclass(frozen=True)
class ProviderFault(Generic[RouteT]):
    """What goes wrong with the first provider."""

    name: str
    break_: Callable[[RouteT], Awaitable[None] | None]
    fix: Callable[[RouteT], Awaitable[None] | None]
    message: str  # matches what an administrator is told
    spares_answers: bool = False  # whether an answer that has begun is completed

    async def come(self, route: RouteT) -> None:
        await performed(lambda: self.break_(route))

    async def go(self, route: RouteT) -> None:
        await performed(lambda: self.fix(route))

    async def interrupt(self, route: RouteT) -> ChatError | None:
        """Come in the middle of an answer, which is completed if this fault spares it; returns the error if not."""
        broke = await route.interrupted(lambda: self.break_(route))
        assert (broke is None) is self.spares_answers, broke
        return broke


def says(name: str) -> Words:
    return script("Paris", f", says {name}.")
