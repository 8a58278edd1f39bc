"""When the chat model is kept warm."""

from datetime import datetime, time

from satellite.config.chat import KeepAliveSettings


class Schedule:
    """`keepalive.when` as a question that can be asked at any moment."""

    def __init__(self, settings: KeepAliveSettings) -> None:
        self._settings = settings
        self._hours = tuple(tuple(map(_time_of_day, hours.split("-"))) for hours in settings.hours)

    def wants_warm(self, now: datetime, idle_seconds: float) -> bool:
        """Return whether the model is to be warm at the local time `now`, so long after its last use."""
        when = self._settings.when
        if when == "always" or idle_seconds < self._settings.after_activity_seconds:
            return True
        return when == "hours" and any(_within(now.time(), start, end) for start, end in self._hours)

    def described(self) -> str:
        """Return the schedule in words."""
        minutes = f"{self._settings.after_activity_seconds / 60:g} min after each use"
        match self._settings.when:
            case "always":
                return "always"
            case "hours":
                return f"{', '.join(self._settings.hours)} and {minutes}"
            case _:
                return minutes


def _time_of_day(text: str) -> time:
    return time.max if text == "24:00" else time.fromisoformat(text)


def _within(now: time, start: time, end: time) -> bool:
    """Return whether `now` lies in hours that may go past midnight."""
    if start <= end:
        return start <= now < end
    return now >= start or now < end
