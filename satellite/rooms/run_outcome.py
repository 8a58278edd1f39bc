"""How a run in a room came to its end, and what comes next."""

from enum import Enum, auto
from typing import Literal

_FIRST_REST_SECONDS = 0.5
_LONGEST_REST_SECONDS = 30.0

_ASKS = ("?", "？", "؟")
_BEHIND_A_SENTENCE = " \"'”’)»"

NOBODY_SPOKE = ("stt-no-speech", "stt-no-text-recognized")
"""Codes of runs in which nobody said anything: no fault of a stage."""

NOBODY_CALLED = "wake-not-detected"


class End(Enum):
    """How a run came to its end."""

    DONE = auto()
    FAILED = auto()
    CALLED = auto()
    """The wake word was said in its middle."""

    STOPPED = auto()
    """Somebody said that it shall stop."""

    LOST = auto()
    """Another room hears better."""


def wants_more(answer: str, follow_up: Literal["questions", "always", "never"]) -> bool:
    """Tell whether the room shall listen again behind an answer, without the wake word."""
    asks = answer.rstrip(_BEHIND_A_SENTENCE).endswith(_ASKS)
    return bool(answer) and (follow_up == "always" or (follow_up == "questions" and asks))


def rest_seconds(end: End, code: str, before: float) -> float:
    """Return how long to wait until the next run, after one that failed with `code` and a rest of `before` seconds.

    Runs that fail one after the other grow rarer: a broken stage must not spin.
    """
    if end is not End.FAILED or code in NOBODY_SPOKE:
        return 0.0
    return min(max(_FIRST_REST_SECONDS, 2 * before), _LONGEST_REST_SECONDS)
