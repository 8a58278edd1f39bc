"""Thoughts are never spoken, however the stream cuts them up, and words are never held back for nothing."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satellite.engines.chat.answer import Answers
from satellite.engines.chat.thinking import ThinkFilter
from satellite.engines.stats import ChatStats
from satellite.errors import ChatUnavailable

TEXTS = st.lists(
    st.sampled_from(["<think>", "<", ">", "</", "think", "<thin", " ", "\n", "Hello", "é", "a<b", "<think>b</think>"])
).map("".join)


def filtered(*pieces: str) -> str:
    """Return what is left of a text that comes in `pieces`."""
    think = ThinkFilter()
    return "".join([*(think.feed(piece) for piece in pieces), think.flush()])


@given(TEXTS, st.data())
def test_any_split_gives_the_same_text(text: str, data: st.DataObject) -> None:
    """Where the pieces are cut makes no difference, and the result is what one regular expression says."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)))))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert filtered(*pieces) == re.sub(r"<think>.*?(</think>\s*|\Z)|</think>\s*", "", text, flags=re.DOTALL)


@given(st.lists(st.text()))
def test_text_without_a_bracket_passes_at_once(pieces: list[str]) -> None:
    """What cannot become a tag is not held back."""
    think = ThinkFilter()
    for piece in pieces:
        plain = re.sub(r"[<\[◁]", "", piece)
        assert think.feed(plain) == plain


def test_a_thought_that_is_never_closed_drops_the_rest() -> None:
    """Nothing of a thought that the length limit cut off is spoken."""
    assert filtered("<think>The user wants", " the capital of France.") == ""


@pytest.mark.parametrize(
    ("opening", "closing"), [("<thinking>", "</thinking>"), ("[THINK]", "[/THINK]"), ("<Think>", "</Think>")]
)
def test_thoughts_are_known_however_they_are_marked(opening: str, closing: str) -> None:
    """Each family of models has tags of its own, and a thought may speak of another's."""
    assert filtered(f"{opening}hm, </other> [", "nearly]", closing, "\n\nYes.") == "Yes."


def test_a_model_that_begins_within_a_thought_is_found_out_once() -> None:
    """What its first answer lets slip, no later one does; one that stops thinking is heard again."""
    answers = Answers("local")
    first = answers.begin()
    first.delta("I should be brief.</think>Yes.")
    first.end()
    assert answers.thinks_first
    second = answers.begin()
    assert second.delta("Let me see. ") is None
    told = second.delta("</think>\nNo.")
    assert told is not None
    assert told.text == "No."
    third = answers.begin()
    assert third.delta("Paris.") is None
    assert third.end().text == "Paris."


def test_a_presumed_thought_that_was_cut_is_not_spoken() -> None:
    """The length limit may hit in the middle of it."""
    answers = Answers("local")
    answers.thinks_first = True
    answer = answers.begin()
    answer.delta("Let me see, the user wants")
    with pytest.raises(ChatUnavailable):
        answer.end(ChatStats(truncated=True))


def test_a_bracket_that_is_no_tag_comes_out_with_the_next_piece() -> None:
    """Only as much is held back as may be the beginning of a tag."""
    think = ThinkFilter()
    assert think.feed("3 <") == "3 "
    assert think.feed(" 4") == "< 4"


def test_an_answer_begins_with_its_first_word() -> None:
    """Thoughts and the white space behind them make no delta, so that the first one is something to say."""
    answer = Answers("local").begin()
    assert answer.delta("<think>\n") is None
    assert answer.delta("hm</think>\n\n") is None
    assert answer.delta(" ") is None
    first = answer.delta(" Yes")
    assert first is not None
    assert (first.text, first.provider, first.stats) == ("Yes", "local", None)


def test_the_last_delta_carries_the_figures_and_what_was_held_back() -> None:
    """An answer that ends with half a tag is spoken whole."""
    answer = Answers("local").begin()
    answer.delta("a <thi")
    stats = ChatStats(answer_tokens=30, answer_seconds=0.5)
    end = answer.end(stats)
    assert end.text == "<thi"
    assert end.stats is not None
    assert end.stats.first_token_seconds is not None
    assert replace(end.stats, first_token_seconds=None) == stats
    assert stats.tokens_per_second == 60


@pytest.mark.parametrize("raw", ["", " \n", "<think>endless"])
def test_an_answer_without_a_word_is_an_error(raw: str) -> None:
    """Silence is never taken for an answer."""
    answer = Answers("local").begin()
    answer.delta(raw)
    with pytest.raises(ChatUnavailable) as caught:
        answer.end()
    assert caught.value.code == "chat-empty"
