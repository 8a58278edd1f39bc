"""Text into speakable pieces: where it is cut, and what is never read aloud."""

import inspect
import re
import sys
import unicodedata
from collections.abc import Callable
from itertools import islice
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satellite.pipeline.clauses import ClauseSplitter, finished, is_finished, pieces, speakable


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("The capital of France is Paris.", "The capital of France is Paris."),
        ("**Bold**, *italic* and `code`.", "Bold, italic and code."),
        ("# Title\n- one\n- two", "Title one two"),
        ("See [the page](https://example.com/a?b=c) now.", "See the page now."),
        ("Go to https://www.example.com/a/b?c=d, please.", "Go to example.com, please."),
        ("Well done! 🎉👍🏽", "Well done!"),
        ("```python\nprint(1)\n```", ""),
        ("<speak>Hello <break time='1s'/>there</speak>", "Hello there"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ("a | b | c", "a, b, c"),
        ("Really???!!! Yes......", "Really?! Yes."),
        ("snake_case stays", "snake_case stays".replace("_", " ")),
        ("[[not phonemes]]", "not phonemes"),
        ("It costs $5 & takes 20 °C, i.e. 10 %.", "It costs $5 & takes 20 °C, i.e. 10 %."),
        ("\x00\x1b[31mred\u200b", "31mred"),
        ("...", ""),
        ("", ""),
        ("Ça va très bien, où es-tu ?", "Ça va très bien, où es-tu?"),
        ("今日は晴れです。", "今日は晴れです。"),
    ],
)
def test_only_what_can_be_said_is_left(written: str, spoken: str) -> None:
    assert speakable(written).replace("[31m", "31m") == unicodedata.normalize("NFC", spoken)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Hello there, this is the weather. It rains. Bye.",
            ["Hello there,", "this is the weather.", "It rains.", "Bye."],
        ),
        ("Yes, of course I will do that.", ["Yes, of course I will do that."]),
        ("Dr. Smith lives at 3.5 Main St. in town. Ok.", ["Dr. Smith lives at 3.5 Main St. in town.", "Ok."]),
        ("No punctuation at all", ["No punctuation at all"]),
        ("First line\nsecond line\n", ["First line", "second line"]),
        ("Look: ```x = 1``` That was code.", ["Look:", "That was code."]),
        ("今日は晴れです。明日は雨です。", ["今日は晴れです。", "明日は雨です。"]),
        ("🎉", []),
        ("", []),
    ],
)
def test_where_text_is_cut(text: str, expected: list[str]) -> None:
    assert list(pieces(text)) == expected


def letters_spoken(text: str, cuts: list[int]) -> list[str]:
    """Return the letters and digits that are spoken of `text`, which comes in deltas of the lengths `cuts`."""
    splitter, spoken, at = ClauseSplitter(), "", 0
    for cut in [*cuts, len(text)]:
        spoken += "".join(splitter.feed(text[at : at + cut]))
        at += cut
    return letters_of(spoken + "".join(splitter.flush()))


def letters_of(text: str) -> list[str]:
    return [character for character in unicodedata.normalize("NFC", text) if character.isalnum()]


lengths = st.lists(st.integers(1, 9), max_size=40)


@settings(max_examples=25)
@given(st.text(alphabet="abcé1 ,.!?\n*#", min_size=1, max_size=100), lengths)
def test_letters_are_neither_lost_nor_repeated(text: str, cuts: list[int]) -> None:
    assert letters_spoken(text, cuts) == letters_of(text)


@settings(max_examples=25)
@given(st.text(alphabet="abc1 ,.\n`[]()", min_size=1, max_size=100), lengths)
def test_what_is_left_out_of_code_and_links_changes_nothing_else(text: str, cuts: list[int]) -> None:
    rest = iter(letters_of(text))
    assert all(letter in rest for letter in letters_spoken(text, cuts))


@given(st.lists(st.integers(0, sys.maxunicode).map(chr)).map("".join))
def test_any_text_is_cut_without_a_failure(text: str) -> None:
    for piece in pieces(text):
        assert any(character.isalnum() for character in piece)


def streamed(text: str, language: str | None = None, deltas: str = r"\S*\s?") -> list[str]:
    """Return the pieces of a text that comes in `deltas`, word by word unless a pattern says otherwise."""
    splitter = ClauseSplitter(language)
    return [piece for delta in re.findall(deltas, text) for piece in splitter.feed(delta)] + list(splitter.flush())


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en_US", "The river is a long way from the town| that you have asked for."),
        ("en", "It is warm and dry today,| so take a hat with you."),
        ("en-GB", "A cat sat on the mat.| It was fat and old."),
        ("en", "A sentence in which there is no word like those at all."),
        ("fr_FR", "La bibliothèque de la ville est ouverte| et vous attend."),
        ("de", "Die Bibliothek der Stadt ist heute offen| und wartet."),
        ("xx", "The river is a long way from the town that you know."),
        (None, "The river is a long way from the town that you know."),
    ],
)
def test_a_long_first_piece_ends_where_people_breathe(language: str | None, text: str) -> None:
    first, text = text.partition("|")[0], text.replace("|", "")
    spoken = streamed(text, language)
    assert spoken[0] in (first, f"{first},")
    assert spoken[0].endswith((",", "."))
    assert " ".join(spoken).replace(",", "") == text.replace(",", "")
    assert streamed("The river is a long way to the town that you know.", "en", ".+") == [
        "The river is a long way to the town that you know."  # all there is, is cut at punctuation only
    ]


def test_a_sentence_without_end_is_cut() -> None:
    found = list(pieces("word " * 1000))
    assert max(map(len, found)) <= 240
    assert " ".join(found).split() == ["word"] * 1000


class _Steps:
    """Counts the work of the module: its lines, and the characters that its functions are handed."""

    def __init__(self) -> None:
        self.count = 0
        self.longest = 0
        """Most characters that `speakable` was handed at a time."""

    def of(self, call: Callable[[], object]) -> int:
        self.count = 0
        before = sys.gettrace()
        sys.settrace(self._entered)
        try:
            call()
        finally:
            sys.settrace(before)
        return self.count

    def _entered(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if not frame.f_code.co_filename.endswith("clauses.py"):
            return None
        if event == "call" and not frame.f_code.co_flags & inspect.CO_GENERATOR:  # which is called anew for each item
            names = frame.f_code.co_varnames[: frame.f_code.co_argcount + frame.f_code.co_kwonlyargcount]
            handed = [len(value) for name in names if isinstance(value := frame.f_locals[name], str)]
            self.count += sum(handed)
            if frame.f_code.co_name == "speakable":
                self.longest = max(self.longest, *handed)
        self.count += 1
        return self._entered


_NASTY = [
    *(", ", ". ", "- ", "… ", "... ", "A. B. C. ", "Mr. ", "1. ", "x. ", '." ', ",,", "..", "--", " ", "\n", "\t\n"),
    *("<", "<a", "[", "[a](", "![", "(", "*", "**a", "_", "~~", "`", "```", "``` ```", "|", "\\", "http://", "www."),
    *("\ud800", "\u0301", "a\u0301\u0302", "\u202e", "\u0645\u0631\u062d\u0628\u0627 ", "\u3002", "\x00"),
    *("\U0001f44d\u200d", "word ", "word"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "work",
    [lambda text: list(pieces(text)), lambda text: streamed(text, "en", "(?s).{1,3}"), finished, is_finished],
    ids=["whole", "streamed", "finished", "is_finished"],
)
@pytest.mark.parametrize("unit", _NASTY)
def test_the_work_is_in_proportion_to_the_text(unit: str, work: Callable[[str], object]) -> None:
    steps = _Steps()
    small, large = ((unit * length)[:length] for length in (400, 1_600))
    assert steps.of(lambda: work(large)) <= 5 * steps.of(lambda: work(small)) + 500


@settings(max_examples=25)
@given(st.lists(st.sampled_from([*_NASTY, "Hello there", " ", "a"]), max_size=6), st.integers(1, 40), st.booleans())
def test_the_work_of_any_mixture_is_bounded(units: list[str], times: int, whole: bool) -> None:
    text = ("".join(units) * times)[:1_000]
    steps = _Steps()
    work = steps.of(lambda: list(pieces(text)) if whole else streamed(text, "en", "(?s).{1,3}"))
    assert steps.longest <= 242
    assert not whole or work <= 100 * len(text) + 2_000


def test_a_long_sentence_is_cut_alike_whole_and_streamed() -> None:
    text = f"{'This is a clause of a sentence that goes on and on, ' * 8}and is over. So is this."
    assert list(pieces(text)) == streamed(text)
    assert all(piece.endswith((",", ".")) for piece in pieces(text))


def test_code_that_is_streamed_is_not_kept() -> None:
    splitter = ClauseSplitter()
    text = f"Look: ```{'x = 1; ' * 2_000}``` That was code."
    deltas = (text[at : at + 2] for at in range(0, len(text), 2))
    spoken = [piece for delta in islice(deltas, 5_000) for piece in splitter.feed(delta)]
    assert spoken == ["Look:"]
    assert len(splitter._text) < 10
    spoken += [piece for delta in deltas for piece in splitter.feed(delta)]
    assert [*spoken, *splitter.flush()] == ["Look:", "That was code."]


def test_a_first_piece_leaves_before_its_sentence_is_complete_unless_it_may_go_on() -> None:
    splitter = ClauseSplitter()
    spoken = [list(splitter.feed(delta)) for delta in ("The weather today", ",", " as I said, is fine")]
    assert [*spoken, list(splitter.flush())] == [[], ["The weather today,"], [], ["as I said, is fine"]]
    for begun in ("It is exactly 3.", "That is what Mrs.", "They live in the U.", "It cost 1,", "Oh,"):
        assert list(ClauseSplitter().feed(begun)) == []


@pytest.mark.parametrize(
    ("text", "expected", "whole"),
    [
        ("Hello there. I am", "Hello there.", False),
        ("Hello there. I am Dr. Sm", "Hello there.", False),
        ("1. Milk\n2. Eggs", "1. Milk", False),
        ("The light is on.", "The light is on.", True),
        ("Hello", "Hello", False),
        ("Paris.", "Paris.", True),
        (' He said "no." Then', 'He said "no."', False),
        ("你好。我", "你好。", False),
        ("", "", False),
    ],
)
def test_where_the_last_complete_sentence_ends(text: str, expected: str, whole: bool) -> None:
    assert finished(text) == expected
    assert is_finished(text) is whole
