"""When who is asked, to the millisecond, on a virtual clock: choosing adds nothing of its own."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import pytest

from satellite.config.chat import ChatSettings
from satellite.config.settings import DeadlineSettings
from satellite.engines.chat.failover import FailoverChat
from satellite.engines.chat.provider_status import ProviderStatus, provider_status
from satellite.engines.protocols import AS_CONFIGURED, ChatDelta, ChatStats, Message, Sampling
from satellite.errors import ChatUnavailable
from satellite.net.provider_states import ProviderHealth
from satellite.tasks import Background

pytestmark = pytest.mark.virtual_clock

QUESTION = [Message("user", "What is the capital of France?")]


class Clockwork:
    """A chat model that speaks, or fails, at a known moment."""

    context_tokens: int | None = None

    def __init__(
        self,
        provider: str,
        seconds: float,
        *,
        fails: bool = False,
        up: bool = True,
        late: bool = False,
        hosted: bool = False,
    ) -> None:
        self.provider = self.model = provider
        self.leaves_house = hosted
        state = "loading" if late else "ready" if up else "unreachable"
        words = f"{provider} is {'well' if up else 'down'}"
        self.health = ProviderHealth(state, up and not late, words, is_late=late)
        self.asked_at: float | None = None
        self.stopped_at: float | None = None
        self.prepared: list[Sequence[Message]] = []
        self._seconds = seconds
        self._fails = fails

    @property
    def status(self) -> ProviderStatus:
        """Return how it is."""
        return provider_status(self)

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


async def ask(*models: Clockwork, **settings: Any) -> tuple[str, Any, str]:
    """Return who answered, when its first word came, and why it was not the first."""
    route = FailoverChat(models, ChatSettings(**settings), DeadlineSettings())
    clock = asyncio.get_running_loop().time
    began = clock()
    async with aclosing(route.stream(QUESTION)) as deltas:
        first = await anext(deltas)
        seconds = round(clock() - began, 3)
        rest = [delta async for delta in deltas]
    assert rest[-1].stats is not None
    return first.text, seconds, rest[-1].stats.switch_reason


async def test_one_that_is_well_costs_its_own_time() -> None:
    second = Clockwork("second", 0.1)
    assert await ask(Clockwork("first", 1.2), second) == ("first", 1.2, "")
    assert second.asked_at is None


async def test_one_that_is_known_to_be_down_costs_nothing() -> None:
    first = Clockwork("first", 0.1, up=False)
    assert await ask(first, Clockwork("second", 0.2)) == ("second", 0.2, "first: first is down")
    assert first.asked_at is None
    assert first.prepared == [[]]


async def test_one_that_fails_costs_the_time_until_it_does() -> None:
    assert (await ask(Clockwork("first", 0.4, fails=True), Clockwork("second", 0.2)))[:2] == (
        "second",
        pytest.approx(0.6),
    )


async def test_one_that_is_silent_costs_the_patience() -> None:
    first = Clockwork("first", 5)
    assert (await ask(first, Clockwork("second", 0.2)))[:2] == ("second", pytest.approx(1.7))
    assert first.stopped_at == pytest.approx(1.7)


async def test_hedging_costs_less() -> None:
    assert (await ask(Clockwork("first", 5), Clockwork("second", 0.2), hedge_seconds=0.3))[:2] == (
        "second",
        pytest.approx(0.5),
    )
    assert (await ask(Clockwork("first", 0.4), Clockwork("second", 0.2), hedge_seconds=0.3))[:2] == ("first", 0.4)


async def test_three_in_a_row() -> None:
    slow, broken, last = Clockwork("slow", 9), Clockwork("broken", 0.1, fails=True), Clockwork("last", 0.3)
    answered = await ask(slow, broken, last)
    assert answered[:2] == ("last", pytest.approx(1.9))
    assert answered[2] == "slow: no word after 1.9 s; broken: broken fails"


async def test_all_too_slow_ends_by_the_deadline() -> None:
    route = FailoverChat([Clockwork("first", 60), Clockwork("second", 60)], ChatSettings(), DeadlineSettings())
    with pytest.raises(ChatUnavailable, match=r"first: no word within 9\.5 s; second: no word within 9\.5 s") as caught:
        await anext(route.stream(QUESTION))
    assert caught.value.code == "chat-timeout"
    assert asyncio.get_running_loop().time() == pytest.approx(9.5)


def test_a_question_is_expected_of_whoever_would_be_asked() -> None:
    down, well, spare = Clockwork("down", 1, up=False), Clockwork("well", 1), Clockwork("spare", 1)
    FailoverChat([down, well, spare], ChatSettings(), DeadlineSettings()).prepare(QUESTION)
    assert (down.prepared, well.prepared, spare.prepared) == ([QUESTION], [QUESTION], [])


def asked(*models: Clockwork) -> list[str]:
    """Return the names of those that were asked."""
    return [model.provider for model in models if model.asked_at is not None]


@pytest.mark.parametrize("seconds", [0.1, 2.0, 9.0])
async def test_words_stay_in_the_house_however_slow_it_is(seconds: float) -> None:
    ollama, groq = Clockwork("ollama", seconds), Clockwork("groq", 0.1, hosted=True)
    assert (await ask(ollama, groq))[:2] == ("ollama", pytest.approx(seconds))
    assert groq.asked_at is None


async def test_a_house_that_says_nothing_at_all_ends_with_an_error_and_not_outside() -> None:
    ollama, groq = Clockwork("ollama", 60), Clockwork("groq", 0.1, hosted=True)
    with pytest.raises(ChatUnavailable, match="ollama: no word within"):
        await ask(ollama, groq)
    assert groq.asked_at is None


async def test_what_is_slow_is_overtaken_by_the_next_in_the_house() -> None:
    ollama, groq, local = Clockwork("ollama", 5), Clockwork("groq", 0.1, hosted=True), Clockwork("local", 0.2)
    assert (await ask(ollama, groq, local))[:2] == ("local", pytest.approx(1.7))
    assert asked(ollama, groq, local) == ["ollama", "local"]


async def test_words_leave_the_house_when_nobody_before_is_up_or_the_one_that_is_fails() -> None:
    ollama, groq, local = Clockwork("ollama", 5, up=False), Clockwork("groq", 0.1, hosted=True), Clockwork("local", 0.2)
    assert await ask(ollama, groq, local) == ("groq", pytest.approx(0.1), "ollama: ollama is down")
    ollama, groq = Clockwork("ollama", 0.3, fails=True), Clockwork("groq", 0.1, hosted=True)
    assert await ask(ollama, groq) == ("groq", pytest.approx(0.4), "ollama: ollama fails")


async def test_a_model_that_is_loading_is_waited_for_and_not_gone_past() -> None:
    ollama, groq = Clockwork("ollama", 6, late=True), Clockwork("groq", 0.1, hosted=True)
    assert (await ask(ollama, groq))[:2] == ("ollama", pytest.approx(6))
    assert groq.asked_at is None
    ollama, groq, local = (
        Clockwork("ollama", 6, late=True),
        Clockwork("groq", 0.1, hosted=True),
        Clockwork("local", 0.2),
    )
    assert (await ask(ollama, groq, local))[:2] == ("local", pytest.approx(0.2))
    assert asked(ollama, groq, local) == ["local"]
    ollama = Clockwork("ollama", 6, late=True)
    groq, local = Clockwork("groq", 0.1, hosted=True), Clockwork("local", 0.2, fails=True)
    assert (await ask(ollama, groq, local))[:2] == ("ollama", pytest.approx(6.2))
    assert groq.asked_at is None


async def test_a_model_that_turns_out_to_load_for_too_long_is_gone_past() -> None:
    class Loading(Clockwork):
        """Found to be down after four seconds of waiting."""

        @property
        def health(self) -> ProviderHealth:
            is_late = self.asked_at is None or asyncio.get_running_loop().time() - self.asked_at < 4
            return ProviderHealth("loading", False, "it is being loaded", is_late=is_late)

        @health.setter
        def health(self, value: ProviderHealth) -> None:
            pass

    ollama, groq = Loading("ollama", 60), Clockwork("groq", 0.1, hosted=True)
    provider, seconds, _ = await ask(ollama, groq)
    assert provider == "groq"
    assert 4 < seconds < 8


async def test_when_slow_lets_a_hosted_one_be_asked_for_being_late() -> None:
    ollama, groq = Clockwork("ollama", 5), Clockwork("groq", 0.1, hosted=True)
    assert (await ask(ollama, groq, hosted="when_slow"))[:2] == ("groq", pytest.approx(1.6))
    ollama, groq = Clockwork("ollama", 6, late=True), Clockwork("groq", 0.1, hosted=True)
    assert await ask(ollama, groq, hosted="when_slow") == ("groq", pytest.approx(0.1), "ollama: ollama is well")


async def test_two_of_one_name_are_two() -> None:
    first, second = Clockwork("ollama", 0.1), Clockwork("ollama", 0.1)
    route = FailoverChat([first, second], ChatSettings(), DeadlineSettings())
    for health, switches in (
        (first.health, 0),
        (ProviderHealth("unreachable", False, "it is down"), 1),
        (first.health, 2),
    ):
        first.health = health
        async with aclosing(route.stream(QUESTION)) as deltas:
            assert [delta.provider async for delta in deltas] == ["ollama"] * 2
        assert route.switches == switches


class Stumbling(Clockwork):
    """One that cannot be looked after, at first."""

    watches = 0

    async def watch(self) -> None:
        """Fail twice, then go on."""
        self.watches += 1
        if self.watches < 3:
            raise ValueError("Port could not be cast to integer value")
        await asyncio.Event().wait()


async def test_a_watcher_that_fails_is_begun_again_and_ends_nobody_elses() -> None:
    background = Background()
    broken, well = Stumbling("broken", 1), Clockwork("well", 1)
    route = FailoverChat([broken, well], ChatSettings(), DeadlineSettings(), background)
    watch = asyncio.create_task(route.watch())
    await asyncio.sleep(0.1)
    assert "Port could not be cast" in background.trouble("watch broken")
    assert background.trouble("watch well") == ""
    await asyncio.sleep(20)
    assert (broken.watches, watch.done()) == (3, False)
    await asyncio.sleep(60)
    assert background.trouble("watch broken") == ""
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)
    await background.close()
