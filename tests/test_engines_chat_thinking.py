"""Thoughts are never spoken, however the stream cuts them up, and words are never held back for nothing."""

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satellite.engines.chat.reply import ChatReplies
from satellite.engines.chat.thinking import ThoughtFilter, opens_thought
from satellite.engines.protocols import ChatDelta, ChatStats
from satellite.errors import ChatUnavailable

TEXTS = st.lists(
    st.sampled_from(["<think>", "<", ">", "</", "think", "<thin", " ", "\n", "Hello", "é", "a<b", "<think>b</think>"])
).map("".join)


def filtered(*pieces: str) -> str:
    think = ThoughtFilter()
    return "".join([*(think.feed(piece) for piece in pieces), think.flush()])


@settings(max_examples=25)
@given(TEXTS, st.data())
def test_any_split_gives_the_same_text(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)))))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert filtered(*pieces) == re.sub(r"<think>.*?(</think>\s*|\Z)|</think>\s*", "", text, flags=re.DOTALL)


@settings(max_examples=25)
@given(st.lists(st.text()))
def test_text_without_a_bracket_passes_at_once(pieces: list[str]) -> None:
    think = ThoughtFilter()
    for piece in pieces:
        plain = re.sub(r"[<\[◁{]", "", piece)
        assert think.feed(plain) == plain


HARMONY = "<|channel|>analysis<|message|>The user greets.<|end|><|start|>assistant<|channel|>final<|message|>"


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        (f"{HARMONY}Hello.<|return|>", "Hello."),
        ("<|channel|>final<|message|>Hello.<|return|>", "Hello."),
        ('<tool_call>\n{"name": "HassTurnOn", "arguments": {}}\n</tool_call>Done.', "Done."),
        ('{"name": "HassTurnOn", "parameters": {"name": "lamp"}}', ""),
        ('[TOOL_CALLS][{"name": "HassTurnOn"}]', ""),
        ('[{"name": "HassTurnOn", "arguments": {}}]', ""),
        ('{"type": "function", "function": {}}', ""),
        ('Sure. {"name": "HassTurnOn", "arguments": {}}', "Sure. "),
        ('It is {"name": "Ada"}.', 'It is {"name": "Ada"}.'),
        ("<function=turn_on>{}</function>Done.", "Done."),
        ('<|python_tag|>lamp.call(state="on")', ""),
        ("<function_calls><invoke/></function_calls>Done.", "Done."),
        ("<｜tool▁calls▁begin｜>lamp", ""),
        ("<|begin_of_thought|>hm<|end_of_thought|>\n\n<|begin_of_solution|>Done.<|end_of_solution|>", "Done."),
        ("<|start_header_id|>assistant<|end_header_id|>\n\nDone.<|eot_id|>", "Done."),
        ("Done.<|start_header_id|>user<|end_header_id|>\n\nHi", "Done."),
        ("<start_of_turn>model\nDone.<end_of_turn>", "Done."),
        ("<|im_start|>assistant\nDone.<|im_end|>", "Done."),
        ("{ braces } are signs", "{ braces } are signs"),
        ("{x}", "{x}"),
        ("{x}<|im_end|>\n<|im_start|>user", "{x}"),
        ("{<think>hm</think>x}", "{x}"),
        ('<think>hm</think>{"name": "HassTurnOn", "arguments": {}}', ""),
        ('<|message|>{"tool_calls": []}', ""),
        ('{"name": "Ada", "born": 1815}', '{"name": "Ada", "born": 1815}'),
        ("<think>The user wants the capital of France.", ""),
        ("Yes.<|im_end|>", "Yes."),
        ("Yes.<|im_end|>\n<|im_start|>user\nAnd", "Yes."),
        ("Yes.<|eot_id|>", "Yes."),
        ("Yes.</s>", "Yes."),
        ("Yes.<end_of_turn>\n", "Yes."),
        ("Yes.<｜end▁of▁sentence｜>", "Yes."),
        ("<|channel|>Yes.", "Yes."),
        ("[/INST] Yes.", " Yes."),
        ("<|assistant|>Yes.", "Yes."),
        ("a <|b|> c", "a  c"),
        ("a <|b or c|> d", "a <|b or c|> d"),
        ("2 < 3 | 4 > 1", "2 < 3 | 4 > 1"),
    ],
)
@pytest.mark.parametrize("size", [1, 4, 1000])
def test_channels_calls_of_tools_special_tokens_and_endless_thoughts_are_not_spoken(
    text: str, spoken: str, size: int
) -> None:
    assert filtered(*(text[at : at + size] for at in range(0, len(text), size))) == spoken


@pytest.mark.parametrize(
    ("opening", "closing"), [("<thinking>", "</thinking>"), ("[THINK]", "[/THINK]"), ("<Think>", "</Think>")]
)
def test_thoughts_are_known_however_they_are_marked(opening: str, closing: str) -> None:
    assert filtered(f"{opening}hm, </other> [", "nearly]", closing, "\n\nYes.") == "Yes."


@pytest.fixture
def answers() -> ChatReplies:
    return ChatReplies("local")


def said(answers: ChatReplies, *pieces: str, truncated: bool = False) -> list[str]:
    """Return the texts of the deltas of an answer that comes in `pieces`."""
    answer = answers.begin()
    deltas = [answer.delta(piece) for piece in pieces]
    return [delta.text for delta in deltas if delta] + [answer.end(ChatStats(truncated=truncated)).text]


def test_a_model_that_begins_within_a_thought_is_found_out_once(answers: ChatReplies) -> None:
    said(answers, "I should be brief.</think>Yes.")
    assert answers.thinks_first
    for _ in range(3):
        assert said(answers, "Let me see. ", "</think>\nNo.") == ["No.", ""]


def test_one_that_stops_thinking_aloud_is_heard_again_as_it_speaks(
    answers: ChatReplies, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert said(answers, "Okay… </think> The answer is four.") == ["Okay… The answer is four.", ""]
    assert said(answers, "Paris", " it is.") == ["Paris it is."]
    assert said(answers, "Paris", " it is.") == ["Paris", " it is.", ""]
    assert ["held back until they do" in text for text in caplog.messages] == [True, False]
    assert "no longer held back" in caplog.messages[1]


def test_an_answer_that_was_cut_is_not_empty_for_one_stray_tag(answers: ChatReplies) -> None:
    said(answers, "Okay. </think> Four.")
    assert said(answers, "Once upon", " a time", truncated=True) == ["Once upon a time"]


def test_a_presumed_thought_that_was_cut_is_not_spoken(answers: ChatReplies) -> None:
    for _ in range(2):
        said(answers, "Let me see.</think>Yes.")
    with pytest.raises(ChatUnavailable):
        said(answers, "Let me see, the user wants", truncated=True)
    assert said(answers, "Let me see.", "</think>No.") == ["No.", ""]  # it is still known


def test_a_model_whose_prompt_opens_the_thought_never_speaks_it(answers: ChatReplies) -> None:
    assert opens_thought("{{ .Prompt }}<｜Assistant｜><think>\n")
    assert not opens_thought("{{ .Prompt }}<think></think>\n\n")
    answers.always_thinks = True
    assert said(answers, "Let me see.", "</think>No.") == ["No.", ""]


def test_words_that_had_come_are_not_lost_with_an_answer_that_breaks_off(answers: ChatReplies) -> None:
    said(answers, "Okay. </think> Four.")
    answer = answers.begin()
    assert answer.delta("Once upon a ") is None
    assert answer.rest() == ChatDelta("Once upon a ", "local")
    answers.always_thinks = True
    answer = answers.begin()
    answer.delta("Let me see")
    assert answer.rest() is None


def test_a_bracket_that_is_no_tag_comes_out_with_the_next_piece() -> None:
    think = ThoughtFilter()
    assert think.feed("3 <") == "3 "
    assert think.feed(" 4") == "< 4"


def test_an_answer_begins_with_its_first_word(answers: ChatReplies) -> None:
    answer = answers.begin()
    assert [answer.delta(piece) for piece in ("<think>\n", "hm</think>\n\n", " ")] == [None] * 3
    assert answer.delta(" Yes") == ChatDelta("Yes", "local")


def test_the_last_delta_carries_the_figures_and_what_was_held_back(answers: ChatReplies) -> None:
    answer = answers.begin()
    answer.delta("a <thi")
    stats = ChatStats(answer_tokens=30, answer_seconds=0.5)
    end = answer.end(stats)
    assert end.stats is not None
    assert end.stats.first_token_seconds is not None
    assert end == ChatDelta("<thi", "local", replace(stats, first_token_seconds=end.stats.first_token_seconds))
    assert stats.tokens_per_second == 60


@pytest.mark.parametrize("raw", ["", " \n", "<think>endless"])
def test_an_answer_without_a_word_is_an_error(answers: ChatReplies, raw: str) -> None:
    with pytest.raises(ChatUnavailable, check=lambda error: error.code == "chat-empty"):
        said(answers, raw)
