"""Whether audio arrives as it is spoken, or is a recording that is sent at once; judged by when it arrives."""

from collections.abc import Callable
from typing import Protocol

from satellite.clock import monotonic

_JITTER_SECONDS = 0.1
"""How much too soon audio may come without a meaning: clocks and networks differ."""

_STALL_SECONDS = 0.25
"""A gap between two pieces that delays the following ones: those then come at once, live or not."""

_LONGEST_SECONDS = 2.0
"""For how long, at most, audio must have come as it is spoken to count as live."""


class Arrivals(Protocol):
    """The events of a client, which may wait until they can be handled: a busy machine handles them late."""

    @property
    def arrived_at(self) -> float:
        """When the event that is handled now arrived, by `time.monotonic()`."""

    @property
    def waiting(self) -> bool:
        """Whether more events have arrived and wait."""


class SourcePace:
    """Judges one stream: audio that arrives faster than it can be spoken was recorded before.

    Of a recording more may come at any moment, so a pause in it ends nothing. A live stream may begin with audio that
    had to wait: it counts as live once it has gone on for as long as it was ahead, up to 2 s, without being ahead
    again. Audio that comes at once after a stall was held up by that, as far as the stall explains its amount: then
    half of that time is enough.
    """

    def __init__(self, began: float, clock: Callable[[], float] = monotonic) -> None:
        """Take `began`, by the clock, for the earliest time at which audio can have been spoken."""
        self._clock = clock
        self._began = self._came_at = self._ahead_at = began
        self._taken_seconds = 0.0
        self._ahead_seconds = 0.0  # of what can have been said since the beginning
        self._origin = self._began  # when the first sample was spoken, judged by what came since the last stall
        self._burst_seconds = 0.0  # that came ahead since then

    def add(self, seconds: float, arrived_at: float) -> None:
        """Note that so much audio arrived at that time, however long it waited until it was handled."""
        self._taken_seconds += seconds
        ahead = self._taken_seconds - (arrived_at - self._began)
        if ahead > _JITTER_SECONDS:
            self._ahead_seconds = max(self._ahead_seconds, ahead)
        origin = arrived_at - self._taken_seconds
        if arrived_at - self._came_at > _STALL_SECONDS:
            self._origin, self._ahead_at, self._burst_seconds = origin, arrived_at, 0.0
        elif origin < self._origin - _JITTER_SECONDS:
            self._burst_seconds += self._origin - origin
            self._origin, self._ahead_at = origin, arrived_at
        self._came_at = arrived_at

    @property
    def doubt_seconds(self) -> float:
        """How long no audio may come ahead any more for the stream to count as live."""
        needed = min(max(self._ahead_seconds, self._burst_seconds / 2), _LONGEST_SECONDS)
        return max(0.0, self._ahead_at + needed - self._clock())
