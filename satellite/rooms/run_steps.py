"""What the steps of a run mean in a room: what it shows and sounds, how a run ended, and whether it listens again."""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Literal

from satellite.events import RunEvent, RunFailed, SttEnd, SttResumed, SttStart, TtsStart, WakeWordStart
from satellite.rooms.chimes import Cue
from satellite.rooms.device import Activity

_QUESTION_MARKS = ("?", "？", "؟")
_AFTER_A_SENTENCE = " \"'”’)»"

NOBODY_SPOKE = ("stt-no-speech", "stt-no-text-recognized")
"""Codes of runs in which nobody said anything: no fault of a stage."""

ACTIVITIES: Mapping[type[RunEvent], Activity] = {
    WakeWordStart: Activity.WAITING,
    SttStart: Activity.LISTENING,
    SttResumed: Activity.LISTENING,
    SttEnd: Activity.THINKING,
    TtsStart: Activity.SPEAKING,
}

CUES: Mapping[type[RunEvent], Cue] = {
    SttStart: Cue.LISTENING,
    SttEnd: Cue.DONE,
    RunFailed: Cue.NOT_UNDERSTOOD,
}


class RunOutcome(Enum):
    """How a run ended."""

    DONE = auto()
    FAILED = auto()
    INTERRUPTED = auto()
    """By the wake word or by speech: the next command follows."""

    STOPPED = auto()
    """By "stop" or the like."""

    LOST = auto()
    """Another room hears better."""


def wants_more(answer: str, follow_up: Literal["questions", "always", "never"]) -> bool:
    """Return whether the room listens again after an answer, without the wake word."""
    asks = answer.rstrip(_AFTER_A_SENTENCE).endswith(_QUESTION_MARKS)
    return bool(answer) and (follow_up == "always" or (follow_up == "questions" and asks))
