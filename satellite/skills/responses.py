"""Responses to commands: Home Assistant's sentences, in the language of the question."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import home_assistant_intents
from jinja2 import Template
from jinja2.sandbox import SandboxedEnvironment

from satellite.skills.grammar import Grammar
from satellite.skills.intents import Intent
from satellite.skills.timers.timers import Duration, Timer, TimerState

_ENVIRONMENT = SandboxedEnvironment()
_EXACT_BELOW_SECONDS = 120
_TENS_BELOW_SECONDS = 600
_NOT_TRANSLATED = "TODO"


class Responses:
    """The responses of one language."""

    def __init__(self, grammar: Grammar) -> None:
        """Use the responses of `grammar`, English ones where it has none."""
        self._grammar = grammar

    def time(self, now: datetime) -> str:
        """Return the time."""
        return self._rendered(Intent.CURRENT_TIME, {"time": now.time()})

    def date(self, now: datetime) -> str:
        """Return the date."""
        return self._rendered(Intent.CURRENT_DATE, {"date": now.date()})

    def started(self, timer: Timer) -> str:
        """Return that a timer was set, and its duration, so that a misunderstanding is noticed."""
        slots = _duration_slots(timer.start) | ({"name": timer.name} if timer.name else {})
        text = self._rendered(Intent.START_TIMER, slots)
        if "minutes" in self._templates(Intent.START_TIMER).get("default", "minutes"):
            return text
        return _joined(text, self.status([(timer, timer.total_seconds)], exactly=True))

    def changed(self, intent: Intent, by: Duration, timer: Timer, left: float) -> str:
        """Return that a timer was extended or shortened, and what is left."""
        slots = _duration_slots(by) | ({"name": timer.name} if timer.name else {})
        return _joined(self._rendered(intent, slots), self.status([(timer, left)]))

    def done(self, intent: Intent) -> str:
        """Return that a timer was cancelled, paused or resumed, or something done in a room."""
        return self._rendered(intent, {})

    def muted(self) -> str:
        """Return that a microphone is off, in Home Assistant's word for a media player."""
        return self._rendered("HassMediaPlayerMute", {})

    def cancelled(self, count: int, room: str | None) -> str:
        """Return how many timers were cancelled."""
        key = "area" if room and "area" in self._templates(Intent.CANCEL_ALL_TIMERS) else "default"
        return self._rendered(Intent.CANCEL_ALL_TIMERS, {"canceled": count, "area": room}, key)

    def status(self, timers: Sequence[tuple[Timer, float]], *, exactly: bool = False, here: str | None = None) -> str:
        """Return which timers there are, and what is left of the next one; `here` is the place that is not named."""
        described = [_described(timer, left, exactly=exactly, here=here) for timer, left in timers]
        return self._rendered(Intent.TIMER_STATUS, {"timers": described})

    def error(self, key: str) -> str:
        """Return the sentence for one of Home Assistant's errors."""
        return self._grammar.errors.get(key) or _english()["errors"][key]

    def _templates(self, intent: str) -> Mapping[str, str]:
        return self._grammar.responses.get(intent, {})

    def _rendered(self, intent: str, slots: Mapping[str, object], key: str = "default") -> str:
        template = self._templates(intent).get(key)
        if not template or template.startswith(_NOT_TRANSLATED):
            template = _english()["intents"][intent][key]
        text = _render(template, slots=slots)
        own = self._grammar.own_responses.get(intent)
        return _render(own, slots=slots, theirs=text) if own else text


@lru_cache(maxsize=256)
def _template(text: str) -> Template:
    return _ENVIRONMENT.from_string(text)


def _render(template: str, **values: object) -> str:
    return " ".join(_template(template).render(**values).split())


@lru_cache(maxsize=1)
def _english() -> Any:
    return (home_assistant_intents.get_intents("en") or {})["responses"]


def _joined(first: str, second: str) -> str:
    """Join two sentences."""
    # Some languages end the sentence of a response with a full stop, some do not.
    if not first.endswith((".", "。", "।")):
        # Chinese has its own full stop, which no space follows.
        first += "。" if "\u4e00" <= first[-1:] <= "\u9fff" else "."
    return f"{first}{'' if first.endswith('。') else ' '}{second[:1].upper()}{second[1:]}"


def _duration_slots(duration: Duration) -> dict[str, str]:
    """Return the units as templates expect them: text, in digits."""
    units = {"hours": duration.hours, "minutes": duration.minutes, "seconds": duration.seconds}
    return {unit: str(value) for unit, value in units.items() if value}


def _described(timer: Timer, left: float, *, exactly: bool, here: str | None) -> dict[str, object]:
    """Return a timer in the form that Home Assistant's templates expect."""
    total = round(left)
    hours, minutes, seconds = _units(total)
    rounded = (hours, minutes, seconds) if exactly else _units(_rounded(total))
    # Templates compare units with numbers, so one that was not said is 0, not None.
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
    """Round what is left, the more coarsely the more there is."""
    if seconds < _EXACT_BELOW_SECONDS:
        return seconds
    if seconds < _TENS_BELOW_SECONDS:
        return round(seconds / 10) * 10
    return round(seconds / 60) * 60


def _units(seconds: int) -> tuple[int, int, int]:
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return hours, minutes, seconds
