"""How often a ping may be sent, and how long one usually takes."""

_PING_SHARE = 0.01
"""Part of Ollama's time that pings may take."""

_LONGEST_GAP_SECONDS = 10.0
_SLOW_SECONDS = 0.3
_SLOW_FACTOR = 5
"""What takes this much longer than usual has loaded the model."""

_WEIGHT = 0.2
"""Of the latest ping in what is usual."""


class Pace:
    """Learns from pings of a loaded model."""

    def __init__(self) -> None:
        self._usual_seconds: float | None = None
        self._last_seconds = 0.0

    @property
    def gap_seconds(self) -> float:
        """How long to leave between two pings."""
        return min(max(self._usual_seconds or 0.0, self._last_seconds) / _PING_SHARE, _LONGEST_GAP_SECONDS)

    def is_slow(self, seconds: float) -> bool:
        """Tell whether a request of a loaded model took so long that it must have been loaded again."""
        return seconds > max(_SLOW_SECONDS, _SLOW_FACTOR * (self._usual_seconds or 0.0))

    def took(self, seconds: float) -> bool:
        """Note a ping; return whether it was slow. The first one never is: there are slow machines."""
        self._last_seconds = seconds
        if self._usual_seconds is None:
            self._usual_seconds = seconds
            return False
        slow = self.is_slow(seconds)
        self._usual_seconds += _WEIGHT * (min(seconds, 2 * self._usual_seconds) - self._usual_seconds)
        return slow
