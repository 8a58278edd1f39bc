"""The timer that keeps Ollama's model warm: what it sends and when, and who goes first."""

import asyncio
import json
import logging
import time
from contextlib import aclosing
from datetime import timedelta

import pytest

from satellite.config.chat import KeepAliveSettings
from satellite.engines.chat.keepalive import keep_alive_timer
from satellite.engines.chat.keepalive.loaded_models import ModelState
from satellite.engines.protocols import Message
from tests.doubles.http import dictated
from tests.doubles.ollama import Fault
from tests.keeping import INTERVAL_SECONDS, SYSTEM, keeping, kind_of
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.virtual_clock]

QUESTION = [SYSTEM, Message("user", "What is the capital of France?")]
HISTORY = [SYSTEM, Message("user", "Hello! " * 30), Message("assistant", "Good morning! " * 30)]
SWITCHED_OFF = KeepAliveSettings(enabled=False, interval_seconds=INTERVAL_SECONDS)
RELEASED_WHEN_IDLE = KeepAliveSettings.model_construct(
    interval_seconds=INTERVAL_SECONDS, when="after_activity", after_activity_seconds=2.0
)


async def test_every_request_says_the_same() -> None:
    async with keeping() as house:
        await house.warm()
        for _ in range(3):
            assert await house.asked() == "Paris it is."
            house.chat.prepare(HISTORY)
            await house.ticks()
        assert {kind_of(exchange) for exchange in house.sent()} == {"show", "look", "ping", "prime", "chat"}
        said = set()
        asked = house.sent("ping", "prime", "chat")
        for exchange in asked:
            body = exchange.body
            said.add(json.dumps([body["model"], {**body["options"], "num_predict": 0}]))
            assert body["options"]["num_predict"] == (1 if kind_of(exchange) == "prime" else 200)
        assert said == {json.dumps(["smollm2", {"num_ctx": 4096, "num_predict": 0, "temperature": 0.0}])}
        assert [exchange.body.get("keep_alive") for exchange in asked] == [-1] + [None] * (len(asked) - 1)
        assert (house.server.counts.loads, house.server.counts.reloads) == (1, 0)
        assert await house.other.left() > timedelta(days=365)


async def test_the_first_question_meets_a_model_that_has_been_loaded_and_read_its_prompt(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "satellite")
    async with keeping(load_seconds=0.3) as house:
        assert house.chat.health.up  # nothing is known yet, and it may be tried
        await house.chat.warm_up()
        status, ready = house.chat.keepalive.status, "smollm2 is loaded and ready (100% on the GPU, context 4096)"
        assert (status.state, status.when, status.gpu_share, status.context_tokens) == ("warm", "always", 1.0, 4096)
        assert status.seen == {"loading": 1, "not-loaded": 1, "warm": 1}
        assert status.load_seconds == pytest.approx(0.3, abs=0.05)
        assert house.chat.health.message == ready
        assert await house.is_primed()
        assert house.server.counts.loads == 1
    logged = [(record.levelname, record.getMessage()) for record in caplog.records if "smollm2" in record.getMessage()]
    assert logged == [("INFO", "chat: smollm2 was not loaded; it took 0.3 s to load it"), ("INFO", f"chat: {ready}")]


async def test_a_load_is_seen_while_it_goes_on() -> None:
    async with keeping(load_seconds=1, first_token_seconds=0.3) as house:
        await house.becomes(ModelState.LOADING)
        assert house.chat.health.up  # it may be done in a moment
        assert house.chat.health.message == "smollm2 is being loaded"
        await until(lambda: not house.chat.health.up)
        await house.becomes(ModelState.WARM)
        assert house.chat.health.up


@pytest.mark.parametrize("overhead_seconds", [0.05, 0.4])
async def test_at_rest_it_looks_and_hardly_pings(overhead_seconds: float) -> None:
    async with keeping(overhead_seconds=overhead_seconds) as house:
        await house.warm()
        await house.ticks(15)
        assert len(house.sent("ping")) <= 3  # to load, to learn what a ping takes, and one for a slow machine
        assert len(house.sent("prime")) == 1
        assert house.chat.keepalive.status.requests.keys() == {"look", "show", "ping", "prime"}
        assert ModelState.RUNNER_DIED not in house.seen


async def test_a_question_counts_as_a_ping() -> None:
    async with keeping(overhead_seconds=0.1) as house:
        await house.warm()
        pings = len(house.sent("ping"))
        for _ in range(3):
            await house.asked()
            await asyncio.sleep(4)  # pings are at least 5 s apart
        assert len(house.sent("ping")) == pings


async def test_nothing_is_sent_while_an_answer_runs_nor_right_after() -> None:
    words: asyncio.Queue[str | None] = asyncio.Queue()
    async with keeping(words=dictated(words)) as house:
        words.put_nowait(None)  # of the prime
        await house.chat.warm_up()
        async with aclosing(house.chat.stream(QUESTION)) as deltas:
            words.put_nowait("Paris")
            await anext(deltas)
            before = len(house.sent())
            await house.is_silent()
            words.put_nowait(None)
            async for _ in deltas:
                pass
            assert len(house.sent()) == before
        ended = time.monotonic()
        await until(lambda: len(house.sent()) > before)
        assert time.monotonic() - ended >= INTERVAL_SECONDS


@pytest.mark.parametrize("kind", ["ping", "prime"])
async def test_what_the_timer_sends_gives_way_to_a_question(kind: str) -> None:
    async with keeping() as house:
        await house.warm()
        house.server.abandoned.clear()
        if kind == "ping":
            house.server.overhead_seconds = 0.25
        else:
            house.server.prefill_seconds_per_token = 0.05
            house.chat.prepare(HISTORY)
        await house.sends(kind)
        assert await house.asked("Hi") == "Paris it is."
        assert house.server.abandoned.is_set()
        assert ModelState.RUNNER_DIED not in house.seen


async def test_a_prime_for_the_very_question_goes_on() -> None:
    async with keeping() as house:
        await house.warm()
        house.server.prefill_seconds_per_token = 0.005
        house.server.abandoned.clear()
        house.chat.prepare(HISTORY)
        await house.sends("prime")
        assert await house.asked("Hi", *HISTORY[1:]) == "Paris it is."
        assert not house.server.abandoned.is_set()
        prime, question = house.server.counts.generations[-2:]
        assert prime.evaluated_tokens > 60
        assert question.evaluated_tokens < 20


@pytest.mark.parametrize(("words", "in_time"), [("", True), ("", False), ("What is the weather", True)])
async def test_the_aside_and_the_first_words_of_a_question_are_read_before_it_comes(words: str, in_time: bool) -> None:
    aside = "It is Monday, 30 November 2026, 17:21; room: kitchen. " * 4
    async with keeping() as house:
        await house.warm()
        house.server.prefill_seconds_per_token = 0.0 if in_time else 0.002
        house.chat.prepare([*HISTORY, Message("user", words, aside)])
        await house.sends("prime")
        if in_time:
            await house.ticks()
        question = Message("user", "What is the weather in Paris?", aside)
        async with aclosing(house.chat.stream([*HISTORY, question])) as deltas:
            assert [delta async for delta in deltas]
        prime, asked = house.server.counts.generations[-2:]
        assert prime.evaluated_tokens > 60
        assert asked.evaluated_tokens < 20


async def test_a_cold_prime_that_gave_way_is_made_up_for() -> None:
    async with keeping(prefill_seconds_per_token=0.003) as house:
        await house.sends("prime")
        async with aclosing(house.chat.stream([Message("user", "Hi")])) as deltas:
            assert [delta.text async for delta in deltas]
        await house.sends("prime")


async def test_a_load_does_not_give_way() -> None:
    async with keeping(load_seconds=0.7) as house:
        await house.sends("ping")
        assert house.chat.health.state == ModelState.LOADING
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


async def test_giving_up_a_question_to_a_warm_model_hangs_up() -> None:
    async with keeping() as house:
        await house.warm()
        house.server.abandoned.clear()
        house.server.faults = [Fault.HANG]
        waiting = asyncio.create_task(house.asked())
        await house.sends("chat")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await house.server.abandoned.wait()
        assert await house.asked() == "Paris it is."


async def test_what_is_expected_is_read_once_before_it_comes() -> None:
    async with keeping() as house:
        await house.warm()
        house.chat.prepare(HISTORY)
        await house.sends("prime")
        prime = house.sent("prime")[-1].body["messages"]
        assert [message["role"] for message in prime] == ["system", "user", "assistant", "user"]
        await house.ticks()
        await house.asked("And now?", *HISTORY[1:])
        assert house.server.counts.generations[-1].evaluated_tokens < 20
        await house.ticks()
        house.chat.prepare(HISTORY)
        await house.asked("And then?", *HISTORY[1:])  # before it could be read
        await house.ticks()
        assert len(house.sent("prime")) == 2


async def test_a_model_is_released_when_it_is_not_wanted_and_comes_back_when_it_is() -> None:
    async with keeping(settings=RELEASED_WHEN_IDLE) as house:
        await house.becomes(ModelState.RELEASED)
        assert await house.other.ps() == []
        await house.is_silent()
        assert len(house.sent("unload")) == 1
        assert house.chat.health.up
        house.server.load_seconds = 0.4
        assert await house.asked() == "Paris it is."
        await house.becomes(ModelState.WARM)
        await house.becomes(ModelState.RELEASED)
        house.chat.prepare([])
        await house.becomes(ModelState.WARM)
        assert await house.is_primed()
        await house.becomes(ModelState.RELEASED)
        assert house.server.counts.loads == house.seen[ModelState.RELEASED] == 3
        assert ModelState.RUNNER_DIED not in house.seen


async def test_a_model_whose_load_takes_too_long_is_down_while_it_is_released() -> None:
    async with keeping(settings=RELEASED_WHEN_IDLE, load_seconds=0.5, first_token_seconds=0.2) as house:
        await house.becomes(ModelState.RELEASED)
        assert not house.chat.health.up
        house.chat.prepare([])
        await house.becomes(ModelState.WARM)
        assert house.chat.health.up


async def test_switched_off_it_loads_once_and_only_sets_the_keep_alive_of_what_a_question_has_loaded() -> None:
    async with keeping(settings=SWITCHED_OFF, load_seconds=0.5) as house:
        await house.chat.warm_up()
        assert await house.is_primed()
        await house.is_silent()
        assert [len(house.sent(kind)) for kind in ("ping", "prime", "chat")] == [1, 1, 1]
        await house.other.chat(keep_alive=0)
        await house.is_silent()
        assert await house.asked() == "Paris it is."
        await until(lambda: house.server.runner is not None and house.server.runner.keep_alive_seconds > 1e9)


async def test_switched_off_it_still_comes_back_after_a_failed_question() -> None:
    async with keeping(settings=SWITCHED_OFF) as house:
        await house.chat.warm_up()
        house.server.faults = [Fault.CRASH]
        with pytest.raises(Exception, match="500"):
            await house.asked()
        assert not house.chat.health.up
        await until(lambda: house.chat.health.up)
        await house.is_silent()
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


async def test_when_nobody_has_asked_for_a_while_it_may_look_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keep_alive_timer, "_IDLE_SECONDS", 0.5)
    async with keeping(settings=KeepAliveSettings(interval_seconds=0.05, idle_interval_seconds=60)) as house:
        await house.chat.warm_up()
        await asyncio.sleep(1)
        looks = len(house.sent("look"))
        await asyncio.sleep(30)
        assert len(house.sent("look")) <= looks + 1
        house.chat.prepare([])
        await house.ticks(3)
