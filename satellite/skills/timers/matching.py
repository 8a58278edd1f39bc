"""Which timer is meant: by its name, room, length or number, here before elsewhere in the house."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from satellite.skills.timers.timers import Timer


@dataclass(frozen=True, slots=True)
class TimerQuery:
    """What was said to distinguish a timer from others; a query without any of it matches every timer."""

    name: str | None = None
    ordinal: int | None = None
    """The number that the name means, such as 2 for "second"; negative ones count from the end."""

    room: str | None = None
    place: str | None = None
    """The place of that room."""

    seconds: int | None = None
    """The duration that it was set to."""


class NoMatch(StrEnum):
    """Why no timer was found: Home Assistant's codes."""

    NOT_FOUND = "timer_not_found"
    SEVERAL = "multiple_timers_matched"


def find_one(timers: Iterable[Timer], query: TimerQuery, place: str) -> Timer | NoMatch:
    """Return the only timer that matches, else the only one that matches in this place."""
    found = _matching(list(timers), query, place)
    if not found:
        return NoMatch.NOT_FOUND
    if len(found) > 1:
        found = [timer for timer in found if timer.place == place]
    return found[0] if len(found) == 1 else NoMatch.SEVERAL


def find_here(timers: Iterable[Timer], query: TimerQuery, place: str) -> list[Timer]:
    """Return the timers that match in this place, else in the whole house."""
    found = _matching(list(timers), query, place)
    return [timer for timer in found if timer.place == place] or found


def find_all(timers: Iterable[Timer], query: TimerQuery) -> list[Timer]:
    """Return the timers in the whole house that match."""
    return _matching(list(timers), query, None)


def _matching(timers: list[Timer], query: TimerQuery, place: str | None) -> list[Timer]:
    if query.seconds is not None:
        # "The five minute timer" was set to five minutes, or extended to them.
        by_start = [timer for timer in timers if timer.start.total_seconds == query.seconds]
        timers = by_start or [timer for timer in timers if timer.total_seconds == query.seconds]
    if query.room is not None:
        # "The kitchen timer" is one in the kitchen, one that was set for it, or one that is named so.
        here = [timer for timer in timers if timer.place == query.place]
        timers = here or _of_room(timers, query.room) or _named(timers, query.room)
    if query.name is not None:
        timers = _named(timers, query.name) or _of_room(timers, query.name) or _counted(timers, query.ordinal, place)
    return timers


def _named(timers: list[Timer], name: str) -> list[Timer]:
    return [timer for timer in timers if timer.name and timer.name.casefold() == name.casefold()]


def _of_room(timers: list[Timer], room: str) -> list[Timer]:
    return [timer for timer in timers if timer.room and timer.room.casefold() == room.casefold()]


def _counted(timers: list[Timer], ordinal: int | None, place: str | None) -> list[Timer]:
    """Return the timer with this number in the order in which they were set, counted here if there are any here."""
    if ordinal is None:
        return []
    timers = [timer for timer in timers if timer.place == place] or timers
    index = ordinal - 1 if ordinal > 0 else len(timers) + ordinal
    return timers[index : index + 1] if index >= 0 else []
