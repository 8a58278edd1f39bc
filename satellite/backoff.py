"""How long to wait before the next try."""

import random
from collections.abc import Callable


class Backoff:
    """Doubles from `first` to `longest` seconds, each time somewhere between half of it and all of it.

    So that fifty satellites behind one switch do not come back in step (AWS Architecture Blog, "Exponential Backoff
    And Jitter", 2015, "equal jitter").
    """

    def __init__(self, first: float, longest: float, *, chance: Callable[[], float] = random.random) -> None:
        self._first = first
        self._longest = longest
        self._chance = chance
        self._tries = 0

    def next(self) -> float:
        """Return the seconds to wait now."""
        whole = min(self._first * 2 ** min(self._tries, 30), self._longest)
        self._tries += 1
        return float(whole / 2 * (1 + self._chance()))

    def reset(self) -> None:
        """Begin anew: it went well."""
        self._tries = 0
