"""How a conversation is made to fit."""

from hypothesis import given, settings
from hypothesis import strategies as st

from satellite.engines.chat.tokens import conversation_tokens, estimated_tokens, fitting
from satellite.engines.protocols import Message

TEXT = st.text("aé法", max_size=40)
SYSTEM = st.builds(Message, st.just("system"), TEXT)
QUESTION = st.builds(Message, st.just("user"), TEXT, TEXT)
ANSWER = st.builds(Message, st.just("assistant"), TEXT)


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """Make a conversation as the daemon keeps it: the system's words, whole turns, and a question."""
    messages = draw(st.lists(SYSTEM, max_size=2))
    for _ in range(draw(st.integers(0, 6))):
        messages += [draw(QUESTION), *draw(st.lists(ANSWER, min_size=1, max_size=2))]
    return [*messages, draw(QUESTION)]


@settings(max_examples=40)
@given(conversations(), st.integers(-10, 300))
def test_as_many_whole_turns_go_as_must_and_the_oldest_first(messages: list[Message], budget: int) -> None:
    before = list(messages)
    system = [message for message in messages if message.role == "system"]
    turns = [at for at, message in enumerate(messages) if message.role == "user"]
    candidates = [system + messages[at:] for at in turns]
    fits = [kept for kept in candidates if conversation_tokens(kept) <= budget]
    assert fitting(messages, budget) == (fits[0] if fits else candidates[-1])
    assert messages == before


def test_conversations_that_are_none() -> None:
    system, question, answer = Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Hello")
    assert fitting([], 0) == []
    assert fitting([system], 0) == [system]
    assert fitting([question], 0) == [question]
    assert fitting([system, answer, question], 0) == [system, question]


@settings(max_examples=40)
@given(TEXT, TEXT)
def test_longer_is_never_less(one: str, other: str) -> None:
    assert estimated_tokens(one + other) >= max(estimated_tokens(one), estimated_tokens(other))
    assert estimated_tokens("") == 0
    assert all(estimated_tokens(text) >= 1 for text in (one, other) if text)


def test_the_estimate_is_on_the_safe_side() -> None:
    assert estimated_tokens("What is the capital of France?") >= 7
    assert estimated_tokens("法国的首都是哪里？") >= 9
    plain, aside = Message("user", "Hi"), Message("user", "Hi", "It is noon.")
    assert conversation_tokens([aside]) > conversation_tokens([plain]) > estimated_tokens("Hi")
