"""What the model is sent: the same beginning every time, whole turns, for a while, and never more than it can read."""

import asyncio
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satellite.config.chat import ChatSettings
from satellite.engines.chat.tokens import conversation_tokens
from satellite.engines.protocols import Message
from satellite.pipeline.dialogue import Dialogue, Question

NOW = datetime(2026, 11, 23, 22, 5)


def dialogue(context_tokens: int | None = None, **chat: object) -> Dialogue:
    return Dialogue(ChatSettings(**chat), context_tokens, now=lambda: NOW)


def converse(memory: Dialogue, text: str, answer: str, conversation: str = "one") -> list[Message]:
    question = Question(text, conversation)
    prompt = memory.prompt(question)
    memory.remember(question, prompt, answer)
    return prompt


def test_the_moment_stands_before_the_words_of_the_question() -> None:
    prompt = dialogue().prompt(Question("What time is it?", room="kitchen", language="en"))
    assert prompt[0] == Message("system", ChatSettings().system_prompt)
    assert prompt[1].whole == "[It is Monday, 23 November 2026, 22:05; room: kitchen; language: en]\nWhat time is it?"


def test_nothing_is_told_that_is_not_wanted_or_not_known() -> None:
    assert dialogue(tell=()).prompt(Question("Hello", room="kitchen"))[-1].whole == "Hello"
    prompt = dialogue(tell=("room", "language"), system_prompt="").prompt(Question("Hello", language="fr"))
    assert [(message.role, message.whole) for message in prompt] == [("user", "[language: fr]\nHello")]


@settings(max_examples=25)
@given(st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), min_size=1, max_size=6))
def test_each_prompt_begins_with_the_one_before(turns: list[tuple[str, str]]) -> None:
    memory = dialogue(history_tokens=1_000_000)
    before: list[Message] = []
    for text, answer in turns:
        prompt = converse(memory, text, answer)
        assert prompt[: len(before)] == before
        before = [*prompt, Message("assistant", answer)]
        assert memory.beginning("one") == before


def test_conversations_do_not_mix_and_what_nobody_heard_is_not_remembered() -> None:
    memory = dialogue()
    converse(memory, "My name is Ada.", "Hello Ada.", "kitchen")
    converse(memory, "Hello", "", "kitchen")
    lengths = [len(memory.prompt(Question("Who am I?", conversation))) for conversation in ("kitchen", "bedroom", None)]
    assert lengths == [4, 2, 2]


@pytest.mark.virtual_clock
async def test_a_conversation_is_forgotten_after_a_while() -> None:
    memory = dialogue(history_seconds=60)
    converse(memory, "a", "b", "old")
    await asyncio.sleep(50)
    converse(memory, "c", "d", "new")
    await asyncio.sleep(20)
    assert [len(memory.beginning(conversation)) for conversation in ("old", "new")] == [1, 3]
    converse(memory, "e", "f", "new")
    await asyncio.sleep(50)
    assert len(memory.beginning("new")) == 5


def test_the_last_answer_is_known_to_be_repeated() -> None:
    for memory in (dialogue(), dialogue(history_tokens=0)):
        question = Question("Hello", "one")
        assert memory.last_answer(question) is None
        converse(memory, "Hello", "Good day.")
        assert memory.last_answer(question) == "Good day."
        memory.remember(question, memory.prompt(question), "", "A long story.")
        assert memory.last_answer(question) == "A long story."
        assert memory.last_answer(Question("Hello", "two")) is None
        assert memory.last_answer(Question("Hello")) is None
        assert "A long story." not in [message.content for message in memory.beginning("one")]
    assert len(memory.beginning("one")) == 1


def test_the_oldest_turns_go_whole_and_several_at_once() -> None:
    memory = dialogue(history_tokens=400)
    changes = 0
    before = memory.beginning("one")
    for number in range(40):
        converse(memory, f"Question {number}, which is about something", f"Answer {number}, which says something else")
        after = memory.beginning("one")
        assert conversation_tokens(after[1:]) <= 400
        assert [message.role for message in after[1:]] == ["user", "assistant"] * (len(after) // 2)
        changes += after[: len(before)] != before
        before = after
    assert 2 <= changes <= 12


def test_memory_leaves_room_in_a_small_context() -> None:
    memory = dialogue(context_tokens=1024, history_tokens=100_000, max_tokens=200)
    for number in range(100):
        converse(memory, f"Question number {number}", f"Answer number {number}")
    assert conversation_tokens(memory.beginning("one")) < 1024 - 200 - 200
    tiny = dialogue(context_tokens=256, max_tokens=200)
    converse(tiny, "Hello", "Hello")
    assert len(tiny.beginning("one")) == 1


def test_only_so_many_conversations_are_remembered() -> None:
    memory = dialogue()
    for number in range(300):
        converse(memory, "Hello", "Hello", f"conversation {number}")
    known = [number for number in range(300) if len(memory.beginning(f"conversation {number}")) > 1]
    assert known == list(range(300 - 256, 300))
