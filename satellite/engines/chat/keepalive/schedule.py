"""When the chat model is kept warm, and how often it is pinged."""

from datetime import datetime, time

from satellite.config.chat import KeepAliveSettings

_PING_SHARE = 0.01
"""Share of Ollama's time that pings may take."""

_SHORTEST_GAP_SECONDS = 5.0
"""A ping costs milliseconds, but a line in Ollama's log."""

_LONGEST_GAP_SECONDS = 10.0
_SLOW_SECONDS = 0.3
_SLOW_FACTOR = 5
"""A ping that takes this much longer than usual has loaded the model."""

_WEIGHT = 0.2
"""Of the latest ping in the moving average."""


class Schedule:
    """Evaluates `keepalive.when`."""

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
        """Return the schedule for people."""
        minutes = f"{self._settings.after_activity_seconds / 60:g} min after each use"
        match self._settings.when:
            case "always":
                return "always"
            case "hours":
                return f"{', '.join(self._settings.hours)} and {minutes}"
            case _:
                return minutes


class PingTiming:
    """Learns from pings of a loaded model how long one takes and how often to send one."""

    def __init__(self) -> None:
        self._usual_seconds: float | None = None
        self._last_seconds = 0.0

    @property
    def gap_seconds(self) -> float:
        """Least time between two pings; 0 until the first has been measured."""
        if self._usual_seconds is None:
            return 0.0
        gap = max(self._usual_seconds, self._last_seconds) / _PING_SHARE
        return min(max(gap, _SHORTEST_GAP_SECONDS), _LONGEST_GAP_SECONDS)

    @property
    def slow_seconds(self) -> float:
        """Duration from which on a request must have loaded the model again."""
        return max(_SLOW_SECONDS, _SLOW_FACTOR * (self._usual_seconds or 0.0))

    def took(self, seconds: float) -> bool:
        """Record a ping; return whether it was slow. The first never is, since some machines are slow."""
        self._last_seconds = seconds
        if self._usual_seconds is None:
            self._usual_seconds = seconds
            return False
        slow = seconds > self.slow_seconds
        # Capped, so that a ping that loaded the model hardly changes the average, and the next load is noticed too.
        self._usual_seconds += _WEIGHT * (min(seconds, 2 * self._usual_seconds) - self._usual_seconds)
        return slow


def _time_of_day(text: str) -> time:
    return time.max if text == "24:00" else time.fromisoformat(text)


def _within(now: time, start: time, end: time) -> bool:
    """Return whether `now` lies in hours that may go past midnight."""
    return start <= now < end if start <= end else now >= start or now < end
