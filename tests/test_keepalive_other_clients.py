"""Other clients of the same Ollama: they are served, and what they have loaded is used where it is good enough."""

import asyncio
import gc
import logging
import re
import traceback
from contextlib import aclosing
from typing import Any

import pytest

from satellite.config.chat import ChatSettings, OllamaSettings
from satellite.engines.chat.keepalive.loaded_models import ModelState
from satellite.engines.chat.keepalive.model import ManagedModel
from satellite.engines.chat.keepalive.priority import QuestionPriority
from satellite.engines.chat.keepalive.state_log import StateLog
from satellite.engines.chat.ollama_client import OllamaApi
from satellite.engines.protocols import Message
from satellite.errors import ChatError, ChatUnavailable
from satellite.pipeline.dialogue import Dialogue, Question
from tests.doubles.http import Exchange, dictated, script
from tests.doubles.ollama import OllamaServer
from tests.keeping import SYSTEM, KeptModel, keeping
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.virtual_clock]

SHORTER: dict[str, Any] = {"options": {"num_ctx": 2048}}
LONGER: dict[str, Any] = {"options": {"num_ctx": 8192}}
QUESTION = [SYSTEM, Message("user", "What is the capital of France?")]


@pytest.mark.parametrize("wanted", [{"model": "other"}, {"options": {"num_ctx": 16384}}])
async def test_two_questions_at_once_do_not_lock_others_out(wanted: dict[str, Any]) -> None:
    words: asyncio.Queue[str | None] = asyncio.Queue()
    async with keeping(
        words=dictated(words), models={"smollm2": "x", "other": "y"}, max_loaded_models=1, trained_context=16384
    ) as house:
        words.put_nowait(None)  # of the prime
        await house.chat.warm_up()
        async with aclosing(house.chat.stream(QUESTION)) as first:
            words.put_nowait("Paris")
            await anext(first)
            other = asyncio.create_task(house.other.chat(keep_alive=60, **wanted))
            await until(lambda: house.server.runner is not None and house.server.runner.keep_alive_seconds == 0)
            second = asyncio.create_task(house.asked("And of Spain?"))
            await until(lambda: len(house.sent("chat")) == 2)
            for word in (None, "Madrid", None):
                words.put_nowait(word)
            assert [delta.text async for delta in first] == [""]
            assert await second == "Madrid"
        assert (await other)["done_reason"] == "load"
        words.put_nowait(None)
        await house.becomes(ModelState.WARM)  # and ours comes back


async def test_another_clients_keep_alive_is_left_while_it_is_being_answered() -> None:
    words: asyncio.Queue[str | None] = asyncio.Queue()
    async with keeping(
        watched=False, words=dictated(words), models={"smollm2": "x", "other": "y"}, max_loaded_models=1
    ) as house:
        kept = {"keep_alive": "10m", "options": {"num_ctx": 4096}}
        await house.other.chat(**kept)
        words.put_nowait("Paris")
        async with house.other.streaming(**kept) as lines:
            await anext(lines)
            third = asyncio.create_task(house.other.chat(model="other"))
            await until(lambda: house.server.runner is not None and house.server.runner.keep_alive_seconds == 0)
            watch = asyncio.create_task(house.chat.watch())
            await until(lambda: ModelState.FOREIGN_KEEP_ALIVE in house.seen)
            await house.ticks(8)
            assert [exchange.body.get("keep_alive") for exchange in house.sent("ping")] == [None]
            for word in (None, None):  # of the answer, and of the prime behind it
                words.put_nowait(word)
            assert [line["done"] async for line in lines] == [True]
        assert (await third)["done_reason"] == "load"
        words.put_nowait(None)
        await house.becomes(ModelState.WARM)
        assert await house.other.names() == ["smollm2:latest"]
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)


async def test_a_longer_context_is_used_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "satellite")
    async with keeping() as house:
        await house.warm()
        for _ in range(3):
            await house.other.ask(**LONGER, keep_alive=-1)
            await until(lambda: house.chat.keepalive.status.context_tokens == 8192)
            assert await house.asked() == "Paris it is."
        assert house.server.counts.loads == 2
        assert house.sent("chat")[-1].body["options"]["num_ctx"] == 8192
        await house.becomes(ModelState.WARM)
        assert await house.is_primed()
        assert "context 8192, which another client wanted: num_ctx is 4096 here" in house.chat.health.message
        assert ModelState.OTHER_CONTEXT not in house.seen
        await house.other.chat(keep_alive=0)
        await until(lambda: house.server.counts.loads == 3)
        await house.becomes(ModelState.WARM)
        assert house.server.runner is not None
        assert house.server.runner.context_tokens == 8192  # or it would be loaded again for the other
        assert [r.levelname for r in caplog.records if "left as it is" in r.getMessage()] == ["INFO"]


async def test_a_model_that_another_client_is_loading_differently_is_not_loaded_behind_it() -> None:
    async with keeping(load_seconds=1.0) as house:
        await house.warm()
        other = asyncio.create_task(house.other.ask(**LONGER, keep_alive=-1))
        await house.becomes(ModelState.UNLOADED)
        assert house.chat.health.up or house.chat.health.is_late
        await other
        await house.becomes(ModelState.WARM)
        assert house.server.counts.loads == 2
        assert await house.is_primed()


@pytest.mark.parametrize(("when", "about_to"), [("before", "ask"), ("later", "speak")])
async def test_a_shorter_context_is_left_until_somebody_is_about_to_ask(
    when: str, about_to: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "satellite")

    async def loaded_by_others(house: KeptModel) -> None:
        await house.other.ask(**SHORTER, keep_alive=-1)

    async with keeping(before=loaded_by_others if when == "before" else None) as house:
        if when == "later":
            await house.warm()
            await loaded_by_others(house)
        await house.becomes(ModelState.OTHER_CONTEXT)
        loads = house.server.counts.loads
        await house.ticks(12)
        assert house.server.counts.loads == loads
        assert [model["context_length"] for model in await house.other.ps()] == [2048]
        if about_to == "speak":
            house.chat.prepare([SYSTEM])
            await house.becomes(ModelState.WARM)
        assert await house.asked() == "Paris it is."
        await house.becomes(ModelState.WARM)
        assert [model["context_length"] for model in await house.other.ps()] == [4096]
        assert await house.is_primed()
        assert house.server.counts.loads == loads + 1
        assert house.seen[ModelState.OTHER_CONTEXT] == 1
        logged = [r.levelname for r in caplog.records if "num_ctx here, the context window there" in r.getMessage()]
        assert logged == ["WARNING"]


async def test_a_key_is_sent_and_never_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OLLAMA_API_KEY", "sk-NobodyMayEverSeeThis")
    async with keeping(kind=Locked) as house:
        await house.warm()
        await house.asked()
        assert {exchange.headers["authorization"] for exchange in house.sent()} == {"Bearer sk-NobodyMayEverSeeThis"}
        assert isinstance(house.server, Locked)
        house.server.is_locked = True
        with pytest.raises(ChatError) as caught:
            await house.asked()
        assert "the key is from $OLLAMA_API_KEY" in str(caught.value)
        await house.becomes(ModelState.REFUSED)
        shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
        assert "NobodyMayEverSeeThis" not in shown
        assert "NobodyMayEverSeeThis" not in f"{house.chat.status} {house.chat.health} {house.chat!r}"
    assert "NobodyMayEverSeeThis" not in caplog.text


class Locked(OllamaServer):
    """An Ollama behind a proxy that may refuse a key, and repeats it."""

    is_locked = False

    async def answer(self, exchange: Exchange) -> None:
        if self.is_locked:
            return await exchange.reply(401, {"error": f"what is {exchange.headers['authorization']}?"})
        return await super().answer(exchange)


async def test_a_conversation_that_was_cut_is_read_before_the_next_question() -> None:
    story = script(*re.findall(r"\s*\S+", "Once upon a time there was a house, and so on and so forth. " * 3))
    async with keeping(words=story) as house:
        await house.warm()
        dialogue = Dialogue(ChatSettings(system_prompt=SYSTEM.content, history_tokens=400), 4096)
        cut = 0
        for number in range(12):
            question = Question(f"Question {number}, which is about something", "kitchen")
            prompt = dialogue.prompt(question)
            answer = await house.asked(prompt[-1].whole, *prompt[1:-1])
            assert house.server.counts.generations[-1].evaluated_tokens < 30
            if dialogue.remember(question, prompt, answer):
                cut += 1
                house.chat.prepare(dialogue.beginning("kitchen"))
                await house.sends("prime")
                await house.ticks()
        assert cut >= 2


async def test_a_request_that_fails_as_it_is_given_up_is_no_error_of_nobody() -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    api = OllamaApi(OllamaSettings(type="ollama", model="m", url="http://127.0.0.1:9"), ChatSettings())
    model = ManagedModel(api, QuestionPriority(), StateLog(api), interval_seconds=60)

    async def fails() -> None:
        given_up.cancel()
        raise ChatUnavailable("gone")

    given_up = asyncio.create_task(model.attended(fails))
    with pytest.raises(asyncio.CancelledError):
        await given_up
    gc.collect()
    assert reported == []
