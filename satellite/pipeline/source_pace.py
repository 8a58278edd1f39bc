"""Whether sound comes as it is spoken or is a recording that is sent at once, told by when it arrives."""

import time
from collections.abc import Callable

_JITTER_SECONDS = 0.1
"""What sound may come too early without a meaning: clocks and networks differ."""

_STALL_SECONDS = 0.25
"""A gap between two pieces that delays what comes behind it: that comes at once then, whatever it is."""

_LONGEST_SECONDS = 2.0
"""For how long, at most, sound must have come as it is spoken before that is believed."""


class Pace:
    """Nobody can send what has not been said yet: sound that comes faster than it is spoken was recorded before.

    Of what was recorded there may be more at any moment, so a pause in it ends nothing. A stream may begin with sound
    that had to wait: it is believed to be live once it has gone on for as long as it was ahead, up to 2 s, without
    coming early again. What comes at once behind a stall was kept up by that, as long as it is no more than the stall
    explains: then half of that time will do.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin where the first sound may come."""
        self._clock = clock
        self._began = self._came_at = self._early_at = clock()
        self._taken_seconds = 0.0
        self._ahead_seconds = 0.0  # of what can have been said since the beginning
        self._origin = self._began  # when the first sample was spoken, judged by what came since the last stall
        self._burst_seconds = 0.0  # that came early since then

    def take(self, seconds: float) -> None:
        """Note that so much more sound has come just now."""
        now = self._clock()
        self._taken_seconds += seconds
        ahead = self._taken_seconds - (now - self._began)
        if ahead > _JITTER_SECONDS:
            self._ahead_seconds = max(self._ahead_seconds, ahead)
        origin = now - self._taken_seconds
        if now - self._came_at > _STALL_SECONDS:
            self._origin, self._early_at, self._burst_seconds = origin, now, 0.0
        elif origin < self._origin - _JITTER_SECONDS:
            self._burst_seconds += self._origin - origin
            self._origin, self._early_at = origin, now
        self._came_at = now

    @property
    def doubt_seconds(self) -> float:
        """How long nothing may come early any more until the end of what has come is that of what was said."""
        needed = min(max(self._ahead_seconds, self._burst_seconds / 2), _LONGEST_SECONDS)
        return max(0.0, self._early_at + needed - self._clock())
