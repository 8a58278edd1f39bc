"""Whether a voice command is complete, judged by its words: `endings.yaml` lists those of each language."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from satellite.languages import in_language, read_yaml

_LONGEST_CHARACTERS = 400
"""How much of a text is examined, from its end: some of the patterns take more than linear time."""

_BROKEN_OFF = re.compile(r"(?:\.\.+|…|[-–—,:;])\W*$")
_NO_WORD = re.compile(r"[^\w'%.:-]+|(?<!\d)[.:]|[.:](?!\d)|(?<!\w)-|-(?!\w)")


class Completeness(StrEnum):
    """How complete a command is, by its words."""

    UNKNOWN = "unknown"
    """The words are not known, or nothing is known of their language."""

    INCOMPLETE = "incomplete"
    """More words must follow."""

    SENTENCE = "sentence"
    """It may be complete, or go on, as "turn on the lights" does with "in the kitchen"."""

    COMPLETE = "complete"
    """Nothing can follow: a known command, or words with which sentences end."""


def completeness(text: str, language: str | None, *, is_command: bool = False) -> Completeness:
    """Return how complete `text` is; `is_command` if it is a known command to which nothing can be added."""
    text = text[-_LONGEST_CHARACTERS:]
    endings = in_language(_ENDINGS, language)
    if _BROKEN_OFF.search(text):
        return Completeness.INCOMPLETE
    # The last word keeps its hyphens: "la" ends no sentence, "allume-la" does.
    hyphenated = _NO_WORD.sub(" ", text.lower().replace("’", "'"))
    words = hyphenated.replace("-", " ").split()
    if not words:
        return Completeness.UNKNOWN
    said, last = " ".join(words), hyphenated.split()[-1]
    if endings is not None and endings.whole.fullmatch(said):
        return Completeness.COMPLETE
    if is_command:  # a single word may be the verb of more: "stop" and "cancel" go on with "my timer"
        return Completeness.COMPLETE if len(words) > 1 else Completeness.SENTENCE
    if endings is None:
        return Completeness.UNKNOWN
    # An article that has lost its vowel has lost the noun as well: "allume l'".
    if len(words) == 1 or last.rstrip("'") in endings.open_words or endings.unfinished.search(said):
        return Completeness.INCOMPLETE
    if endings.closed.search(said) or _PROPER_NAME.search(text):
        return Completeness.COMPLETE
    return Completeness.SENTENCE


_PROPER_NAME = re.compile(r"\b(?:of|in|from|to|by|about|de|du|von|di) [A-Z][\w'-]*\?$")
"""The end of a question about a person or place: speech to text writes names with a capital."""


@dataclass(frozen=True, slots=True)
class _Endings:
    """Those of one language, see `endings.yaml`."""

    open_words: frozenset[str]
    closed: re.Pattern[str]
    unfinished: re.Pattern[str]
    whole: re.Pattern[str]


def _endings(words: Mapping[str, Any]) -> _Endings:
    parts: Mapping[str, str] = words.get("parts", {})

    def any_of(patterns: Sequence[str]) -> re.Pattern[str]:
        text = "|".join(f"(?:{pattern})" for pattern in patterns) or "(?!)"
        return re.compile(re.sub(r"<(\w+)>", lambda match: parts[match[1]], text))

    patterns = (any_of(words.get(kind, ())) for kind in ("closed", "unfinished", "whole"))
    return _Endings(frozenset(words["open_words"].split()), *patterns)


_ENDINGS = {language: _endings(words) for language, words in read_yaml("satellite.pipeline", "endings.yaml").items()}
