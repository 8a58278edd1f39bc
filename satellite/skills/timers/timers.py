"""The timers of the house as arithmetic over an injected clock: no task, no file. Whoever owns them calls `tick`."""

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from satellite.skills.timers.timer import Duration, Timer, TimerEvent, TimerEventKind, TimerState

LONGEST_SECONDS = 24 * 3600
MOST = 50
"""Timers at once, in the whole house."""

RING_SECONDS = 120.0
"""How long a timer rings when nobody stops it."""

LATE_SECONDS = 3600.0
"""How late a timer may still ring that ended while nothing ran; later it is only told."""

MISSED_SECONDS = 24 * 3600.0
"""How long after its end a missed one may still be told."""


class Limit(StrEnum):
    """Why a timer is refused."""

    TOO_LONG = "too_long"
    TOO_MANY = "too_many"


class TimerRefused(Exception):
    """A timer that would go beyond a limit."""

    def __init__(self, limit: Limit) -> None:
        super().__init__(limit.value)
        self.limit = limit


@dataclass(slots=True)
class _Ring:
    until: float
    heard: bool = False


class Timers:
    """All timers, in the order in which they were set."""

    def __init__(self, clock: Callable[[], float], tell: Callable[[TimerEvent], None]) -> None:
        """Measure by `clock`, in seconds, and `tell` what happens."""
        self._clock = clock
        self._tell = tell
        self._timers: dict[str, Timer] = {}
        self._rings: dict[str, _Ring] = {}

    def all(self) -> list[Timer]:
        """Return every timer there is, whatever it does."""
        return list(self._timers.values())

    def pending(self) -> list[Timer]:
        """Return those that have yet to end."""
        return [timer for timer in self._timers.values() if timer.pending]

    def ringing(self, place: str | None = None) -> list[Timer]:
        """Return those that ring in a place, in the whole house with None."""
        return [t for t in self._timers.values() if t.state is TimerState.RINGING and place in (None, t.place)]

    def missed(self, place: str | None) -> list[Timer]:
        """Return those that ended unheard in a place, in the whole house with None."""
        return [t for t in self._timers.values() if t.state is TimerState.MISSED and place in (None, t.place)]

    def late(self, timer: Timer) -> bool:
        """Return whether it ended so long ago that somebody should be told so."""
        return timer.ends_at < self._clock() - RING_SECONDS

    def left(self, timer: Timer) -> float:
        """Return how long a timer has yet to run, seconds."""
        if timer.state is TimerState.PAUSED:
            return timer.left_seconds
        return max(0.0, timer.ends_at - self._clock()) if timer.state is TimerState.RUNNING else 0.0

    def next_at(self) -> float | None:
        """Return when `tick` will have something to do, by the clock; None for never."""
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
        """Set a timer; raises TimerRefused for one too long or too many."""
        seconds = start.total_seconds
        if not 0 < seconds <= LONGEST_SECONDS:
            raise TimerRefused(Limit.TOO_LONG)
        if len(self._timers) >= MOST:
            raise TimerRefused(Limit.TOO_MANY)
        ends_at = self._clock() + seconds
        timer = Timer(uuid.uuid4().hex, place, start, ends_at, seconds, name, room, language)
        return self._put(timer, TimerEventKind.STARTED)

    def cancel(self, timer: Timer) -> None:
        """End a timer without a sound."""
        self._drop(timer, TimerEventKind.CANCELLED)

    def add(self, timer: Timer, seconds: int) -> Timer:
        """Make a timer longer, or shorter with fewer than no `seconds`; raises TimerRefused for one too long."""
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
        """Stop a timer's time."""
        return self._put(replace(timer, state=TimerState.PAUSED, left_seconds=self.left(timer)), TimerEventKind.UPDATED)

    def resume(self, timer: Timer) -> Timer:
        """Let a paused timer run on."""
        ends_at = self._clock() + timer.left_seconds
        return self._put(
            replace(timer, state=TimerState.RUNNING, ends_at=ends_at, left_seconds=0.0), TimerEventKind.UPDATED
        )

    def silence(self, place: str | None = None) -> list[Timer]:
        """End the ringing in a place, in the whole house with None; returns what rang."""
        rang = self.ringing(place)
        for timer in rang:
            self._drop(timer, TimerEventKind.SILENCED)
        return rang

    def heard(self, timers: Iterable[Timer]) -> None:
        """Note that somebody could hear these ring, or was told that they were missed."""
        for known in [self._timers[timer.id] for timer in timers if timer.id in self._timers]:
            if known.state is TimerState.RINGING:
                self._rings[known.id].heard = True
            elif known.state is TimerState.MISSED:
                self._drop(known, TimerEventKind.SILENCED)

    def tick(self) -> bool:
        """Let ring what has ended, and end what has rung, or waited to be told, for long enough; whether there was."""
        now = self._clock()
        due = [(at, timer) for timer in self._timers.values() if (at := self._due_at(timer)) is not None and at <= now]
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

    def owed(self, place: str | None) -> list[TimerEvent]:
        """Return what somebody who begins to listen in a place must hear: what rings, and what was missed there."""
        rings = [TimerEvent(TimerEventKind.FINISHED, timer, 0) for timer in self.ringing(place)]
        return rings + [TimerEvent(TimerEventKind.MISSED, timer, 0) for timer in self.missed(place)]

    def restore(self, timers: Iterable[Timer]) -> None:
        """Take timers back after a restart; those that ended meanwhile ring at the next `tick`, or are missed."""
        for timer in timers:
            rang = timer.state is TimerState.RINGING
            self._timers[timer.id] = replace(timer, state=TimerState.RUNNING) if rang else timer

    def shift(self, ids: Iterable[str], seconds: float) -> None:
        """Let some timers end later by `seconds`, or earlier, because the clock that measured them was wrong."""
        for timer_id in ids:
            if timer := self._timers.get(timer_id):
                self._timers[timer_id] = replace(timer, ends_at=timer.ends_at + seconds)

    def _due_at(self, timer: Timer) -> float | None:
        """Return when something happens to a timer by itself."""
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
        self._tell(TimerEvent(kind, timer, round(self.left(timer))))
        return timer

    def _drop(self, timer: Timer, kind: TimerEventKind) -> None:
        del self._timers[timer.id]
        self._rings.pop(timer.id, None)
        self._tell(TimerEvent(kind, timer, 0))

    def _ring(self, timer: Timer) -> None:
        self._rings[timer.id] = _Ring(self._clock() + RING_SECONDS)
        self._put(replace(timer, state=TimerState.RINGING), TimerEventKind.FINISHED)

    def _end_ring(self, timer: Timer) -> None:
        if self._rings[timer.id].heard:
            self._drop(timer, TimerEventKind.SILENCED)
        else:
            del self._rings[timer.id]
            self._put(replace(timer, state=TimerState.MISSED), TimerEventKind.MISSED)
