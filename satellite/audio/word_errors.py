"""Word errors between a text that was said and a transcript of it."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_PUNCTUATION = re.compile(r"[^\w\s]")


@dataclass(frozen=True, slots=True)
class WordErrors:
    """Word edits that turn what was understood into what was said, over a whole corpus."""

    errors: int = 0
    words: int = 0
    """Words that were said."""

    def __add__(self, other: "WordErrors") -> "WordErrors":
        return WordErrors(self.errors + other.errors, self.words + other.words)

    @property
    def percent(self) -> float:
        """Errors in a hundred words; without a word said, 0 for silence understood as silence, else 100."""
        if not self.words:
            return 100.0 if self.errors else 0.0
        return 100 * self.errors / self.words


def normalise(text: str) -> list[str]:
    """Return the words of `text` in lower case, punctuation made spaces, as wyoming-bench does.

    Numerals are left as they are: "50" and "fifty" are different words.
    """
    return _PUNCTUATION.sub(" ", text.lower()).split()


def word_errors(said: str, understood: str) -> WordErrors:
    """Return the errors in one text."""
    words = normalise(said)
    return WordErrors(edit_distance(words, normalise(understood)), len(words))


def total(errors: Iterable[WordErrors]) -> WordErrors:
    """Return the sum: every word of the corpus counts the same, not every recording."""
    return sum(errors, WordErrors())


def edit_distance(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the fewest substitutions, insertions and deletions from `one` to `other`."""
    previous = list(range(len(other) + 1))
    for row, word in enumerate(one, 1):
        current = [row]
        for column, opposite in enumerate(other, 1):
            substituted = previous[column - 1] + (word != opposite)
            current.append(min(substituted, previous[column] + 1, current[-1] + 1))
        previous = current
    return previous[-1]
