"""Which room answers when several have heard the same call."""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class _Contest:
    began_at: float
    room: str
    quality_db: float
    lose: Callable[[], None]


class Arbiter:
    """Gives a call to the room that hears it best; the others are told at once.

    Nobody waits: the first room to hear a call has it, until within the window another one has heard it better.
    """

    def __init__(self, window_seconds: float, *, now: Callable[[], float] = time.monotonic) -> None:
        self.window_seconds = window_seconds
        self._now = now
        self._contests: dict[str, _Contest] = {}

    def claim(self, room: str, wake_word: str, quality_db: float, lose: Callable[[], None]) -> bool:
        """Return whether `room` has the call; if a better one comes, `lose` is called later.

        `quality_db` is how far speech stands above the room's noise; -inf where that is not known.
        """
        now = self._now()
        contest = self._contests.get(wake_word)
        if contest is not None and contest.room != room and now - contest.began_at <= self.window_seconds:
            if quality_db <= contest.quality_db:
                return False
            contest.lose()
            self._contests[wake_word] = _Contest(contest.began_at, room, quality_db, lose)
            return True
        self._contests[wake_word] = _Contest(now, room, quality_db, lose)
        return True
