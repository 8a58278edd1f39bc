"""What answers a question: the responders before the chat model, in their order, and none of them at any price."""

import asyncio
import gc
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

import pytest

from satellite.engines.protocols import ChatDelta, Message
from satellite.errors import ChatError
from satellite.pipeline.dialogue import Question
from satellite.pipeline.stages import Stages
from tests.scripted_engine import ScriptedEngine, ScriptedResponder, scripted_stages
from tests.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.virtual_clock

QUESTION = Question("What is the capital of France?")
PARIS = ("model", "Paris is the capital.")
Does = Callable[[Question], Awaitable[str | None]]


def says(text: str | None) -> Does:
    async def say(_: Question) -> str | None:
        return text

    return say


async def breaks(_: Question) -> str | None:
    raise KeyError("oh")


async def hangs(_: Question) -> str | None:
    return await asyncio.Future()


def stages(*responders: ScriptedResponder, **chat: Any) -> tuple[Stages, ScriptedEngine]:
    model = ScriptedEngine(answer=["Paris ", "is the capital."], chat_seconds=0)
    return scripted_stages(model, *responders, chat=chat), model


async def answered(made: Stages) -> list[ChatDelta]:
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        aclosing(made.answer(QUESTION, made.dialogue.prompt(QUESTION))) as deltas,
    ):
        return [delta async for delta in deltas]


async def whole(made: Stages) -> tuple[str, str]:
    """Return who answered, and what."""
    deltas = await answered(made)
    return deltas[-1].provider, "".join(delta.text for delta in deltas)


async def test_the_first_who_understands_answers_else_the_chat_model() -> None:
    responders = [ScriptedResponder(name, says(text)) for name, text in (("a", None), ("b", "Oui."), ("c", "Oui."))]
    made, model = stages(*responders)
    [delta] = await answered(made)
    assert (delta.provider, delta.text) == ("b", "Oui.")
    assert delta.stats is not None
    assert "first_token_ms" in delta.stats.described()
    assert [len(one.asked_at) for one in responders] == [1, 1, 0]
    for others in ((), responders[:1]):
        assert await whole(stages(*others)[0]) == PARIS
    made, silent_model = stages(ScriptedResponder("a", says("")))
    assert await whole(made) == ("a", "")  # silence is an answer
    assert model.asked == silent_model.asked == []


@pytest.mark.parametrize("fault", [breaks, hangs])
async def test_whoever_is_broken_is_passed_over(fault: Does, caplog: pytest.LogCaptureFixture) -> None:
    def warnings() -> int:
        return len([record for record in caplog.records if record.levelno >= logging.WARNING])

    broken = ScriptedResponder("a", fault)
    made, _ = stages(broken, ScriptedResponder("b", says(None)))
    for _ in range(2):
        assert await whole(made) == PARIS
    assert warnings() == 1
    broken.does = says("Bonjour.")
    assert await whole(made) == ("a", "Bonjour.")
    broken.does = fault
    assert await whole(made) == PARIS
    assert warnings() == 2


async def test_whoever_hangs_up_is_not_waited_for() -> None:
    made, model = stages(ScriptedResponder("a", hangs))
    asking = asyncio.create_task(answered(made))
    await asyncio.sleep(0.01)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert model.asked == []


async def test_a_client_that_leaves_before_a_failure_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async def breaks_off() -> AsyncGenerator[ChatDelta, None]:
        yield ChatDelta("Paris ", "model")
        yield ChatDelta("is ", "model")
        raise ChatError("it broke off")

    made, _ = stages()
    deltas = made.read_ahead(breaks_off())
    assert (await anext(deltas)).text == "Paris "
    await asyncio.sleep(0.01)  # the rest has been read, and has failed
    await deltas.aclose()
    del deltas
    gc.collect()
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_an_answer_without_an_end_is_cut() -> None:
    made, _ = stages(ScriptedResponder("a", says("word " * 1000)), max_characters=100)
    [delta] = await answered(made)
    assert len(delta.text) == 100
    assert delta.stats is not None
    assert delta.stats.truncated


async def test_a_chat_model_that_cannot_be_loaded_does_not_matter_to_them() -> None:
    made, _ = stages(ScriptedResponder("a", says("Bonjour.")))
    alone, _ = stages()
    for one in (made, alone):
        one.engines.chat.settle(ChatError("there is none"))
    assert await whole(made) == ("a", "Bonjour.")
    with pytest.raises(ChatError):
        await answered(alone)


async def test_what_is_left_of_a_long_conversation_is_read_before_the_next_question() -> None:
    made, model = stages(history_tokens=150, tell=[])
    question = Question("What is the capital of France?", "kitchen", persona="Be brief.")
    begun: list[Sequence[Message]] = []
    for _ in range(12):
        before = made.dialogue.beginning("kitchen", "Be brief.")
        made.remember(question, made.dialogue.prompt(question), "Paris is the capital of France.")
        after = made.dialogue.beginning("kitchen", "Be brief.")
        if after[: len(before)] != before:
            begun.append(after)
    assert len(begun) >= 2
    assert model.prepared == begun
