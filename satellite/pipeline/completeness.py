"""Whether a voice command is complete, as far as its words tell."""

import re
from enum import StrEnum

from satellite.languages import in_language
from satellite.pipeline.sentence_endings import ENDINGS, PROPER_NAME

_LONGEST_CHARACTERS = 400
"""How much of a text is looked at, from its end: some patterns take more than linear time."""

_BROKEN_OFF = re.compile(r"(?:\.\.+|…|[-–—,:;])\W*$")
_NO_WORD = re.compile(r"[^\w'%.:]+|(?<!\d)[.:]|[.:](?!\d)")


class Completeness(StrEnum):
    """What the words of a command say of its end."""

    UNKNOWN = "unknown"
    """The words are not known, or nothing is known of their language."""

    INCOMPLETE = "incomplete"
    """More has to come."""

    SENTENCE = "sentence"
    """It may be all; it may also go on, as "turn on the lights" does with "in the kitchen"."""

    COMPLETE = "complete"
    """Nothing is left open: a known command, or words that tell the last that there is to tell."""


def completeness(text: str, language: str | None, *, is_command: bool = False) -> Completeness:
    """Return how complete `text` is; `is_command` if all of it is a known command which does not go on."""
    text = text[-_LONGEST_CHARACTERS:]
    endings = in_language(ENDINGS, language)
    if _BROKEN_OFF.search(text):
        return Completeness.INCOMPLETE
    words = _NO_WORD.sub(" ", text.lower().replace("’", "'")).split()
    if not words:
        return Completeness.UNKNOWN
    said = " ".join(words)
    if endings is not None and endings.whole.fullmatch(said):
        return Completeness.COMPLETE
    if is_command:  # of one word it may be the verb of more: "stop" and "cancel" go on with "my timer"
        return Completeness.COMPLETE if len(words) > 1 else Completeness.SENTENCE
    if endings is None:
        return Completeness.UNKNOWN
    if len(words) == 1 or words[-1] in endings.open_words or endings.unfinished.search(said):
        return Completeness.INCOMPLETE
    if endings.closed.search(said) or PROPER_NAME.search(text):
        return Completeness.COMPLETE
    return Completeness.SENTENCE
