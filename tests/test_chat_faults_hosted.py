"""Everything that goes wrong with a hosted provider: somebody answers, once, it heals, and the key is never seen.

Each fault meets a question at three moments: before anything was asked, when all was well, and in the middle of an
answer.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, aclosing
from enum import StrEnum
from functools import partial

import pytest

from satellite.errors import ChatError, ChatRejected, ChatUnavailable
from tests import hosted
from tests.doubles.http import dictated
from tests.doubles.limits import Limits
from tests.doubles.openai import Fault
from tests.hosted import (
    KEY,
    OUTSIDE,
    QUESTION,
    HostedRoute,
    Lasting,
    answered,
    answered_until_healed,
    interrupted,
    live,
    shown,
    told_once,
)
from tests.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The environment holds the key, and no log has it, however much is logged."""
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    yield
    records = caplog.get_records("call")
    assert any(record.name.startswith("httpcore") for record in records)
    for record in records:
        assert KEY not in f"{logging.Formatter().format(record)} {vars(record)!r}"


class Moment(StrEnum):
    """When a fault meets a question."""

    START = "start"
    """Nothing was asked before."""

    IDLE = "idle"
    """It has answered, and its connection is open."""

    ANSWERING = "answering"
    """The first words of an answer have come."""


Build = Callable[..., AbstractAsyncContextManager[HostedRoute]]


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> Build:
    """Build houses with a key and a network of their own."""
    return partial(hosted.built, monkeypatch)


# What lasts until somebody sets it right.


def take_key(house: HostedRoute, key: str) -> None:
    """Accept this key, and no other."""
    house.groq.key = key


def fail(house: HostedRoute, *faults: Fault) -> None:
    """Go wrong with every question from now on."""
    house.groq.retry_after = "1"
    house.groq.faults = [*faults] * 1000


async def stop(house: HostedRoute) -> None:
    """End, so that connections are refused."""
    await house.groq.stop()
    await house.relay.close()


async def start(house: HostedRoute) -> None:
    """Be there again."""
    await house.groq.start()
    await house.relay.open()


def failing(name: str, fault: Fault, words: str) -> Lasting:
    """Return a fault that only questions meet."""
    return Lasting(name, lambda house: fail(house, fault), fail, words)


WRONG_KEY = Lasting(
    "wrong key",
    lambda house: take_key(house, "another"),
    lambda house: take_key(house, KEY),
    r"401: .*from \$GROQ_API_KEY\)",
    True,
)
DOWN = Lasting("down", stop, start, "cannot be reached", True, False)
RESET = Lasting("reset", lambda house: house.relay.reset(), lambda house: house.relay.mend(), "broke off", True, False)
SILENT = "no word within|silent for too long"
LASTING = [
    WRONG_KEY,
    failing("rate limited", Fault.RATE_LIMIT, "answered 429: Rate limit"),
    failing("crashing", Fault.CRASH, "answered 500"),
    failing("overloaded", Fault.OVERLOAD, "answered 503"),
    failing("hanging", Fault.HANG, SILENT),
    Lasting("frozen", lambda house: house.groq.freeze(), lambda house: house.groq.thaw(), SILENT, True, False),
    DOWN,
    Lasting("cut off", lambda house: house.relay.cut(), lambda house: house.relay.mend(), SILENT, True, False),
    RESET,
]


@pytest.mark.parametrize("fault", LASTING, ids=lambda fault: fault.name)
async def test_a_fault_that_lasts(fault: Lasting, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(moment: Moment, house: HostedRoute) -> None:
        house.look_after()
        if moment is not Moment.START:
            assert await answered(house) == "groq"
        if moment is Moment.ANSWERING:
            await interrupted(house, fault)
        else:
            await fault.come(house)
        if moment is not Moment.ANSWERING or fault.spares_answers:
            assert await answered(house) == "second"
        await house.until(lambda: re.search(fault.words, house.told["message"]) is not None)
        if fault.hits_looks:
            asked = house.questions, house.told["sent_outside"]
            assert not house.told["up"]
            assert await answered(house) == "second"
            assert (house.questions, house.told["sent_outside"]) == asked
        switch = house.chat.last_switch
        assert switch is not None
        assert (switch.from_, switch.to) == ("groq", "second")
        assert "groq at http://chat.example.com" in switch.reason or "groq: no word after" in switch.reason
        await fault.go(house)
        await house.until(lambda: house.models[0].health.up)
        assert await answered(house) == "groq"
        assert house.told["state"] == "ready"

    patience_seconds = 1 if fault.words == SILENT else 5
    await live(
        monkeypatch,
        *(partial(scenario, moment) for moment in Moment),
        names=[*Moment],
        patience_seconds=patience_seconds,
    )


@pytest.mark.parametrize("fault", [Fault.STALL, Fault.ERROR_EVENT, Fault.CUT, Fault.RESET, Fault.GARBAGE])
async def test_an_answer_that_breaks_off(fault: Fault, built: Build) -> None:
    async with built() as house:
        house.look_after()
        house.groq.faults = [fault]
        said = []
        async with asyncio.timeout(PATIENCE_SECONDS), aclosing(house.chat.stream(QUESTION)) as deltas:
            with pytest.raises(ChatUnavailable) as caught:
                async for delta in deltas:
                    said.append(delta)  # noqa: PERF401  # what came before the error counts
        told_once(house, said, caught.value)
        await house.until(lambda: house.models[0].health.up)
        assert await answered(house) == "groq"


@pytest.mark.parametrize("fault", [WRONG_KEY, DOWN, RESET], ids=lambda fault: fault.name)
async def test_what_warming_up_finds_out_no_question_meets(fault: Lasting, built: Build) -> None:
    async with built() as house:
        await fault.come(house)
        await house.chat.warm_up()  # the second is well
        assert re.search(fault.words, house.told["message"])
        assert await answered(house) == "second"
        assert (house.questions, house.told["sent_outside"]) == (0, 0)


async def test_no_error_shows_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(fault: Lasting, house: HostedRoute) -> None:
        await house.second.stop()
        await fault.come(house)
        with pytest.raises(ChatUnavailable, match="no provider answers: ") as caught:
            await answered(house)
        assert "groq: " in str(caught.value)
        assert "second: " in str(caught.value)
        assert KEY not in shown(caught.value)
        with pytest.raises(ChatError) as caught_alone:
            await anext(house.models[0].stream(QUESTION))
        assert KEY not in shown(caught_alone.value)

    told_by_it = [fault for fault in LASTING if fault.words != SILENT]
    await live(
        monkeypatch, *(partial(scenario, fault) for fault in told_by_it), names=[fault.name for fault in told_by_it]
    )


# What leaves the house.


async def test_without_a_key_nothing_goes_out(built: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GROQ_API_KEY")
    async with built(touch_seconds=0) as house:
        await house.chat.warm_up()
        house.look_after()
        house.chat.prepare(QUESTION)
        assert await answered(house) == "second"
        with pytest.raises(ChatRejected, match="no key was found"):
            await anext(house.models[0].stream(QUESTION))
        assert (house.relay.connections, house.groq.connections) == (0, 0)
        assert (house.told["state"], house.told["sent_outside"]) == ("no-key", 0)
        assert "$GROQ_API_KEY" in house.told["message"]


async def test_every_use_is_counted_and_logged(built: Build, caplog: pytest.LogCaptureFixture) -> None:
    async with built() as house:
        await house.chat.warm_up()
        assert await answered(house) == "groq"
        house.groq.faults = [Fault.CRASH]
        for _ in range(3):
            assert await answered(house) == "second"
        assert (house.questions, house.told["sent_outside"], house.told["leaves_house"]) == (2, 2, True)
    leaving = [(record.levelname, record.message) for record in caplog.records if "leaves the house" in record.message]
    told = "chat: question {} leaves the house, to groq at " + OUTSIDE
    assert leaving == [("INFO", told.format(1)), ("INFO", told.format(2))]


# Limits.


async def test_nobody_asks_before_retry_after_has_passed(built: Build) -> None:
    async with built() as house:
        house.look_after()
        house.groq.faults, house.groq.retry_after = [Fault.RATE_LIMIT], "1"
        began = asyncio.get_running_loop().time()
        assert await answered(house) == "second"
        await answered_until_healed(house)
        assert asyncio.get_running_loop().time() - began >= 1
        assert house.methods == ["POST", "GET", "POST"]


async def test_a_limit_is_kept_before_it_is_hit(built: Build) -> None:
    async with built() as house:
        house.look_after()
        house.groq.limits = Limits(requests=1, requests_seconds=1)
        began = asyncio.get_running_loop().time()
        assert await answered(house) == "groq"
        assert (house.told["up"], house.models[0].health.forbidden) == (False, True)
        await answered_until_healed(house)
        assert asyncio.get_running_loop().time() - began >= 0.95
        assert house.questions == house.groq.answers == 2


async def test_a_look_that_is_refused_keeps_the_limit_too(built: Build) -> None:
    async with built(touch_seconds=0) as house:
        house.groq.limits_lists, house.groq.limits = True, Limits(requests=1, requests_seconds=1)
        house.groq.limits.take(0, "another client's")
        await house.chat.warm_up()
        assert house.models[0].health.forbidden
        house.look_after()
        # The next look is granted, and the one behind it refused.
        await house.until(lambda: len(house.methods) > 2 and house.models[0].health.forbidden)


@pytest.mark.parametrize("ending", [None, Fault.RESET])
async def test_the_end_of_another_answer_does_not_lift_a_limit(ending: Fault | None, built: Build) -> None:
    async with built() as house:
        words: asyncio.Queue[str | None] = asyncio.Queue()
        house.groq.words = dictated(words)
        house.groq.faults = [] if ending is None else [ending]
        answering = house.models[0].stream(QUESTION)
        first = asyncio.ensure_future(anext(answering))
        await house.until(lambda: any(exchange.streaming for exchange in house.groq.exchanges))
        house.groq.faults, house.groq.retry_after = [Fault.RATE_LIMIT], "60"
        assert await answered(house) == "second"
        for word in ("Paris", None):
            words.put_nowait(word)
        await asyncio.gather(first, return_exceptions=True)
        await asyncio.gather(anext(answering, None), return_exceptions=True)
        await answering.aclose()
        house.look_after()
        assert await answered(house) == "second"
        assert house.models[0].health.forbidden
        assert house.methods == ["POST", "POST"]


async def test_a_model_that_wants_max_completion_tokens_gets_it(built: Build) -> None:
    async with built() as house:
        house.groq.wants_max_completion_tokens = True
        house.groq.freeze()
        both = asyncio.gather(answered(house), answered(house))
        await house.until(lambda: house.relay.connections == 2)
        house.groq.thaw()
        assert [*await both] == ["groq", "groq"]
        assert await answered(house) == "groq"
        assert [exchange.body.get("max_completion_tokens") for exchange in house.groq.exchanges].count(50) == 3
        assert house.told["sent_outside"] == house.questions == 5  # the words of two went out twice


# The connection.


async def test_a_connection_that_rests_is_kept_warm(built: Build) -> None:
    async with built(touch_seconds=0.1) as house:
        await house.chat.warm_up()
        house.look_after()
        await house.until(lambda: house.methods.count("GET") > 3)
        assert (house.relay.connections, house.questions) == (1, 0)


async def test_a_connection_that_was_closed_is_open_before_it_is_needed(built: Build) -> None:
    async with built(touch_seconds=0, interval_seconds=60) as house:
        house.look_after()
        assert await answered(house) == "groq"
        await house.be_hung_up_on()
        house.chat.prepare(QUESTION)
        await house.until_looked_at()
        assert await answered(house) == "groq"
        assert (house.relay.connections, house.methods) == (2, ["POST", "GET", "POST"])


async def test_after_an_interruption_there_is_a_connection_again(built: Build) -> None:
    async with built(interval_seconds=60) as house:
        house.look_after()
        house.groq.faults = [Fault.STALL]
        async with aclosing(house.chat.stream(QUESTION)) as deltas:
            assert (await anext(deltas)).text == "Paris"
        await house.until_looked_at()
        assert house.models[0].health.up
        for _ in range(2):
            assert await answered(house) == "groq"
        assert (house.relay.connections, house.methods) == (2, ["POST", "GET", "POST", "POST"])


async def test_a_question_does_not_go_into_a_closed_connection(built: Build) -> None:
    async with built() as house:
        for _ in range(2):
            assert await answered(house) == "groq"
            await house.be_hung_up_on()
        assert house.relay.connections == 2
