"""A provider outside the house, with a key, and one at home behind it, for tests."""

import asyncio
import json
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from satellite.config.chat import ChatSettings, KeepAliveSettings, OpenAISettings
from satellite.config.settings import DeadlineSettings
from satellite.engines.chat.failover import FailoverChat
from satellite.engines.chat.openai import OpenAIChat
from satellite.engines.protocols import ChatDelta, Message
from satellite.errors import ChatError, ChatUnavailable
from satellite.monitoring.status import as_json
from tests.doubles.http import dictated, script
from tests.doubles.openai import OpenAIServer
from tests.relay import Relay
from tests.waiting import PATIENCE_SECONDS, until

KEY = "gsk_NobodyMayEverSeeThis"
OUTSIDE = "http://chat.example.com/openai/v1"
GAP_SECONDS = 0.6


QUESTION = [Message("system", "Be brief."), Message("user", "What is the capital of France?")]
SAID = {"groq": "Paris, says Groq.", "second": "Paris, says the second."}
GROQ = script("Paris", ", says Groq.")


@dataclass
class HostedRoute:
    """A hosted provider, outside the house, reached through a piece of network, and a second one at home."""

    groq: OpenAIServer
    relay: Relay
    second: OpenAIServer
    models: tuple[OpenAIChat, OpenAIChat]
    chat: FailoverChat
    tasks: list["asyncio.Task[Any]"] = field(default_factory=list)

    @property
    def methods(self) -> list[str]:
        """What the hosted provider has seen: POST is a question, GET no more than a look at it."""
        return [exchange.method for exchange in self.groq.exchanges]

    @property
    def questions(self) -> int:
        """How many questions it has seen."""
        return self.methods.count("POST")

    @property
    def told(self) -> dict[str, Any]:
        """What the status tells of it."""
        told: dict[str, Any] = as_json(self.chat.status)["providers"][0]
        return told

    def look_after(self) -> None:
        """Watch over both providers."""
        self.tasks.append(asyncio.create_task(self.chat.watch()))

    async def be_hung_up_on(self) -> None:
        """Let the other side give up the connections that are open."""
        self.relay.reset()
        self.relay.mend()
        await asyncio.sleep(0.05)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for what is to come about by itself."""
        try:
            await until(condition)
        except TimeoutError:
            raise AssertionError(f"never came about: {self.told}, {self.methods}") from None

    async def until_looked_at(self) -> None:
        """Wait until the provider has been looked at, and everybody on this loop knows it."""
        await self.until(lambda: "GET" in self.methods)
        for _ in range(20):
            await asyncio.sleep(0.01)


Scenario = Callable[[HostedRoute], Awaitable[None]]


@dataclass(frozen=True)
class Lasting:
    """A fault that is there until `mend`."""

    name: str
    break_: Callable[[HostedRoute], Awaitable[None] | None]
    mend: Callable[[HostedRoute], Awaitable[None] | None]
    words: str
    """Matches what an administrator is told."""

    hits_looks: bool = False
    """Whether one need not ask a question to find out."""

    spares_answers: bool = True
    """Whether an answer that has begun is completed."""

    async def come(self, house: HostedRoute) -> None:
        """Begin."""
        if (coming := self.break_(house)) is not None:
            await coming

    async def go(self, house: HostedRoute) -> None:
        """Be over."""
        if (going := self.mend(house)) is not None:
            await going


@asynccontextmanager
async def built(
    monkeypatch: pytest.MonkeyPatch,
    *,
    patience_seconds: float = 5,
    interval_seconds: float = 0.05,
    **options: Any,
) -> AsyncIterator[HostedRoute]:
    """Build a house that nobody looks after yet; nobody in it ever sees the key."""
    chat = ChatSettings(first_token_seconds=patience_seconds, max_tokens=50)
    keepalive = KeepAliveSettings(interval_seconds=interval_seconds)
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        OpenAIServer(GROQ, key=KEY) as groq,
        OpenAIServer(script(SAID["second"]), model="m") as second,
        Relay(groq.port) as relay,
    ):
        groq.repeats_key = True
        # The relay stands in for the house's proxy, through which a public name is reached without a network.
        monkeypatch.setenv("HTTP_PROXY", relay.url)
        hosted = OpenAISettings(type="openai", url=OUTSIDE, model=groq.model)
        other = OpenAISettings(type="openai", name="second", url=second.base_url, model="m")
        deadlines = DeadlineSettings(chat_first_token_seconds=2 * patience_seconds + 1, chat_gap_seconds=GAP_SECONDS)
        models = (
            OpenAIChat(hosted, chat, deadlines, keepalive, **options),
            OpenAIChat(other, chat, deadlines, keepalive),
        )
        for model in models:
            await model.load()  # now: it reads the proxy, and each house has its own
        house = HostedRoute(groq, relay, second, models, FailoverChat(models, chat, deadlines))
        try:
            yield house
        finally:
            for task in house.tasks:
                task.cancel()
            await asyncio.gather(*house.tasks, return_exceptions=True)
            await house.chat.close()
    assert house.told["sent_outside"] >= house.questions
    assert KEY not in f"{json.dumps(as_json(house.chat.status))} {models[0]!r} {vars(models[0])!r}"
    assert not any(KEY in str(exchange.headers) for exchange in second.exchanges)


async def live(
    monkeypatch: pytest.MonkeyPatch, *scenarios: Scenario, names: Sequence[str] = ("",), **options: float
) -> None:
    """Run scenarios, each in a house of its own, all at the same time."""

    async def lived(name: str, scenario: Scenario) -> None:
        try:
            async with built(monkeypatch, **options) as house:
                await scenario(house)
        except BaseException as error:
            error.add_note(f"in the house: {name}")
            raise

    await asyncio.gather(*(lived(*each) for each in zip(names, scenarios, strict=True)))


async def answered(house: HostedRoute) -> str:
    """Ask; there must be exactly one whole answer; return whose."""
    async with asyncio.timeout(PATIENCE_SECONDS), aclosing(house.chat.stream(QUESTION)) as stream:
        deltas = [delta async for delta in stream]
    (provider,) = {delta.provider for delta in deltas}
    assert "".join(delta.text for delta in deltas) == SAID[provider]
    assert [delta.stats is not None for delta in deltas] == [False] * (len(deltas) - 1) + [True]
    return provider


async def answered_until_healed(house: HostedRoute) -> None:
    """Ask over and over until the hosted provider answers again."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await answered(house) != "groq":
            await asyncio.sleep(0.02)


def shown(error: BaseException) -> str:
    """Return all that a crash report could show of an error: its chain, and the variables of every frame."""
    return "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())


async def interrupted(house: HostedRoute, fault: Lasting) -> None:
    """Let the fault come when the first words have; the answer is told once, and nobody else is asked."""
    words: asyncio.Queue[str | None] = asyncio.Queue()
    words.put_nowait("Paris")
    house.groq.words = dictated(words)
    said, broke = [], None
    async with asyncio.timeout(PATIENCE_SECONDS), aclosing(house.chat.stream(QUESTION)) as deltas:
        said.append(await anext(deltas))
        await fault.come(house)
        for word in (", says Groq.", None):
            words.put_nowait(word)
        try:
            async for delta in deltas:
                said.append(delta)  # noqa: PERF401  # what came before an error counts
        except ChatUnavailable as error:
            broke = error
    house.groq.words = GROQ
    told_once(house, said, broke)
    assert (broke is None) is fault.spares_answers


def told_once(house: HostedRoute, said: list[ChatDelta], broke: ChatError | None) -> None:
    """See to it that the answer is one provider's, and half of it only where an error says so."""
    assert {delta.provider for delta in said} == {"groq"}
    assert "".join(delta.text for delta in said) == ("Paris" if broke else SAID["groq"])
    assert broke is None or KEY not in shown(broke)
    assert house.second.exchanges == []
