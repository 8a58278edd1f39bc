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
from satellite.pipeline.responder import Reply, ResponderStatus
from satellite.pipeline.stages import Stages
from tests.scripted_engine import ScriptedEngine, scripted_stages
from tests.waiting import PATIENCE_SECONDS

QUESTION = Question("What is the capital of France?")
PARIS = ["Paris ", "is the capital."]
Does = Callable[[], Awaitable[str | None]]


class ScriptedResponder:
    """Does what it is told to."""

    def __init__(self, name: str, does: Does, deadline_seconds: float = 10) -> None:
        self.name = name
        self._deadline_seconds = deadline_seconds
        self.does = does
        self.status = ResponderStatus(name, "ready", True, "")
        self.asked = 0

    def deadline_seconds(self, question: Question) -> float:
        """Say how long it may take."""
        return self._deadline_seconds

    async def concerns(self, question: Question) -> bool:
        """Tell that only asking can tell."""
        return True

    async def respond(self, question: Question) -> Reply | None:
        """Answer, or not."""
        self.asked += 1
        text = await self.does()
        return None if text is None else Reply(text, self.name)

    async def watch(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""


def says(text: str | None) -> Does:
    """Return what answers so, or understands nothing."""

    async def say() -> str | None:
        return text

    return say


async def breaks() -> str | None:
    """Fail as nobody expects."""
    raise KeyError("oh")


async def hangs() -> str | None:
    """Never answer."""
    return await asyncio.Future()


def stages(*responders: ScriptedResponder, **chat: Any) -> tuple[Stages, ScriptedEngine]:
    """Return stages with a chat model, and the responders before it."""
    model = ScriptedEngine(answer=PARIS, chat_seconds=0)
    return scripted_stages(model, *responders, chat=chat), model


async def answered(made: Stages) -> list[ChatDelta]:
    """Return the answer, piece by piece."""
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        aclosing(made.answer(QUESTION, made.dialogue.prompt(QUESTION))) as deltas,
    ):
        return [delta async for delta in deltas]


def whole(deltas: list[ChatDelta]) -> tuple[str, str]:
    """Return who answered, and what."""
    return deltas[-1].provider, "".join(delta.text for delta in deltas)


MODELS = ("model", "".join(PARIS))


async def test_the_first_who_understands_answers() -> None:
    first, second, third = (
        ScriptedResponder("a", says(None)),
        ScriptedResponder("b", says("Bonjour.")),
        ScriptedResponder("c", says("Bonjour.")),
    )
    made, model = stages(first, second, third)
    deltas = await answered(made)
    assert whole(deltas) == ("b", "Bonjour.")
    assert len(deltas) == 1
    assert deltas[0].stats is not None
    assert "first_token_ms" in deltas[0].stats.described()
    assert (first.asked, second.asked, third.asked, model.asked) == (1, 1, 0, [])


async def test_what_nobody_understands_goes_to_the_chat_model() -> None:
    for responders in ((), (ScriptedResponder("a", says(None)),)):
        made, _ = stages(*responders)
        assert whole(await answered(made)) == MODELS


async def test_silence_is_an_answer() -> None:
    made, model = stages(ScriptedResponder("a", says("")))
    assert whole(await answered(made)) == ("a", "")
    assert model.asked == []


@pytest.mark.parametrize("fault", [breaks, hangs])
async def test_whoever_is_broken_is_passed_over(fault: Does, caplog: pytest.LogCaptureFixture) -> None:
    def warnings() -> int:
        return len([record for record in caplog.records if record.levelno >= logging.WARNING])

    broken = ScriptedResponder("a", fault, deadline_seconds=0.01)
    made, _ = stages(broken, ScriptedResponder("b", says(None)))
    for _ in range(3):
        assert whole(await answered(made)) == MODELS
    assert warnings() == 1
    broken.does = says("Bonjour.")
    assert whole(await answered(made)) == ("a", "Bonjour.")
    broken.does = fault
    assert whole(await answered(made)) == MODELS
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
    deltas = await answered(made)
    assert len(deltas[0].text) == 100
    assert deltas[0].stats is not None
    assert deltas[0].stats.truncated


async def test_a_chat_model_that_cannot_be_loaded_does_not_matter_to_them() -> None:
    for responders in ((ScriptedResponder("a", says("Bonjour.")),), ()):
        made, _ = stages(*responders)
        made.engines.chat.settle(ChatError("there is none"))
        if responders:
            assert whole(await answered(made)) == ("a", "Bonjour.")
        else:
            with pytest.raises(ChatError):
                await answered(made)


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
