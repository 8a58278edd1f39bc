"""Timers, their events, and the state of all of them, driven by `tick` and an injected clock: no tasks, no files."""

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

LONGEST_SECONDS = 24 * 3600
MOST = 50
"""Most timers in the whole house."""

RING_SECONDS = 120.0
"""How long a timer rings unless it is stopped."""

LATE_SECONDS = 3600.0
"""How late a timer that ended while the daemon was off still rings; after that it is only reported."""

SILENCED_LATELY_SECONDS = 10.0
"""How long after it was silenced a timer is still spoken of."""

MISSED_SECONDS = 24 * 3600.0
"""How long a missed timer is kept to be reported."""


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


class Limit(StrEnum):
    """Why a timer is refused."""

    TOO_LONG = "too_long"
    TOO_MANY = "too_many"


class TimerRefused(Exception):
    """A timer would exceed a limit."""

    def __init__(self, limit: Limit) -> None:
        super().__init__(limit.value)
        self.limit = limit


@dataclass(slots=True)
class _Ring:
    until: float
    heard: bool = False


class Timers:
    """All timers, in the order in which they were set."""

    def __init__(self, clock: Callable[[], float], on_event: Callable[[TimerEvent], None]) -> None:
        """`clock` returns seconds; `on_event` is called with every event."""
        self._clock = clock
        self._on_event = on_event
        self._timers: dict[str, Timer] = {}
        self._rings: dict[str, _Ring] = {}
        self._silenced_lately: list[tuple[float, Timer]] = []
        """What was silenced lately, and when."""

    def all(self) -> list[Timer]:
        """Return all timers."""
        return list(self._timers.values())

    def pending(self) -> list[Timer]:
        """Return those that have not ended."""
        return [timer for timer in self._timers.values() if timer.pending]

    def ringing(self, place: str | None = None) -> list[Timer]:
        """Return those that ring in a place; None is the whole house."""
        return [t for t in self._timers.values() if t.state is TimerState.RINGING and place in (None, t.place)]

    def missed(self, place: str | None) -> list[Timer]:
        """Return those that ended unheard in a place; None is the whole house."""
        return [t for t in self._timers.values() if t.state is TimerState.MISSED and place in (None, t.place)]

    def late(self, timer: Timer) -> bool:
        """Return whether it ended so long ago that this should be said."""
        return timer.ends_at < self._clock() - RING_SECONDS

    def left(self, timer: Timer) -> float:
        """Return the time left, in seconds."""
        if timer.state is TimerState.PAUSED:
            return timer.left_seconds
        return max(0.0, timer.ends_at - self._clock()) if timer.state is TimerState.RUNNING else 0.0

    def next_at(self) -> float | None:
        """Return the time, by the clock, at which `tick` is due; None for never."""
        moments = (self._due_at(timer) for timer in self._timers.values())
        return min((moment for moment in moments if moment is not None), default=None)

    def start(
        self,
        start: Duration,
        *,
        place: str,
        name: str | None = None,
        room: str | None = None,
        language: str | None = None,
    ) -> Timer:
        """Set a timer; raises `TimerRefused` for one that is too long or one too many."""
        seconds = start.total_seconds
        if not 0 < seconds <= LONGEST_SECONDS:
            raise TimerRefused(Limit.TOO_LONG)
        if len(self._timers) >= MOST:
            raise TimerRefused(Limit.TOO_MANY)
        ends_at = self._clock() + seconds
        timer = Timer(uuid.uuid4().hex, place, start, ends_at, seconds, name, room, language)
        return self._put(timer, TimerEventKind.STARTED)

    def cancel(self, timer: Timer) -> None:
        """Remove a timer; it does not ring."""
        self._drop(timer, TimerEventKind.CANCELLED)

    def add(self, timer: Timer, seconds: int) -> Timer:
        """Extend a timer, or shorten it by negative `seconds`; raises `TimerRefused` beyond the longest duration."""
        # Shortened beyond its end a timer rings at once.
        left = max(0.0, self.left(timer) + seconds)
        if left > LONGEST_SECONDS:
            raise TimerRefused(Limit.TOO_LONG)
        changed = replace(timer, total_seconds=max(timer.total_seconds, round(left)))
        if timer.state is TimerState.PAUSED:
            changed = replace(changed, left_seconds=left)
        else:
            changed = replace(changed, ends_at=self._clock() + left)
        return self._put(changed, TimerEventKind.UPDATED)

    def pause(self, timer: Timer) -> Timer:
        """Pause a timer."""
        return self._put(replace(timer, state=TimerState.PAUSED, left_seconds=self.left(timer)), TimerEventKind.UPDATED)

    def resume(self, timer: Timer) -> Timer:
        """Resume a paused timer."""
        ends_at = self._clock() + timer.left_seconds
        return self._put(
            replace(timer, state=TimerState.RUNNING, ends_at=ends_at, left_seconds=0.0), TimerEventKind.UPDATED
        )

    def silence(self, place: str | None = None) -> list[Timer]:
        """Stop what rings in a place, in the whole house with None; return it."""
        rang = self.ringing(place)
        for timer in rang:
            self._drop(timer, TimerEventKind.SILENCED)
        now = self._clock()
        lately = [one for one in self._silenced_lately if now - one[0] <= SILENCED_LATELY_SECONDS]
        self._silenced_lately = [*lately, *((now, timer) for timer in rang)]
        return rang

    def silenced_lately(self, place: str | None) -> list[Timer]:
        """Return those that rang in a place and were silenced in the last ten seconds; None is the whole house."""
        now = self._clock()
        return [
            timer
            for at, timer in self._silenced_lately
            if now - at <= SILENCED_LATELY_SECONDS and place in (None, timer.place)
        ]

    def forget_silenced_lately(self) -> None:
        """Forget what was silenced: somebody has been told that it is over."""
        self._silenced_lately.clear()

    def heard(self, timers: Iterable[Timer]) -> None:
        """Record that these could be heard ringing, or were reported as missed."""
        for known in [self._timers[timer.id] for timer in timers if timer.id in self._timers]:
            if known.state is TimerState.RINGING:
                self._rings[known.id].heard = True
            elif known.state is TimerState.MISSED:
                self._drop(known, TimerEventKind.SILENCED)

    def tick(self) -> bool:
        """Ring what has ended, end what has rung or waited for long enough; return whether there was any."""
        now = self._clock()
        due = [(at, timer) for timer in self._timers.values() if (at := self._due_at(timer)) is not None and at <= now]
        # Events come in the order of the ends, also after the machine was suspended past several of them.
        for _, timer in sorted(due, key=lambda one: one[0]):
            if now - timer.ends_at >= MISSED_SECONDS:
                self._drop(timer, TimerEventKind.SILENCED)
            elif timer.state is TimerState.RINGING:
                self._end_ring(timer)
            elif now - timer.ends_at >= LATE_SECONDS:
                self._put(replace(timer, state=TimerState.MISSED), TimerEventKind.MISSED)
            else:
                self._ring(timer)
        return bool(due)

    def outstanding(self, place: str | None) -> list[TimerEvent]:
        """Return events for a new listener in a place: what rings, and what was missed there."""
        rings = [TimerEvent(TimerEventKind.FINISHED, timer, 0) for timer in self.ringing(place)]
        return rings + [TimerEvent(TimerEventKind.MISSED, timer, 0) for timer in self.missed(place)]

    def restore(self, timers: Iterable[Timer]) -> None:
        """Restore timers after a restart; those that have ended since ring at the next `tick`, or are missed."""
        for timer in timers:
            # One that rang has no ring any more: as a running one that has ended it rings again at the next tick.
            rang = timer.state is TimerState.RINGING
            self._timers[timer.id] = replace(timer, state=TimerState.RUNNING) if rang else timer

    def shift(self, ids: Iterable[str], seconds: float) -> None:
        """Move the ends of timers by `seconds`, because the clock by which they were restored was wrong."""
        for timer_id in ids:
            if timer := self._timers.get(timer_id):
                self._timers[timer_id] = replace(timer, ends_at=timer.ends_at + seconds)

    def _due_at(self, timer: Timer) -> float | None:
        """Return the time of the next change that happens by itself; None for never."""
        match timer.state:
            case TimerState.RUNNING:
                return timer.ends_at
            case TimerState.RINGING:
                return self._rings[timer.id].until
            case TimerState.MISSED:
                return timer.ends_at + MISSED_SECONDS
            case TimerState.PAUSED:
                return None

    def _put(self, timer: Timer, kind: TimerEventKind) -> Timer:
        self._timers[timer.id] = timer
        self._on_event(TimerEvent(kind, timer, round(self.left(timer))))
        return timer

    def _drop(self, timer: Timer, kind: TimerEventKind) -> None:
        del self._timers[timer.id]
        self._rings.pop(timer.id, None)
        self._on_event(TimerEvent(kind, timer, 0))

    def _ring(self, timer: Timer) -> None:
        self._rings[timer.id] = _Ring(self._clock() + RING_SECONDS)
        self._put(replace(timer, state=TimerState.RINGING), TimerEventKind.FINISHED)

    def _end_ring(self, timer: Timer) -> None:
        if self._rings[timer.id].heard:
            self._drop(timer, TimerEventKind.SILENCED)
        else:
            del self._rings[timer.id]
            self._put(replace(timer, state=TimerState.MISSED), TimerEventKind.MISSED)
