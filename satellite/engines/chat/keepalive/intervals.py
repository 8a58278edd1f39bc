"""How often a ping may be sent, how long one usually takes, and how soon what failed is tried again."""

import time

from satellite.engines.chat.keepalive.loaded_models import Residency

_PING_SHARE = 0.01
"""Part of Ollama's time that pings may take."""

_SHORTEST_GAP_SECONDS = 5.0
"""A ping costs milliseconds, but a line in Ollama's log."""

_LONGEST_GAP_SECONDS = 10.0
_SLOW_SECONDS = 0.3
_SLOW_FACTOR = 5
"""What takes this much longer than usual has loaded the model."""

_WEIGHT = 0.2
"""Of the latest ping in what is usual."""

_FIRST_RETRY_SECONDS = 1.0
_LONGEST_RETRY_SECONDS = {Residency.FAILING: 30.0, Residency.MODEL_MISSING: 2.0}
"""What fails may start a process there that crashes, each time; what is missing is only looked for."""


class Pace:
    """Learns from pings of a loaded model."""

    def __init__(self) -> None:
        self._usual_seconds: float | None = None
        self._last_seconds = 0.0

    @property
    def gap_seconds(self) -> float:
        """How long to leave between two pings; nothing as long as it is not known what one takes."""
        if self._usual_seconds is None:
            return 0.0
        gap = max(self._usual_seconds, self._last_seconds) / _PING_SHARE
        return min(max(gap, _SHORTEST_GAP_SECONDS), _LONGEST_GAP_SECONDS)

    @property
    def slow_seconds(self) -> float:
        """How long a request of a loaded model must take to have loaded it again."""
        return max(_SLOW_SECONDS, _SLOW_FACTOR * (self._usual_seconds or 0.0))

    def took(self, seconds: float) -> bool:
        """Note a ping; return whether it was slow. The first one never is: there are slow machines."""
        self._last_seconds = seconds
        if self._usual_seconds is None:
            self._usual_seconds = seconds
            return False
        slow = seconds > self.slow_seconds
        self._usual_seconds += _WEIGHT * (min(seconds, 2 * self._usual_seconds) - self._usual_seconds)
        return slow


class Retry:
    """Waits after what failed, longer each time; what is merely absent is looked for all the time."""

    def __init__(self) -> None:
        self.seconds = 0.0
        """How long the wait is or was; 0 when the last try went well."""

        self._at = 0.0

    @property
    def is_waiting(self) -> bool:
        """Whether it is too early to try again."""
        return time.monotonic() < self._at

    def failed(self, state: Residency) -> None:
        """Note a try that left the model in `state`."""
        self.seconds = min(max(_FIRST_RETRY_SECONDS, 2 * self.seconds), _LONGEST_RETRY_SECONDS.get(state, 0.0))
        self._at = time.monotonic() + self.seconds

    def at_once(self) -> None:
        """Do not wait any longer."""
        self._at = 0.0

    def done(self) -> None:
        """Note a try that went well."""
        self.seconds = self._at = 0.0
