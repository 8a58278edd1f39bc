"""Which timer is meant: by its name, room, length or number, here before elsewhere in the house."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from satellite.skills.timers.timer import Timer


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was said of a timer to tell it from others; nothing said fits any."""

    name: str | None = None
    ordinal: int | None = None
    """What the name counts to, if it counts, such as 2 for "second"; negative from the end."""

    room: str | None = None
    place: str | None = None
    """The place of that room."""

    seconds: int | None = None
    """What it was set to."""

    @property
    def anything(self) -> bool:
        """Return whether nothing was said."""
        return self == Wanted()


class Miss(StrEnum):
    """Why no timer was found."""

    NOT_FOUND = "timer_not_found"
    SEVERAL = "multiple_timers_matched"


def find_one(timers: Iterable[Timer], wanted: Wanted, place: str) -> Timer | Miss:
    """Return the one timer that is meant: the only one that fits, else the only one that fits in this place."""
    found = _fitting(list(timers), wanted, place)
    if not found:
        return Miss.NOT_FOUND
    if len(found) > 1:
        found = [timer for timer in found if timer.place == place]
    return found[0] if len(found) == 1 else Miss.SEVERAL


def find_here(timers: Iterable[Timer], wanted: Wanted, place: str) -> list[Timer]:
    """Return the timers that fit in this place, else those in the house."""
    found = _fitting(list(timers), wanted, place)
    return [timer for timer in found if timer.place == place] or found


def find_all(timers: Iterable[Timer], wanted: Wanted) -> list[Timer]:
    """Return the timers in the whole house that fit."""
    return _fitting(list(timers), wanted, None)


def _fitting(timers: list[Timer], wanted: Wanted, place: str | None) -> list[Timer]:
    if wanted.seconds is not None:
        by_start = [timer for timer in timers if timer.start.total_seconds == wanted.seconds]
        timers = by_start or [timer for timer in timers if timer.total_seconds == wanted.seconds]
    if wanted.room is not None:
        # "The kitchen timer" is the one in the kitchen, or the one that was called so.
        here = [timer for timer in timers if timer.place == wanted.place]
        timers = here or _of_room(timers, wanted.room) or _named(timers, wanted.room)
    if wanted.name is not None:
        timers = _named(timers, wanted.name) or _of_room(timers, wanted.name) or _counted(timers, wanted.ordinal, place)
    return timers


def _named(timers: list[Timer], name: str) -> list[Timer]:
    return [timer for timer in timers if timer.name and timer.name.casefold() == name.casefold()]


def _of_room(timers: list[Timer], room: str) -> list[Timer]:
    return [timer for timer in timers if timer.room and timer.room.casefold() == room.casefold()]


def _counted(timers: list[Timer], ordinal: int | None, place: str | None) -> list[Timer]:
    """Return the timer with this number, in the order in which they were set, here if there are any here."""
    if ordinal is None:
        return []
    timers = [timer for timer in timers if timer.place == place] or timers
    index = ordinal - 1 if ordinal > 0 else len(timers) + ordinal
    return timers[index : index + 1] if index >= 0 else []
