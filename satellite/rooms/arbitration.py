"""Which room answers when several have heard the same call: the one whose microphone hears it best."""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from satellite.audio.pcm import RATE, WIDTH

_BLOCK_SAMPLES = RATE // 10
_BLOCK_BYTES = _BLOCK_SAMPLES * WIDTH
_NOISE_BLOCKS = 100
"""Ten seconds, of which the quietest tenth is taken for the room's noise."""

_SPEECH_BLOCKS = 12
"""What was heard last, about a wake word's length."""

_SILENCE = 1.0
"""Least root mean square that is told apart from nothing, in units of a 16-bit sample."""


@dataclass(slots=True)
class _Contest:
    began_at: float
    room: str
    quality_db: float
    lose: Callable[[], None]


class Arbiter:
    """Gives a call to the room that hears it best; the others lose it at once.

    Nobody waits: the first room to hear a call has it, until within the window another one has heard it better.
    """

    def __init__(self, window_seconds: float, *, now: Callable[[], float] = time.monotonic) -> None:
        self._window_seconds = window_seconds
        self._now = now
        self._contests: dict[str, _Contest] = {}

    def configure(self, window_seconds: float) -> None:
        """Take another window from now on."""
        self._window_seconds = window_seconds

    def claim(self, room: str, wake_word: str, quality_db: float, lose: Callable[[], None]) -> bool:
        """Return whether `room` has the call; if a better one comes, `lose` is called later.

        `quality_db` is how far speech stands above the room's noise; -inf where that is not known.
        """
        now = self._now()
        contest = self._contests.get(wake_word)
        if contest is not None and contest.room != room and now - contest.began_at <= self._window_seconds:
            if quality_db <= contest.quality_db:
                return False
            contest.lose()
            self._contests[wake_word] = _Contest(contest.began_at, room, quality_db, lose)
            return True
        self._contests[wake_word] = _Contest(now, room, quality_db, lose)
        return True


class Loudness:
    """Follows a room's sound. Feed it canonical audio."""

    def __init__(self) -> None:
        self._levels: deque[float] = deque(maxlen=_NOISE_BLOCKS)
        self._rest = bytearray()

    def feed(self, pcm: bytes) -> None:
        """Take the next audio. Every room's sound passes here, on the event loop: a block costs some microseconds."""
        import numpy as np

        self._rest += pcm
        whole = len(self._rest) // _BLOCK_BYTES
        for start in range(max(0, whole - _NOISE_BLOCKS) * _BLOCK_BYTES, whole * _BLOCK_BYTES, _BLOCK_BYTES):
            block = np.frombuffer(self._rest[start : start + _BLOCK_BYTES], np.int16).astype(np.float32)
            self._levels.append(math.sqrt(float(block @ block) / _BLOCK_SAMPLES))
        del self._rest[: whole * _BLOCK_BYTES]

    @property
    def speech_to_noise_db(self) -> float:
        """How far what was heard last stands above the room's noise; -inf before anything was heard."""
        if not self._levels:
            return float("-inf")
        import numpy as np

        levels = np.maximum(np.array(self._levels), _SILENCE)
        return float(20 * np.log10(levels[-_SPEECH_BLOCKS:].max() / np.quantile(levels, 0.1)))
