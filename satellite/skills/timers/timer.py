"""A timer, its state, and the events of its life."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self


@dataclass(frozen=True, slots=True)
class Duration:
    """A duration in the units that were said; None is a unit that was not said."""

    hours: int | None = None
    minutes: int | None = None
    seconds: int | None = None

    @classmethod
    def of(cls, hours: float | None, minutes: float | None, seconds: float | None) -> Self:
        """Return whole units; a fraction goes into the next smaller unit."""
        whole_hours, minutes = _carried(hours, minutes)
        whole_minutes, seconds = _carried(minutes, seconds)
        return cls(whole_hours, whole_minutes, None if seconds is None else round(seconds))

    @property
    def total_seconds(self) -> int:
        """The whole duration, in seconds."""
        return (self.hours or 0) * 3600 + (self.minutes or 0) * 60 + (self.seconds or 0)


def _carried(large: float | None, small: float | None) -> tuple[int | None, float | None]:
    """Return `large` without its fraction, and `small` with that fraction added."""
    if large is None:
        return None, small
    whole = int(large)
    if large != whole:
        small = (small or 0) + (large - whole) * 60
    return whole or None, small


class TimerState(StrEnum):
    """The states of a timer."""

    RUNNING = "running"
    PAUSED = "paused"
    RINGING = "ringing"

    MISSED = "missed"
    """It ended unheard, and nobody has been told yet."""


@dataclass(frozen=True, slots=True)
class Timer:
    """A timer at one moment; a change makes a new object with the same id."""

    id: str
    place: str
    """Where it rings; see `Question.place`."""

    start: Duration
    """What it was set to."""

    ends_at: float
    """When it ends or ended, by the clock of its `Timers`; meaningless while paused."""

    total_seconds: int
    """What it was set to, or more if it was extended beyond that."""

    name: str | None = None
    room: str | None = None
    """The room's name for people, if the place has one."""

    language: str | None = None
    """Language in which it was set."""

    state: TimerState = TimerState.RUNNING
    left_seconds: float = 0.0
    """Time left while it is paused."""

    @property
    def pending(self) -> bool:
        """Whether it has not ended yet."""
        return self.state in (TimerState.RUNNING, TimerState.PAUSED)


class TimerEventKind(StrEnum):
    """Events of a timer."""

    STARTED = "started"

    UPDATED = "updated"
    """Paused, resumed, extended or shortened."""

    CANCELLED = "cancelled"

    FINISHED = "finished"
    """It begins to ring."""

    SILENCED = "silenced"
    """It has stopped ringing."""

    MISSED = "missed"
    """It ended unheard a while ago: it is reported instead of rung."""


@dataclass(frozen=True, slots=True)
class TimerEvent:
    """An event of a timer, which is shown as it was then."""

    kind: TimerEventKind
    timer: Timer
    seconds_left: int
    """Time left then; 0 if it had ended."""
