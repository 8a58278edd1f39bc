"""One timer, and what happens to it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self


@dataclass(frozen=True, slots=True)
class Duration:
    """How long, in the units that somebody said; None is a unit that was not said."""

    hours: int | None = None
    minutes: int | None = None
    seconds: int | None = None

    @classmethod
    def of(cls, hours: float | None, minutes: float | None, seconds: float | None) -> Self:
        """Return whole units; the half of one goes into the next."""
        whole_hours, minutes = _carried(hours, minutes)
        whole_minutes, seconds = _carried(minutes, seconds)
        return cls(whole_hours, whole_minutes, None if seconds is None else round(seconds))

    @property
    def total_seconds(self) -> int:
        """Return all of it, in seconds."""
        return (self.hours or 0) * 3600 + (self.minutes or 0) * 60 + (self.seconds or 0)


def _carried(large: float | None, small: float | None) -> tuple[int | None, float | None]:
    """Return the whole of `large` units, and the `small` ones with what was left of it."""
    if large is None:
        return None, small
    whole = int(large)
    if large != whole:
        small = (small or 0) + (large - whole) * 60
    return whole or None, small


class TimerState(StrEnum):
    """What a timer does."""

    RUNNING = "running"
    PAUSED = "paused"
    RINGING = "ringing"

    MISSED = "missed"
    """It ended while nobody could hear it, and nobody has been told yet."""


@dataclass(frozen=True, slots=True)
class Timer:
    """A timer at one moment; what happens to it makes another of the same id."""

    id: str
    place: str
    """Where it was set, and rings; `Question.place`."""

    start: Duration
    """What it was set to."""

    ends_at: float
    """When it ends or ended, by the clock of the `Timers` it belongs to; without meaning while paused."""

    total_seconds: int
    """The longest that it has had to run; what it was set to, unless it was extended beyond that."""

    name: str | None = None
    room: str | None = None
    """The room as a person calls it, if the place has such a name."""

    language: str | None = None
    """In which it was set."""

    state: TimerState = TimerState.RUNNING
    left_seconds: float = 0.0
    """What is left while paused."""

    @property
    def pending(self) -> bool:
        """Return whether it has yet to end."""
        return self.state in (TimerState.RUNNING, TimerState.PAUSED)


class TimerEventKind(StrEnum):
    """What happens to timers."""

    STARTED = "started"

    UPDATED = "updated"
    """Paused, resumed, extended or shortened."""

    CANCELLED = "cancelled"

    FINISHED = "finished"
    """It begins to ring."""

    SILENCED = "silenced"
    """It rings no longer."""

    MISSED = "missed"
    """It ended unheard, a while ago: to be told, not rung."""


@dataclass(frozen=True, slots=True)
class TimerEvent:
    """Something that happened to a timer, which is shown as it was then."""

    kind: TimerEventKind
    timer: Timer
    seconds_left: int
    """What it still had to run; 0 for one that has ended."""
