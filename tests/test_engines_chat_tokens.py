"""How a conversation is made to fit."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from satellite.engines.chat.tokens import conversation_tokens, estimated_tokens, fitting
from satellite.engines.protocols import Message

TEXT = st.text(max_size=40)
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


def turns(messages: Sequence[Message]) -> int:
    """Return how many questions there are."""
    return sum(message.role == "user" for message in messages)


@given(conversations(), st.integers(-10, 300))
def test_whole_turns_go_and_the_oldest_first(messages: list[Message], budget: int) -> None:
    system = [message for message in messages if message.role == "system"]
    kept = fitting(messages, budget)
    assert kept[: len(system)] == system
    rest = kept[len(system) :]
    assert rest == messages[len(messages) - len(rest) :]
    assert rest[0].role == "user"
    assert rest[-1] is messages[-1]


@given(conversations(), st.integers(-10, 300))
def test_no_more_goes_than_must(messages: list[Message], budget: int) -> None:
    kept = fitting(messages, budget)
    assert conversation_tokens(kept) <= budget or turns(kept) == 1
    if len(kept) < len(messages):
        with_one_more = next(
            fitting(messages, larger) for larger in range(budget, 10_000) if len(fitting(messages, larger)) > len(kept)
        )
        assert turns(with_one_more) == turns(kept) + 1
        assert conversation_tokens(with_one_more) > budget


@given(conversations())
def test_what_fits_is_left_alone(messages: list[Message]) -> None:
    before = list(messages)
    assert fitting(messages, conversation_tokens(messages)) == before
    fitting(messages, 0)
    assert messages == before


def test_conversations_that_are_none() -> None:
    system, question, answer = Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Hello")
    assert fitting([], 0) == []
    assert fitting([system], 0) == [system]
    assert fitting([question], 0) == [question]
    assert fitting([system, answer, question], 0) == [system, question]


@given(st.text(), st.text())
def test_longer_is_never_less(one: str, other: str) -> None:
    assert estimated_tokens(one + other) >= max(estimated_tokens(one), estimated_tokens(other))
    assert estimated_tokens("") == 0
    assert all(estimated_tokens(text) >= 1 for text in (one, other) if text)


def test_the_estimate_is_on_the_safe_side() -> None:
    assert estimated_tokens("What is the capital of France?") >= 7
    assert estimated_tokens("法国的首都是哪里？") >= 9
    plain, aside = Message("user", "Hi"), Message("user", "Hi", "It is noon.")
    assert conversation_tokens([aside]) > conversation_tokens([plain]) > estimated_tokens("Hi")
