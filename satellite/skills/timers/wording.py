"""Sentences about timers that Home Assistant's translations lack: those that have ended, or are refused."""

from satellite.languages import translated
from satellite.skills.timers.timers import Limit, Timer


def ended(timer: Timer, *, late: bool) -> str:
    """Return what to say of a timer that rings, or ended a while ago, in the language that it was set in.

    In a language without translation it is the name alone; a timer without a name then has only its chime.
    """
    language, suffix = timer.language or "en", "_named" if timer.name else ""
    text = translated(f"timer_missed{suffix}", language) if late else None
    text = text or translated(f"timer_done{suffix}", language) or "{name}"
    return text.format(name=timer.name or "")


def refusal(limit: Limit, language: str | None) -> str | None:
    """Return what to say of a timer that is refused; None in a language without translation."""
    return translated("timer_too_long" if limit is Limit.TOO_LONG else "timer_too_many", language or "en")
