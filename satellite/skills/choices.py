"""Which of several answers was given: the closest match of their words."""

import difflib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

_ALIKE = 0.75
"""Least similarity of the letters, as of "yess" and "yes": one misheard letter in four."""

_LONGEST_WORDS = 60
"""Words of an answer that are compared: comparing letters takes quadratic time."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer that a question may get."""

    id: str
    """What it is called in the result."""

    sentences: tuple[str, ...]
    """What may be said for it."""


def closest(text: str, choices: Sequence[Choice]) -> str | None:
    """Return the ID of the choice that `text` means, None if it is none, or more than one.

    Case, marks and accents do not count. A choice is meant by one of its sentences: the whole text; else the longest
    that is part of the text, unless a sentence of another choice is as long; else the one that sounds most like it.
    """
    said = _words(text)[:_LONGEST_WORDS]
    known = [(choice.id, words) for choice in choices for one in choice.sentences if (words := _words(one))]
    for chosen, words in known:
        if words == said:
            return chosen
    if contained := [(len(words), chosen) for chosen, words in known if _contains(said, words)]:
        longest = max(length for length, _ in contained)
        chosen_ids = {chosen for length, chosen in contained if length == longest}
        return chosen_ids.pop() if len(chosen_ids) == 1 else None
    letters = " ".join(said)
    alike = [(difflib.SequenceMatcher(None, letters, " ".join(words)).ratio(), chosen) for chosen, words in known]
    ratio, best = max(alike, default=(0.0, None))
    return best if ratio >= _ALIKE else None


def _words(text: str) -> list[str]:
    letters = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(one if one.isalnum() else " " for one in letters if not unicodedata.combining(one))
    return plain.split()


def _contains(said: list[str], words: list[str]) -> bool:
    return any(said[at : at + len(words)] == words for at in range(len(said) - len(words) + 1))
