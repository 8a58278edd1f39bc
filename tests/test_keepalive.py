"""The timer that keeps Ollama's model warm: what it sends and when, and who goes first."""

import asyncio
import json
import time
from contextlib import aclosing
from datetime import timedelta

import pytest

from satellite.config.chat import KeepAliveSettings
from satellite.engines.chat.keepalive.loaded_models import ModelState
from satellite.engines.protocols import Message
from tests.doubles.http import dictated
from tests.doubles.ollama import Fault
from tests.keeping import SYSTEM, KeptModel, keeping, kind_of
from tests.waiting import until

pytestmark = pytest.mark.slow

QUESTION = [SYSTEM, Message("user", "What is the capital of France?")]
HISTORY = [SYSTEM, Message("user", "Hello! " * 30), Message("assistant", "Good morning! " * 30)]


async def test_every_request_says_the_same() -> None:
    async with keeping() as house:
        await house.warm()
        for _ in range(3):
            assert await house.asked() == "Paris it is."
            house.chat.prepare(HISTORY)
            await house.ticks()
        assert {kind_of(exchange) for exchange in house.sent()} == {"show", "look", "ping", "prime", "chat"}
        said = set()
        for exchange in house.sent("ping", "prime", "chat"):
            body = exchange.body
            said.add(json.dumps([body["model"], {**body["options"], "num_predict": 0}]))
            assert body["options"]["num_predict"] == (1 if kind_of(exchange) == "prime" else 200)
        assert said == {json.dumps(["smollm2", {"num_ctx": 4096, "num_predict": 0, "temperature": 0.0}])}
        asked = house.sent("ping", "prime", "chat")
        assert [exchange.body.get("keep_alive") for exchange in asked] == [-1] + [None] * (len(asked) - 1)
        assert (house.server.counts.loads, house.server.counts.reloads) == (1, 0)
        assert await house.other.left() > timedelta(days=365)


async def test_the_first_question_meets_a_warm_model() -> None:
    async with keeping(load_seconds=0.3) as house:
        assert house.chat.health.up  # nothing is known yet, and it may be tried
        await house.chat.warm_up()
        assert house.chat.health.state == ModelState.WARM
        assert house.sent("ping", "prime")
        assert await house.is_primed()
        assert house.server.counts.loads == 1


async def test_at_rest_it_looks_and_hardly_pings() -> None:
    async with keeping(overhead_seconds=0.05) as house:
        await house.chat.warm_up()
        await house.ticks(15)
        assert len(house.sent("ping")) <= 3  # to load, to learn what a ping takes, and one for a slow machine
        assert len(house.sent("prime")) == 1
        assert house.chat.keepalive.status.requests.keys() == {"look", "show", "ping", "prime"}


async def test_a_question_counts_as_a_ping() -> None:
    async with keeping(overhead_seconds=0.1) as house:
        await house.warm()
        pings = len(house.sent("ping"))
        for _ in range(3):
            await house.asked()
            await house.ticks(2)
        assert len(house.sent("ping")) == pings


async def test_nothing_is_sent_while_an_answer_runs_nor_right_after() -> None:
    words: asyncio.Queue[str | None] = asyncio.Queue()
    async with keeping(words=dictated(words), settings=KeepAliveSettings(interval_seconds=0.1)) as house:
        words.put_nowait(None)  # of the prime
        await house.chat.warm_up()
        async with aclosing(house.chat.stream(QUESTION)) as deltas:
            words.put_nowait("Paris")
            await anext(deltas)
            before = len(house.sent())
            await asyncio.sleep(0.6)  # many intervals, in which nothing is to happen
            words.put_nowait(None)
            async for _ in deltas:
                pass
            assert len(house.sent()) == before
        ended = time.monotonic()
        await until(lambda: len(house.sent()) > before)
        assert time.monotonic() - ended >= 0.1


async def test_a_prime_gives_way_to_another_question() -> None:
    async with keeping() as house:
        await house.warm()
        house.server.prefill_seconds_per_token = 0.05
        house.server.abandoned.clear()
        house.chat.prepare(HISTORY)
        await until(lambda: len(house.sent("prime")) == 2)
        assert await house.asked("Hi") == "Paris it is."
        assert house.server.abandoned.is_set()


async def test_a_prime_for_the_very_question_goes_on() -> None:
    async with keeping() as house:
        await house.warm()
        house.server.prefill_seconds_per_token = 0.005
        house.server.abandoned.clear()
        house.chat.prepare(HISTORY)
        await until(lambda: len(house.sent("prime")) == 2)
        assert await house.asked("Hi", *HISTORY[1:]) == "Paris it is."
        assert not house.server.abandoned.is_set()
        prime, question = house.server.counts.generations[-2:]
        assert prime.evaluated_tokens > 60
        assert question.evaluated_tokens < 20


async def test_a_cold_prime_that_gave_way_is_made_up_for() -> None:
    async with keeping(prefill_seconds_per_token=0.003) as house:
        await until(lambda: len(house.sent("prime")) == 1)
        async with aclosing(house.chat.stream([Message("user", "Hi")])) as deltas:
            assert [delta.text async for delta in deltas]
        await until(lambda: len(house.sent("prime")) == 2)


async def test_a_ping_gives_way() -> None:
    async with keeping() as house:
        await house.chat.warm_up()
        house.server.overhead_seconds = 0.25
        house.server.abandoned.clear()
        await until(lambda: len(house.sent("ping")) == 2)
        assert await house.asked() == "Paris it is."
        assert house.server.abandoned.is_set()
        assert ModelState.RUNNER_DIED not in house.seen


async def test_a_load_does_not_give_way() -> None:
    async with keeping(load_seconds=0.7) as house:
        await house.becomes(ModelState.LOADING)
        await until(lambda: bool(house.sent("ping")))
        assert await house.asked() == "Paris it is."
        await house.becomes(ModelState.WARM)
        assert not house.server.abandoned.is_set()
        assert (house.server.counts.loads, house.server.counts.aborted_loads) == (1, 0)


async def test_a_ping_that_turns_out_to_load_does_not_give_way() -> None:
    async with keeping() as house:
        await house.warm()
        slow_seconds = house.chat.keepalive._model.timing.slow_seconds
        house.server.load_seconds = slow_seconds + 3
        house.server.kill_runner()
        await until(lambda: house.server.runner is None)
        await asyncio.sleep(slow_seconds + 0.5)  # until a ping has taken longer than any does
        assert await house.asked() == "Paris it is."
        await until(lambda: ModelState.RUNNER_DIED in house.seen)
        assert (house.server.counts.reloads, house.server.counts.aborted_loads) == (1, 0)


@pytest.mark.parametrize("way", ["cancelled", "closed"])
async def test_giving_up_a_question_does_not_abort_the_load(way: str) -> None:
    async with keeping(load_seconds=0.7) as house:
        await house.becomes(ModelState.LOADING)
        await until(lambda: bool(house.sent("ping")))
        await give_up(house, way)
        await house.becomes(ModelState.WARM)
        assert (house.server.counts.loads, house.server.counts.aborted_loads) == (1, 0)
        assert await house.is_primed()


async def test_giving_up_a_question_that_loads_lets_the_load_go_on() -> None:
    async with keeping(watched=False, load_seconds=1, first_token_seconds=0.2) as house:
        await give_up(house, "cancelled", after_seconds=0.3)
        await until(lambda: house.server.runner is not None)
        assert house.server.counts.aborted_loads == 0
        assert [model["name"] for model in await house.other.ps()] == ["smollm2:latest"]


async def test_giving_up_a_question_to_a_warm_model_hangs_up() -> None:
    async with keeping() as house:
        await house.warm()
        house.server.abandoned.clear()
        house.server.faults = [Fault.HANG]
        await give_up(house, "cancelled")
        await house.server.abandoned.wait()
        assert await house.asked() == "Paris it is."


async def give_up(house: KeptModel, way: str, *, after_seconds: float = 0.0) -> None:
    """Ask, and stop waiting before the first word."""
    chats = len(house.sent("chat"))
    stream = house.chat.stream(QUESTION)
    waiting = asyncio.create_task(anext(stream))
    await until(lambda: len(house.sent("chat")) > chats)
    await asyncio.sleep(after_seconds)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    if way == "closed":
        await stream.aclose()


async def test_what_is_expected_is_read_before_it_comes() -> None:
    async with keeping() as house:
        await house.warm()
        house.chat.prepare(HISTORY)
        await until(lambda: len(house.server.counts.generations) == 2)
        prime = house.sent("prime")[-1].body["messages"]
        assert [message["role"] for message in prime] == ["system", "user", "assistant", "user"]
        await house.ticks()
        await house.asked("And now?", *HISTORY[1:])
        assert house.server.counts.generations[-1].evaluated_tokens < 20
        await house.ticks()
        assert len(house.sent("prime")) == 2


async def test_what_was_expected_and_came_is_not_read_again() -> None:
    async with keeping() as house:
        await house.warm()
        house.chat.prepare(HISTORY)
        await house.asked("And now?", *HISTORY[1:])
        await house.ticks()
        assert len(house.sent("prime")) == 1


def _released_when_idle(seconds: float) -> KeepAliveSettings:
    return KeepAliveSettings.model_construct(
        interval_seconds=0.05, when="after_activity", after_activity_seconds=seconds
    )


async def test_a_model_is_let_go_when_it_is_not_wanted_and_comes_back_when_it_is() -> None:
    async with keeping(settings=_released_when_idle(2.0)) as house:
        await house.chat.warm_up()
        await house.becomes(ModelState.RELEASED)
        assert await house.other.ps() == []
        requests = len(house.sent())
        await asyncio.sleep(0.3)  # many intervals, in which nothing is to happen
        assert len(house.sent()) == requests
        assert len(house.sent("unload")) == 1
        house.chat.prepare([])
        await house.becomes(ModelState.WARM)
        assert await house.is_primed()
        assert house.server.counts.loads == 2
        await house.becomes(ModelState.RELEASED)
        assert house.seen[ModelState.RELEASED] == 2


async def test_a_question_to_a_model_that_was_let_go_loads_it() -> None:
    async with keeping(settings=_released_when_idle(2.0), load_seconds=0.4) as house:
        await house.becomes(ModelState.RELEASED)
        assert await house.asked() == "Paris it is."
        await house.becomes(ModelState.WARM)
        await house.becomes(ModelState.RELEASED)
        assert house.server.counts.loads == 2
        assert ModelState.RUNNER_DIED not in house.seen


async def test_a_model_whose_load_takes_too_long_is_down_while_it_is_let_go() -> None:
    async with keeping(settings=_released_when_idle(2.0), load_seconds=0.5, first_token_seconds=0.2) as house:
        await house.becomes(ModelState.RELEASED)
        assert not house.chat.health.up
        house.chat.prepare([])
        await house.becomes(ModelState.WARM)
        assert house.chat.health.up


async def test_switched_off_it_loads_once_and_is_silent() -> None:
    async with keeping(settings=KeepAliveSettings(enabled=False, interval_seconds=0.05)) as house:
        await house.chat.warm_up()
        assert await house.is_primed()
        requests = len(house.sent())
        await asyncio.sleep(0.3)  # many intervals, in which nothing is to happen
        assert len(house.sent()) == requests
        assert [len(house.sent(kind)) for kind in ("ping", "prime", "chat")] == [1, 1, 1]


async def test_switched_off_it_still_comes_back_after_a_failed_question() -> None:
    async with keeping(settings=KeepAliveSettings(enabled=False, interval_seconds=0.05)) as house:
        await house.chat.warm_up()
        house.server.faults = [Fault.CRASH]
        with pytest.raises(Exception, match="500"):
            await house.asked()
        assert not house.chat.health.up
        await until(lambda: house.chat.health.up)
        requests = len(house.sent())
        await asyncio.sleep(0.3)
        assert len(house.sent()) == requests
        await house.server.stop()
        with pytest.raises(Exception, match="cannot be reached"):
            await house.asked()
        await house.server.start()
        await until(lambda: house.chat.health.up)
        assert await house.is_primed()


async def test_a_model_that_reads_no_prompt_without_a_question_is_kept_warm_all_the_same() -> None:
    async with keeping() as house:
        house.server.faults = [Fault.BAD_REQUEST]
        await house.warm()
        await house.ticks()
        assert house.chat.health.up
        assert len(house.sent("prime")) == 1


async def test_the_timer_tells_what_it_knows() -> None:
    async with keeping(load_seconds=0.2) as house:
        await house.warm()
        told = house.chat.keepalive.status
        assert (told.state, told.when, told.gpu_share) == ("warm", "always", 1.0)
        assert told.context_tokens == 4096
        assert told.seen == {"loading": 1, "not-loaded": 1, "warm": 1}
        assert (told.load_seconds or 0) >= 0.2
