"""Everything that goes wrong with a hosted provider: somebody answers, once, it heals, and the key is never seen."""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from satellite.config.chat import ChatSettings, KeepAliveSettings, OpenAISettings
from satellite.config.settings import DeadlineSettings
from satellite.engines.chat.failover import FailoverChat
from satellite.engines.chat.openai import OpenAIChat
from satellite.engines.protocols import Message
from satellite.errors import ChatError, ChatRejected, ChatUnavailable
from satellite.monitoring.status import as_json
from tests.chat_faults import FaultyRoute, Moment, ProviderFault, says
from tests.doubles.http import dictated
from tests.doubles.limits import Limits
from tests.doubles.openai import Fault, OpenAIServer
from tests.hosted import KEY, OUTSIDE, outside, shown
from tests.relay import Relay

pytestmark = [pytest.mark.slow, pytest.mark.virtual_clock]

QUESTION = [Message("system", "Be brief."), Message("user", "What is the capital of France?")]


@pytest.fixture(autouse=True)
def secret(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No log has the key, however much is logged."""
    caplog.set_level(logging.DEBUG)
    yield
    records = caplog.get_records("call")
    assert any(record.name.startswith("httpcore") for record in records)
    for record in records:
        assert KEY not in f"{logging.Formatter().format(record)} {vars(record)!r}"


@dataclass(kw_only=True)
class HostedRoute(FaultyRoute[OpenAIServer]):
    """A hosted provider, outside the house, and a second one at home."""

    groq: OpenAIChat

    @property
    def methods(self) -> list[str]:
        """What the hosted provider has seen: POST is a question, GET no more than a look at it."""
        return [exchange.method for exchange in self.first.exchanges]

    async def until_groq_answers(self) -> None:
        while await self.who_answers() != "groq":
            await asyncio.sleep(0.02)

    async def be_hung_up_on(self) -> None:
        """Let the other side give up the connections that are open."""
        self.relay.reset()
        self.relay.mend()
        await asyncio.sleep(0.05)

    async def until_looked_at(self) -> None:
        """Wait until the provider has been looked at, at once, and everybody on this loop knows it."""
        await self.until(lambda: "GET" in self.methods)
        assert asyncio.get_running_loop().time() < 1
        await asyncio.sleep(0.2)


@asynccontextmanager
async def built(*, key: str = KEY, interval_seconds: float = 0.05, **options: Any) -> AsyncIterator[HostedRoute]:
    """Build a house that nobody looks after yet; nobody in it ever sees the key."""
    chat = ChatSettings(first_token_seconds=1, max_tokens=50)
    deadlines = DeadlineSettings(chat_first_token_seconds=3, chat_gap_seconds=0.6)
    often = KeepAliveSettings(interval_seconds=interval_seconds)
    async with (
        OpenAIServer(says("groq"), key=KEY) as first,
        OpenAIServer(says("second"), model="m") as second,
        Relay(first.port) as relay,
        outside(first, proxy=relay.url, key=key) as settings,
    ):
        first.repeats_key = True
        groq = OpenAIChat(settings, chat, deadlines, often, **options)
        at_home = OpenAISettings(type="openai", name="second", url=second.base_url, model="m")
        failover = FailoverChat((groq, OpenAIChat(at_home, chat, deadlines, often)), chat, deadlines)
        async with HostedRoute(first, relay, second, failover, QUESTION, groq=groq) as route:
            yield route
    assert groq.sent_outside >= route.questions
    assert KEY not in f"{json.dumps(as_json(failover.status))} {groq!r} {vars(groq)!r}"
    assert not any(KEY in str(exchange.headers) for exchange in second.exchanges)


@dataclass(frozen=True)
class Lasting(ProviderFault[HostedRoute]):
    """A fault that is there until it is fixed."""

    hits_looks: bool = False
    """Whether one need not ask a question to find out."""


def setting(**settings: Any) -> Callable[[HostedRoute], None]:
    def change(route: HostedRoute) -> None:
        for name, value in settings.items():
            setattr(route.first, name, value)

    return change


def failing(name: str, fault: Fault, message: str) -> Lasting:
    """Return a fault that only questions meet."""
    every = setting(retry_after="1", faults=[fault] * 1000)
    return Lasting(name, every, setting(faults=[]), message, spares_answers=True)


SILENT = "no word within|silent for too long"
WRONG_KEY = Lasting(
    "wrong key", setting(key="another"), setting(key=KEY), r"401: .*from \$GROQ_API_KEY\)", True, hits_looks=True
)
DOWN = Lasting("down", HostedRoute.stop, HostedRoute.start, "cannot be reached", hits_looks=True)
RESET = Lasting("reset", lambda one: one.relay.reset(), lambda one: one.relay.mend(), "broke off", hits_looks=True)
LASTING = [
    WRONG_KEY,
    failing("rate limited", Fault.RATE_LIMIT, "answered 429: Rate limit"),
    failing("crashing", Fault.CRASH, "answered 500"),
    failing("overloaded", Fault.OVERLOAD, "answered 503"),
    failing("hanging", Fault.HANG, SILENT),
    Lasting("frozen", lambda one: one.first.freeze(), lambda one: one.first.thaw(), SILENT, hits_looks=True),
    DOWN,
    Lasting("cut off", lambda one: one.relay.cut(), lambda one: one.relay.mend(), SILENT, hits_looks=True),
    RESET,
]


def each(*faults: Lasting) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("fault", faults, ids=lambda fault: fault.name)


@pytest.mark.parametrize("moment", Moment)
@each(*LASTING)
async def test_a_fault_that_lasts(fault: Lasting, moment: Moment) -> None:
    async with built() as route:
        route.look_after()
        if moment is not Moment.START:
            assert await route.who_answers() == "groq"
        if moment is Moment.ANSWERING:
            broke = await fault.interrupt(route)
            assert broke is None or KEY not in shown(broke)
        else:
            await fault.come(route)
        if moment is not Moment.ANSWERING or fault.spares_answers:
            assert await route.who_answers() == "second"
        await route.until(lambda: re.search(fault.message, route.health.message) is not None)
        if fault.hits_looks:
            asked = route.questions, route.groq.sent_outside
            assert not route.health.up
            assert await route.who_answers() == "second"
            assert (route.questions, route.groq.sent_outside) == asked
        switch = route.chat.last_switch
        assert switch is not None
        assert (switch.from_, switch.to) == ("groq", "second")
        assert re.search(f"groq at {OUTSIDE}|groq: no word after", switch.reason)
        await fault.go(route)
        await route.until(lambda: route.health.up)
        assert await route.who_answers() == "groq"
        assert route.health.state == "ready"


@each(WRONG_KEY, DOWN, RESET)
async def test_what_warming_up_finds_out_no_question_meets_and_no_error_shows_the_key(fault: Lasting) -> None:
    async with built() as route:
        await fault.come(route)
        await route.chat.warm_up()  # the second is well
        assert re.search(fault.message, route.health.message)
        assert await route.who_answers() == "second"
        assert (route.questions, route.groq.sent_outside) == (0, 0)
        await route.second.stop()
        with pytest.raises(ChatUnavailable, match=r"no provider answers: groq: .*; second: ") as caught:
            await route.answered()
        assert KEY not in shown(caught.value)
        with pytest.raises(ChatError) as caught_alone:
            await anext(route.groq.stream(QUESTION))
        assert KEY not in shown(caught_alone.value)


async def test_without_a_key_nothing_goes_out() -> None:
    async with built(key="", touch_seconds=0) as route:
        await route.chat.warm_up()
        route.look_after()
        route.chat.prepare(QUESTION)
        assert await route.who_answers() == "second"
        with pytest.raises(ChatRejected, match=r"no key was found .*\$GROQ_API_KEY"):
            await anext(route.groq.stream(QUESTION))
        assert (route.relay.connections, route.first.connections, route.groq.sent_outside) == (0, 0, 0)
        assert route.health.state == "no-key"


# Limits.


async def test_nobody_asks_before_retry_after_has_passed() -> None:
    async with built() as route:
        route.look_after()
        route.first.faults, route.first.retry_after = [Fault.RATE_LIMIT], "1"
        began = asyncio.get_running_loop().time()
        assert await route.who_answers() == "second"
        await route.until_groq_answers()
        assert asyncio.get_running_loop().time() - began >= 1
        assert route.methods == ["POST", "GET", "POST"]


async def test_a_limit_is_kept_before_it_is_hit() -> None:
    async with built() as route:
        route.look_after()
        route.first.limits = Limits(requests=1, seconds=1)
        began = asyncio.get_running_loop().time()
        assert await route.who_answers() == "groq"
        assert (route.health.up, route.health.forbidden) == (False, True)
        await route.until_groq_answers()
        assert asyncio.get_running_loop().time() - began >= 0.95
        assert route.questions == route.first.answers == 2


async def test_a_look_that_is_refused_keeps_the_limit_too() -> None:
    async with built(touch_seconds=0) as route:
        route.first.limits_lists, route.first.limits = True, Limits(requests=1, seconds=1)
        route.first.limits.take()  # by another client
        await route.chat.warm_up()
        assert route.health.forbidden
        route.look_after()
        # The next look is granted, and the one after it refused.
        await route.until(lambda: len(route.methods) > 2 and route.health.forbidden)


@pytest.mark.parametrize("ending", [None, Fault.RESET])
async def test_the_end_of_another_answer_does_not_lift_a_limit(ending: Fault | None) -> None:
    async with built() as route:
        words: asyncio.Queue[str | None] = asyncio.Queue()
        route.first.words = dictated(words)
        route.first.faults = [] if ending is None else [ending]
        answering = route.groq.stream(QUESTION)
        first = asyncio.ensure_future(anext(answering))
        await route.until(lambda: any(exchange.streaming for exchange in route.first.exchanges))
        route.first.faults, route.first.retry_after = [Fault.RATE_LIMIT], "60"
        assert await route.who_answers() == "second"
        for word in ("Paris", None):
            words.put_nowait(word)
        await asyncio.gather(first, return_exceptions=True)
        await asyncio.gather(anext(answering, None), return_exceptions=True)
        await answering.aclose()
        route.look_after()
        assert await route.who_answers() == "second"
        assert route.health.forbidden
        assert route.methods == ["POST", "POST"]


async def test_a_model_that_wants_max_completion_tokens_gets_it() -> None:
    async with built() as route:
        route.first.wants_max_completion_tokens = True
        route.first.freeze()
        both = asyncio.gather(route.who_answers(), route.who_answers())
        await route.until(lambda: route.relay.connections == 2)
        route.first.thaw()
        assert [*await both] == ["groq", "groq"]
        assert await route.who_answers() == "groq"
        assert [exchange.body.get("max_completion_tokens") for exchange in route.first.exchanges].count(50) == 3
        assert route.groq.sent_outside == route.questions == 5  # the words of two went out twice


# The connection.


async def test_a_connection_that_rests_is_kept_warm() -> None:
    async with built(touch_seconds=0.1) as route:
        await route.chat.warm_up()
        route.look_after()
        await route.until(lambda: route.methods.count("GET") > 3)
        assert (route.relay.connections, route.questions) == (1, 0)


async def test_a_connection_that_was_closed_is_open_before_it_is_needed() -> None:
    async with built(touch_seconds=0, interval_seconds=60) as route:
        route.look_after()
        assert await route.who_answers() == "groq"
        await route.be_hung_up_on()
        route.chat.prepare(QUESTION)
        await route.until_looked_at()
        assert await route.who_answers() == "groq"
        assert (route.relay.connections, route.methods) == (2, ["POST", "GET", "POST"])


async def test_after_an_interruption_there_is_a_connection_again() -> None:
    async with built(interval_seconds=60) as route:
        route.look_after()
        route.first.faults = [Fault.STALL]
        async with aclosing(route.chat.stream(QUESTION)) as deltas:
            assert (await anext(deltas)).text == "Paris"
        await route.until_looked_at()
        assert route.health.up
        for _ in range(2):
            assert await route.who_answers() == "groq"
        assert (route.relay.connections, route.methods) == (2, ["POST", "GET", "POST", "POST"])


async def test_a_question_does_not_go_into_a_closed_connection() -> None:
    async with built() as route:
        for _ in range(2):
            assert await route.who_answers() == "groq"
            await route.be_hung_up_on()
        assert route.relay.connections == 2
