"""Text into speakable pieces: where it is cut, and what is never read aloud."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satellite.turn.clauses import ClauseSplitter, finished, is_finished, pieces, speakable


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
    """Markup, emoji, addresses and control characters go; words, numbers and punctuation stay."""
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
    """An early first piece, then whole sentences; abbreviations and decimals do not end one."""
    assert list(pieces(text)) == expected


@given(st.text(alphabet="ab ,.!?\n`*[]()#1é", max_size=120), st.lists(st.integers(1, 9)))
def test_letters_are_neither_lost_nor_repeated(text: str, cuts: list[int]) -> None:
    """However the deltas are cut, every letter outside code is spoken once, in order."""
    splitter, spoken, at = ClauseSplitter(), "", 0
    for cut in [*cuts, len(text)]:
        spoken += "".join(splitter.feed(text[at : at + cut]))
        at += cut
    spoken += "".join(splitter.flush())
    letters = [character for character in spoken if character.isalnum()]
    if "`" not in text and "[" not in text and "(" not in text:
        assert letters == [character for character in unicodedata.normalize("NFC", text) if character.isalnum()]


@given(st.text(max_size=300))
def test_any_text_is_cut_without_a_failure(text: str) -> None:
    """Whatever is written, pieces are short and hold something that can be said."""
    for piece in pieces(text):
        assert any(character.isalnum() for character in piece)


@pytest.mark.parametrize(
    ("language", "text", "first"),
    [
        (
            "en_US",
            "The river is a long way from the town that you have asked for.",
            "The river is a long way from the town,",
        ),
        ("en", "It is warm and dry today, so take a hat with you.", "It is warm and dry today,"),
        ("en-GB", "A cat sat on the mat. It was fat and old.", "A cat sat on the mat."),
        (
            "en",
            "A sentence in which there is no word like those at all",
            "A sentence in which there is no word like those at all",
        ),
        (
            "fr_FR",
            "La bibliothèque de la ville est ouverte et vous attend.",
            "La bibliothèque de la ville est ouverte,",
        ),
        ("de", "Die Bibliothek der Stadt ist heute offen und wartet.", "Die Bibliothek der Stadt ist heute offen,"),
        (
            "xx",
            "The river is a long way from the town that you know.",
            "The river is a long way from the town that you know.",
        ),
        (
            None,
            "The river is a long way from the town that you know.",
            "The river is a long way from the town that you know.",
        ),
    ],
)
def test_a_long_first_piece_ends_where_people_breathe(language: str | None, text: str, first: str) -> None:
    """Where it comes word by word and has no punctuation; the voice stays up there."""
    splitter = ClauseSplitter(language)
    words = [piece for word in text.split(" ") for piece in splitter.feed(f"{word} ")]
    spoken = [*words, *splitter.flush()]
    assert spoken[0] == first
    assert " ".join(spoken).replace(",", "") == text.replace(",", "")


def test_a_text_that_is_all_there_is_cut_at_punctuation_only() -> None:
    """Nobody waits for the rest of it."""
    text = "The river is a long way from the town that you have asked for."
    splitter = ClauseSplitter("en")
    assert [*splitter.feed(text), *splitter.flush()] == [text]


def test_a_sentence_without_end_is_cut() -> None:
    """A thousand words without punctuation come in pieces that are quick to synthesise."""
    found = list(pieces("word " * 1000))
    assert max(map(len, found)) <= 240
    assert " ".join(found).split() == ["word"] * 1000


def test_a_first_piece_leaves_before_its_sentence_is_complete() -> None:
    """The first clause is handed out with its comma, before anybody knows what follows."""
    splitter = ClauseSplitter()
    assert list(splitter.feed("The weather today")) == []
    assert list(splitter.feed(",")) == ["The weather today,"]
    assert list(splitter.feed(" as I said, is fine")) == []
    assert list(splitter.flush()) == ["as I said, is fine"]


@pytest.mark.parametrize("begun", ["It is exactly 3.", "That is what Mrs.", "They live in the U.", "It cost 1,", "Oh,"])
def test_what_may_go_on_is_waited_for(begun: str) -> None:
    """A number, an abbreviation, too short a clause: none ends before what follows is known."""
    splitter = ClauseSplitter()
    assert list(splitter.feed(begun)) == []


@pytest.mark.parametrize(
    ("text", "expected", "whole"),
    [
        ("Hello there. I am", "Hello there.", False),
        ("Hello there. I am Dr. Sm", "Hello there.", False),
        ("Hello", "Hello", False),
        ("Paris.", "Paris.", True),
        (' He said "no." Then', 'He said "no."', False),
        ("你好。我", "你好。", False),
        ("", "", False),
    ],
)
def test_where_the_last_complete_sentence_ends(text: str, expected: str, whole: bool) -> None:
    """An abbreviation ends none, and without any there is nothing to cut."""
    assert finished(text) == expected
    assert is_finished(text) is whole
