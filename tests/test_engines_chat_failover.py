"""Which provider is asked when, to the millisecond, on a virtual clock: choosing adds no time of its own."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
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
from tests.waiting import meanwhile

pytestmark = pytest.mark.virtual_clock

QUESTION = [Message("user", "What is the capital of France?")]

UP = ProviderHealth("ready", True, "it is up")
DOWN = ProviderHealth("unreachable", False, "it is down")
LATE = ProviderHealth("loading", False, "it is being loaded", is_late=True)
LIMITED = ProviderHealth("rate-limited", False, "it allows no more", forbidden=True)
NO_KEY = ProviderHealth("no-key", False, "it has no key", forbidden=True)


@dataclass(eq=False)
class Clockwork:
    """A chat model that speaks, or fails, at a known moment."""

    provider: str
    seconds: float
    health: ProviderHealth = UP
    leaves_house: bool = False
    fails: bool = False
    breaks_off: bool = False
    failing_watches: int = 0
    asked_at: float | None = None
    stopped_at: float | None = None
    prepared: list[Sequence[Message]] = field(default_factory=list)
    watches: int = 0
    model: str = "clockwork"
    context_tokens: int | None = None

    @property
    def status(self) -> ProviderStatus:
        return provider_status(self)

    async def stream(
        self, messages: Sequence[Message], sampling: Sampling = AS_CONFIGURED
    ) -> AsyncGenerator[ChatDelta, None]:
        loop = asyncio.get_running_loop()
        self.asked_at = loop.time()
        try:
            await asyncio.sleep(self.seconds)
            if self.fails:
                raise ChatUnavailable(f"{self.provider} fails", kind="busy")
            yield ChatDelta(self.provider, self.provider)
            if self.breaks_off:
                raise ChatUnavailable(f"{self.provider} broke off")
            yield ChatDelta("", self.provider, ChatStats())
        finally:
            self.stopped_at = loop.time()

    def prepare(self, messages: Sequence[Message]) -> None:
        self.prepared.append(messages)

    async def warm_up(self) -> None:
        pass

    async def watch(self) -> None:
        self.watches += 1
        if self.watches <= self.failing_watches:
            raise ValueError("Port could not be cast to integer value")
        await asyncio.Event().wait()

    async def close(self) -> None:
        pass


def ollama(seconds: float, health: ProviderHealth = UP, **options: Any) -> Clockwork:
    return Clockwork("ollama", seconds, health, **options)


def groq(health: ProviderHealth = UP) -> Clockwork:
    return Clockwork("groq", 0.1, health, leaves_house=True)


def local(seconds: float = 0.2, **options: Any) -> Clockwork:
    return Clockwork("local", seconds, **options)


def broken() -> Clockwork:
    return Clockwork("broken", 0.1, fails=True)


def route_over(*models: Clockwork, **settings: Any) -> FailoverChat:
    return FailoverChat(models, ChatSettings(**settings), DeadlineSettings())


async def answer(route: FailoverChat) -> list[ChatDelta]:
    async with aclosing(route.stream(QUESTION)) as deltas:
        return [delta async for delta in deltas]


HEDGED = {"hedge_seconds": 0.3}
WHEN_SLOW = {"hosted": "when_slow"}
IS_DOWN, LOADS, FULL = "ollama: it is down", "ollama: it is being loaded", "groq: it allows no more"
FAILS, LATE_WORD = "ollama: ollama fails", "ollama: no word after {} s"
BOTH = LATE_WORD + "; broken: broken fails"

CASES: dict[str, tuple[list[Clockwork], dict[str, Any], str, float, str, str]] = {
    "the first costs its own time": ([ollama(1.2), local()], {}, "ollama", 1.2, "ollama", ""),
    "one that is down costs nothing": ([ollama(0.1, DOWN), local()], {}, "local", 0.2, "local", IS_DOWN),
    "one that fails costs that time": ([ollama(0.4, fails=True), local()], {}, "local", 0.6, "ollama local", FAILS),
    "one that is silent costs the patience": ([ollama(5), local()], {}, "local", 1.7, "ollama local", LATE_WORD),
    "hedging costs less": ([ollama(5), local()], HEDGED, "local", 0.5, "ollama local", LATE_WORD),
    "a hedged question is still the first's": ([ollama(0.4), local()], HEDGED, "ollama", 0.4, "ollama local", ""),
    "the first of two that speak at once": ([ollama(0.5), local()], HEDGED, "ollama", 0.5, "ollama local", ""),
    "three in a row": ([ollama(9), broken(), local(0.3)], {}, "local", 1.9, "ollama broken local", BOTH),
    "a fast house is asked alone": ([ollama(0.1), groq()], {}, "ollama", 0.1, "ollama", ""),
    "so is a slow one": ([ollama(9), groq()], {}, "ollama", 9, "ollama", ""),
    "the slow are overtaken at home": ([ollama(5), groq(), local()], {}, "local", 1.7, "ollama local", LATE_WORD),
    "words leave when all before are down": ([ollama(5, DOWN), groq(), local()], {}, "groq", 0.1, "groq", IS_DOWN),
    "or fail": ([ollama(0.3, fails=True), groq()], {}, "groq", 0.4, "ollama groq", FAILS),
    "a load is waited for": ([ollama(6, LATE), groq()], {}, "ollama", 6, "ollama", ""),
    "unless another at home is up": ([ollama(6, LATE), groq(), local()], {}, "local", 0.2, "local", LOADS),
    "and does not fail": ([ollama(6, LATE), groq(), local(fails=True)], {}, "ollama", 6.2, "ollama local", ""),
    "hosted for being slow": ([ollama(5), groq()], WHEN_SLOW, "groq", 1.6, "ollama groq", LATE_WORD),
    "hosted for loading": ([ollama(6, LATE), groq()], WHEN_SLOW, "groq", 0.1, "groq", LOADS),
    "the allowed are asked when all are down": ([groq(LIMITED), ollama(0.1, DOWN)], {}, "ollama", 0.1, "ollama", FULL),
    "one without a key is not missed": ([groq(NO_KEY), ollama(0.1)], {}, "ollama", 0.1, "ollama", ""),
}


@pytest.mark.parametrize(("models", "settings", "winner", "seconds", "asked", "reason"), CASES.values(), ids=CASES)
async def test_who_is_asked_and_answers(
    models: list[Clockwork], settings: dict[str, Any], winner: str, seconds: float, asked: str, reason: str
) -> None:
    *words, last = await answer(route_over(*models, **settings))
    assert [delta.text for delta in words] == [winner]
    assert last.stats is not None
    assert last.stats.first_token_seconds == pytest.approx(seconds)
    assert last.stats.switch_reason == reason.format(seconds)
    assert asyncio.get_running_loop().time() == pytest.approx(seconds)
    assert [model.provider for model in models if model.asked_at is not None] == asked.split()
    assert all((model.asked_at is None) == (model.stopped_at is None) for model in models)


@pytest.mark.parametrize(
    ("models", "reasons", "code", "seconds"),
    [
        ([ollama(60), local(60)], "ollama: no word within 9.5 s; local: no word within 9.5 s", "chat-timeout", 9.5),
        ([ollama(60), groq()], "ollama: no word within 9.5 s", "chat-timeout", 9.5),
        ([ollama(0.1, fails=True), local(fails=True)], f"{FAILS}; local: local fails", "chat-busy", 0.3),
        ([ollama(0.1, DOWN, fails=True), groq(LIMITED)], f"{FAILS}; groq: it allows no more", "chat-busy", 0.1),
        ([groq(NO_KEY)], "groq: it has no key", "chat-not-ready", 0),
    ],
)
async def test_when_none_answers_each_is_named_with_its_reason(
    models: list[Clockwork], reasons: str, code: str, seconds: float
) -> None:
    with pytest.raises(ChatUnavailable) as caught:
        await answer(route_over(*models))
    assert (str(caught.value), caught.value.code) == (f"no provider answers: {reasons}", code)
    assert asyncio.get_running_loop().time() == pytest.approx(seconds)
    assert not any(model.asked_at is not None for model in models if model.leaves_house)


async def test_the_losers_are_stopped_before_the_first_word_is_passed_on() -> None:
    slow = ollama(5)
    async with aclosing(route_over(slow, local()).stream(QUESTION)) as deltas:
        await anext(deltas)
        assert slow.stopped_at == pytest.approx(1.7)


async def test_after_the_first_word_an_error_is_an_error() -> None:
    spare = local()
    deltas = route_over(ollama(0.1, breaks_off=True), spare).stream(QUESTION)
    assert (await anext(deltas)).text == "ollama"
    with pytest.raises(ChatUnavailable, match="broke off"):
        await anext(deltas)
    assert spare.asked_at is None


async def test_an_answer_that_is_closed_or_cancelled_stops_its_provider_and_asks_no_other() -> None:
    first, spare = ollama(1), local()
    deltas = route_over(first, spare).stream(QUESTION)
    await anext(deltas)
    await deltas.aclose()
    assert (first.stopped_at, spare.asked_at) == (1, None)
    waiting = asyncio.create_task(answer(route_over(first, spare)))
    await asyncio.sleep(0.5)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (first.stopped_at, spare.asked_at) == (1.5, None)


async def test_a_model_that_turns_out_to_load_for_too_long_is_given_up() -> None:
    loading = ollama(60, LATE)
    asyncio.get_running_loop().call_later(4, setattr, loading, "health", DOWN)
    assert (await answer(route_over(loading, groq())))[0].text == "groq"
    assert 4 < asyncio.get_running_loop().time() < 8


async def test_a_question_is_prepared_by_whoever_would_be_asked_and_those_before_it() -> None:
    models = ollama(1, DOWN), local(), Clockwork("spare", 1)
    route = route_over(*models)
    route.prepare(QUESTION)
    assert [model.prepared for model in models] == [[QUESTION], [QUESTION], []]
    await answer(route)
    assert [model.prepared for model in models] == [[QUESTION, []], [QUESTION], []]


async def test_a_switch_is_logged_once_and_so_is_the_return(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="satellite.engines.chat.failover")
    first, second = ollama(0.1), ollama(0.1)  # two of one name are two
    route = route_over(groq(NO_KEY), first, second)
    assert (route.provider, route.status.answering) == ("groq, ollama, ollama", "ollama")
    for health, switches in ((UP, 0), (DOWN, 1), (DOWN, 1), (UP, 2), (UP, 2)):
        first.health = health
        await answer(route)
        assert route.switches == switches
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "chat: switched from ollama to ollama: ollama: it is down"),
        ("INFO", "chat: switched from ollama to ollama: ollama is back"),
    ]
    assert route.last_switch is not None
    assert route.last_switch.reason == "ollama is back"


async def test_a_watcher_that_fails_is_restarted_and_ends_no_other() -> None:
    background = Background()
    broken, well = ollama(1, failing_watches=2), local()
    route = FailoverChat([broken, well], ChatSettings(), DeadlineSettings(), background)
    async with meanwhile(route.watch()) as watch:
        await asyncio.sleep(0.1)
        assert "Port could not be cast" in background.trouble("watch ollama")
        assert background.trouble("watch local") == ""
        await asyncio.sleep(20)
        assert (broken.watches, watch.done()) == (3, False)
        await asyncio.sleep(60)
        assert background.trouble("watch ollama") == ""
    await background.close()
