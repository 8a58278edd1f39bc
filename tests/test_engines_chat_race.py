"""When who is asked, to the millisecond, on a virtual clock: choosing adds nothing of its own."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import pytest

from satellite.config import Chat, Deadlines
from satellite.engines import AS_CONFIGURED, ChatDelta, Message, Sampling
from satellite.engines.chat.route import RouteChat
from satellite.engines.health import Health
from satellite.engines.stats import ChatStats
from satellite.errors import ChatUnavailable
from tests.virtual_clock import run_virtually

QUESTION = [Message("user", "What is the capital of France?")]


class Clockwork:
    """A chat model that speaks, or fails, at a known moment."""

    context_tokens: int | None = None
    leaves_house = False

    def __init__(self, provider: str, seconds: float, *, fails: bool = False, up: bool = True) -> None:
        self.provider = self.model = provider
        self.health = Health("ready" if up else "unreachable", up, f"{provider} is {'well' if up else 'down'}")
        self.details: dict[str, Any] = {}
        self.asked_at: float | None = None
        self.stopped_at: float | None = None
        self.prepared: list[Sequence[Message]] = []
        self._seconds = seconds
        self._fails = fails

    async def stream(
        self, messages: Sequence[Message], sampling: Sampling = AS_CONFIGURED
    ) -> AsyncGenerator[ChatDelta, None]:
        """Wait, then say one's name."""
        loop = asyncio.get_running_loop()
        self.asked_at = loop.time()
        try:
            await asyncio.sleep(self._seconds)
            if self._fails:
                raise ChatUnavailable(f"{self.provider} fails")
            yield ChatDelta(self.provider, self.provider)
            yield ChatDelta("", self.provider, ChatStats())
        finally:
            self.stopped_at = loop.time()

    def prepare(self, messages: Sequence[Message]) -> None:
        """Note what is expected."""
        self.prepared.append(messages)

    async def warm_up(self) -> None:
        """Need no warming."""

    async def watch(self) -> None:
        """Need no looking after."""

    async def close(self) -> None:
        """Hold nothing."""


def ask(*models: Clockwork, **settings: float) -> tuple[str, Any, str]:
    """Return who answered, when its first word came, and why it was not the first."""

    async def scenario() -> tuple[str, Any, str]:
        route = RouteChat(models, Chat(**settings), Deadlines())
        async with aclosing(route.stream(QUESTION)) as deltas:
            first = await anext(deltas)
            at = asyncio.get_running_loop().time()
            rest = [delta async for delta in deltas]
        assert rest[-1].stats is not None
        return first.text, at, rest[-1].stats.switch_reason

    return run_virtually(scenario())


def test_one_that_is_well_costs_its_own_time() -> None:
    """And nobody else is asked."""
    second = Clockwork("second", 0.1)
    assert ask(Clockwork("first", 1.2), second) == ("first", 1.2, "")
    assert second.asked_at is None


def test_one_that_is_known_to_be_down_costs_nothing() -> None:
    """It is not asked, but told that it is missed."""
    first = Clockwork("first", 0.1, up=False)
    assert ask(first, Clockwork("second", 0.2)) == ("second", 0.2, "first: first is down")
    assert first.asked_at is None
    assert first.prepared == [[]]


def test_one_that_fails_costs_the_time_until_it_does() -> None:
    """The next one is asked in the same moment."""
    assert ask(Clockwork("first", 0.4, fails=True), Clockwork("second", 0.2))[:2] == ("second", pytest.approx(0.6))


def test_one_that_is_silent_costs_the_patience() -> None:
    """And is stopped once another has spoken."""
    first = Clockwork("first", 5)
    assert ask(first, Clockwork("second", 0.2))[:2] == ("second", pytest.approx(1.7))
    assert first.stopped_at == pytest.approx(1.7)


def test_hedging_costs_less() -> None:
    """The second is asked at its moment, and the first still wins if it speaks first."""
    assert ask(Clockwork("first", 5), Clockwork("second", 0.2), hedge_seconds=0.3)[:2] == ("second", pytest.approx(0.5))
    assert ask(Clockwork("first", 0.4), Clockwork("second", 0.2), hedge_seconds=0.3)[:2] == ("first", 0.4)


def test_three_in_a_row() -> None:
    """Each has the patience; a failure in between shortens it."""
    slow, broken, last = Clockwork("slow", 9), Clockwork("broken", 0.1, fails=True), Clockwork("last", 0.3)
    answered = ask(slow, broken, last)
    assert answered[:2] == ("last", pytest.approx(1.9))
    assert answered[2] == "slow: no word after 0.0 s; broken: broken fails"  # virtual seconds pass in no time


def test_all_too_slow_ends_by_the_deadline() -> None:
    """Whoever waits is told before the stage's own deadline."""

    async def scenario() -> float:
        route = RouteChat([Clockwork("first", 60), Clockwork("second", 60)], Chat(), Deadlines())
        with pytest.raises(ChatUnavailable, match=r"first: no word within 9\.5 s; second: no word within 9\.5 s"):
            await anext(route.stream(QUESTION))
        return asyncio.get_running_loop().time()

    assert run_virtually(scenario()) == pytest.approx(9.5)


def test_a_question_is_expected_of_whoever_would_be_asked() -> None:
    """And of those before it, which it may bring back; not of those behind."""
    down, well, spare = Clockwork("down", 1, up=False), Clockwork("well", 1), Clockwork("spare", 1)
    RouteChat([down, well, spare], Chat(), Deadlines()).prepare(QUESTION)
    assert (down.prepared, well.prepared, spare.prepared) == ([QUESTION], [QUESTION], [])
