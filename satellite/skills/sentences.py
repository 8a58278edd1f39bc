"""What is answered: Home Assistant's own sentences, in the language of the question."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import home_assistant_intents
from jinja2 import Template
from jinja2.sandbox import SandboxedEnvironment

from satellite.skills.grammar import Grammar
from satellite.skills.intents import Intent
from satellite.skills.timers.timer import Duration, Timer, TimerState

_ENVIRONMENT = SandboxedEnvironment()
_EXACT_BELOW_SECONDS = 120
_TENS_BELOW_SECONDS = 600
_NOT_TRANSLATED = "TODO"


class Answers:
    """The sentences of one language."""

    def __init__(self, grammar: Grammar) -> None:
        """Answer with what comes with `grammar`; with English where it has nothing."""
        self._grammar = grammar

    def time(self, now: datetime) -> str:
        """Return what the time is."""
        return self._said(Intent.CURRENT_TIME, {"time": now.time()})

    def date(self, now: datetime) -> str:
        """Return what day it is."""
        return self._said(Intent.CURRENT_DATE, {"date": now.date()})

    def started(self, timer: Timer) -> str:
        """Return that a timer was set, and to how long: what was heard may not be what was said."""
        slots = _duration_slots(timer.start) | ({"name": timer.name} if timer.name else {})
        told = self._said(Intent.START_TIMER, slots)
        if self._tells_duration(Intent.START_TIMER):
            return told
        return _joined(told, self.status([(timer, timer.total_seconds)], exactly=True))

    def changed(self, intent: Intent, by: Duration, timer: Timer, left: float) -> str:
        """Return that a timer was made longer, or shorter, and what is left."""
        slots = _duration_slots(by) | ({"name": timer.name} if timer.name else {})
        return _joined(self._said(intent, slots), self.status([(timer, left)]))

    def done(self, intent: Intent) -> str:
        """Return that a timer was cancelled, paused or resumed."""
        return self._said(intent, {})

    def cancelled(self, count: int, room: str | None) -> str:
        """Return how many timers were cancelled."""
        key = "area" if room and "area" in self._responses(Intent.CANCEL_ALL_TIMERS) else "default"
        return self._said(Intent.CANCEL_ALL_TIMERS, {"canceled": count, "area": room}, key)

    def status(self, timers: Sequence[tuple[Timer, float]], *, exactly: bool = False, here: str | None = None) -> str:
        """Return what timers there are, and what is left of the next one; `here` is the place that needs no name."""
        described = [_described(timer, left, exactly=exactly, here=here) for timer, left in timers]
        return self._said(Intent.TIMER_STATUS, {"timers": described})

    def error(self, key: str) -> str:
        """Return what is said of one of Home Assistant's errors."""
        return self._grammar.errors.get(key) or _english()["errors"][key]

    def _responses(self, intent: Intent) -> Mapping[str, str]:
        return self._grammar.responses.get(intent, {})

    def _said(self, intent: Intent, slots: dict[str, Any], key: str = "default") -> str:
        text = self._responses(intent).get(key)
        if not text or text.startswith(_NOT_TRANSLATED):
            text = _english()["intents"][intent][key]
        told = _rendered(text, slots=slots)
        own = self._grammar.own_responses.get(intent)
        return _rendered(own, slots=slots, theirs=told) if own else told

    def _tells_duration(self, intent: Intent) -> bool:
        """Return whether the sentence of this language says for how long."""
        return "minutes" in self._responses(intent).get("default", "minutes")


@lru_cache(maxsize=256)
def _template(text: str) -> Template:
    return _ENVIRONMENT.from_string(text)


def _rendered(text: str, **values: Any) -> str:
    return " ".join(_template(text).render(**values).split())


@lru_cache(maxsize=1)
def _english() -> Any:
    return (home_assistant_intents.get_intents("en") or {})["responses"]


def _joined(first: str, second: str) -> str:
    """Return two sentences as one text."""
    if not first.endswith((".", "。", "।")):
        # Chinese ends its sentences with a mark of its own, and needs no space behind it.
        first += "。" if "\u4e00" <= first[-1:] <= "\u9fff" else "."
    return f"{first}{'' if first.endswith('。') else ' '}{second[:1].upper()}{second[1:]}"


def _duration_slots(duration: Duration) -> dict[str, str]:
    """Return the units as templates expect them: as text, in digits."""
    units = {"hours": duration.hours, "minutes": duration.minutes, "seconds": duration.seconds}
    return {unit: str(value) for unit, value in units.items() if value}


def _described(timer: Timer, left: float, *, exactly: bool, here: str | None) -> dict[str, Any]:
    """Return a timer as the templates of Home Assistant know one."""
    total = round(left)
    hours, minutes, seconds = _units(total)
    rounded = (hours, minutes, seconds) if exactly else _units(_rounded(total))
    # Templates compare these with numbers, so that a unit that was not said is none of it.
    return {
        "id": timer.id,
        "name": timer.name or "",
        "area": "" if here is None or timer.place == here else timer.room or "",
        "device_id": timer.place,
        "language": timer.language or "",
        "start_hours": timer.start.hours or 0,
        "start_minutes": timer.start.minutes or 0,
        "start_seconds": timer.start.seconds or 0,
        "is_active": timer.state is not TimerState.PAUSED,
        "hours_left": hours,
        "minutes_left": minutes,
        "seconds_left": seconds,
        "rounded_hours_left": rounded[0],
        "rounded_minutes_left": rounded[1],
        "rounded_seconds_left": rounded[2],
        "total_seconds_left": total,
    }


def _rounded(seconds: int) -> int:
    """Return what a person wants to know of what is left: the less there is, the more exactly."""
    if seconds < _EXACT_BELOW_SECONDS:
        return seconds
    if seconds < _TENS_BELOW_SECONDS:
        return round(seconds / 10) * 10
    return round(seconds / 60) * 60


def _units(seconds: int) -> tuple[int, int, int]:
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return hours, minutes, seconds
