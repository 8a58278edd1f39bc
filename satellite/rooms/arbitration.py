"""Arbitration: of several rooms that hear the same wake word, the one whose microphone hears it best answers."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from satellite.audio.pcm import RATE, WIDTH
from satellite.clock import monotonic

_BLOCK_SAMPLES = RATE // 10
_BLOCK_BYTES = _BLOCK_SAMPLES * WIDTH
_NOISE_BLOCKS = 100
"""Ten seconds; the quietest tenth of them gives the room's noise level."""

_SPEECH_BLOCKS = 12
"""The latest blocks, about a wake word's length, in which speech is looked for."""

_SILENCE = 1.0
"""Least root mean square level, in units of a 16-bit sample: digital silence would be infinitely quiet."""


@dataclass(slots=True)
class _Contest:
    began_at: float
    room: str
    quality_db: float
    lose: Callable[[], None]
    call_seconds: float = 0.0
    """How long before the claim of `room` the first room heard the call."""


_STAND_DOWN_SECONDS = 0.7
"""How long after the first claim others belong to the same call: see bench/README.md for what other times cost."""


class Arbiter:
    """Gives a wake word to the room that hears it best; the others lose it at once.

    No room waits for the others: the first one has it, until another claims it with a better quality in the window.
    A room that comes later, but within the time to stand down, has heard the same call late, and is refused.
    A window of 0 lets every room answer.
    """

    def __init__(
        self,
        window_seconds: float,
        *,
        stand_down_seconds: float = _STAND_DOWN_SECONDS,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self._window_seconds = window_seconds
        self._stand_down_seconds = stand_down_seconds
        self._now = now
        self._contests: dict[str, _Contest] = {}

    def configure(self, window_seconds: float) -> None:
        """Set the time in which rooms compete, from now on."""
        self._window_seconds = window_seconds

    def claim(self, room: str, wake_word: str, quality_db: float, lose: Callable[[], None]) -> bool:
        """Return whether `room` answers; `lose` is called later if another room hears the wake word better.

        `quality_db` is the level of the speech above that of the room's noise; -inf where that is not known.
        """
        now = self._now()
        contest = self._contests.get(wake_word)
        # A room is not its own rival: it may hear a wake word twice in the window.
        if contest is not None and contest.room != room:
            age = now - contest.began_at
            if age <= self._window_seconds and quality_db > contest.quality_db:
                contest.lose()
                self._contests[wake_word] = _Contest(contest.began_at, room, quality_db, lose, age)
                return True
            if self._window_seconds and age <= max(self._window_seconds, self._stand_down_seconds):
                return False
        self._contests[wake_word] = _Contest(now, room, quality_db, lose)
        return True

    def call_seconds(self, wake_word: str) -> float:
        """Return how long before a room that has just been given the call the first one heard it.

        A room that takes over has taken what was said meanwhile for a part of the wake word.
        """
        contest = self._contests.get(wake_word)
        return 0.0 if contest is None else contest.call_seconds


class Loudness:
    """Measures the sound of a room. Feed it canonical audio."""

    def __init__(self) -> None:
        self._levels: deque[float] = deque(maxlen=_NOISE_BLOCKS)
        self._rest = bytearray()

    def feed(self, pcm: bytes) -> None:
        """Take the next audio. All of every room's sound passes here, on the event loop: a block takes microseconds."""
        import numpy as np

        self._rest += pcm
        whole = len(self._rest) // _BLOCK_BYTES
        # Blocks that would be pushed out at once are skipped: a long piece must not hold the event loop.
        for start in range(max(0, whole - _NOISE_BLOCKS) * _BLOCK_BYTES, whole * _BLOCK_BYTES, _BLOCK_BYTES):
            block = np.frombuffer(self._rest[start : start + _BLOCK_BYTES], np.int16).astype(np.float32)
            self._levels.append(math.sqrt(float(block @ block) / _BLOCK_SAMPLES))
        del self._rest[: whole * _BLOCK_BYTES]

    @property
    def speech_to_noise_db(self) -> float:
        """Level of the latest sound above the room's noise, in dB; -inf before anything was heard."""
        if not self._levels:
            return float("-inf")
        import numpy as np

        levels = np.maximum(np.array(self._levels), _SILENCE)
        return float(20 * np.log10(levels[-_SPEECH_BLOCKS:].max() / np.quantile(levels, 0.1)))
