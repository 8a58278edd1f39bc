"""How long to wait before the next attempt."""

import random


class Backoff:
    """Doubles from `first` to `longest` seconds; with `jitter` each wait is between half of that and all of it.

    Jitter keeps fifty satellites behind one switch from coming back in step (AWS Architecture Blog, "Exponential
    Backoff And Jitter", 2015, "equal jitter").
    """

    def __init__(self, first: float, longest: float, *, jitter: bool = True) -> None:
        self._first = first
        self._longest = longest
        self._jitter = jitter
        self._tries = 0

    def next(self) -> float:
        """Return the seconds to wait now."""
        whole = float(min(self._first * 2 ** min(self._tries, 30), self._longest))
        self._tries += 1
        return random.uniform(whole / 2, whole) if self._jitter else whole

    def reset(self) -> None:
        """Start over with the shortest wait, after a success."""
        self._tries = 0
