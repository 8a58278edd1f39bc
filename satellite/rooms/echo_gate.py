"""Calls of rooms whose microphone hears their loudspeaker: half duplex by level, as plain speakerphones have it.

How loud the microphone hears the loudspeaker, the coupling, is learnt from what is played. The microphone is always so
much softer that what goes around through both rooms never grows; and while the other room is heard, and this microphone
adds nothing clearly louder than its echo, it is softer still, so that nobody hears themselves.
"""

import math
from collections import deque

from satellite.audio.gain import Gain
from satellite.audio.pcm import CANONICAL, seconds_of

_PIECE_BYTES = 640
"""20 ms: what is measured, and passed or held back, at once."""

_ECHO_SECONDS = 0.5
"""How long after it was sent sound is heard by the microphone at the latest: sent ahead, played, and reflected."""

_LEARNING_SECONDS = 1.0
"""In what the microphone has heard in this time is the loudest of what was played in it, but for `_ECHO_SECONDS`."""

_MOST_PIECES = 1024
"""Remembered at most: while the microphone is muted its clock stands still, by which they are forgotten otherwise."""

_FAR_DB = -55.0
"""The least level at which the other room speaks."""

_MOST_COUPLING_DB = 9.0
_LEAST_COUPLING_DB = -40.0
_RISE_DB = 1.0
"""How much a second the coupling may rise while nothing shows that it is lower."""

_LOOP_DB = -3.0
"""What is left at most of sound that went through one room."""

_NEAR_DB = 4.0
"""Somebody speaks here who is so much louder than the echo can be."""

_ECHO_DB = -18.0
"""How much softer an echo alone is passed on."""

_HOLD_SECONDS = 0.3
"""How long somebody counts as speaking after each loud moment: between words."""


class EchoGate:
    """Passes on what a microphone hears in a call, without what its own loudspeaker plays."""

    def __init__(self) -> None:
        self._gain = Gain()
        self._far: deque[tuple[float, float]] = deque(maxlen=_MOST_PIECES)
        self._near: deque[tuple[float, float]] = deque(maxlen=_MOST_PIECES)
        self._seconds = 0.0
        """How much the microphone has heard."""

        self._coupling_db = _MOST_COUPLING_DB
        self._spoken_at = -math.inf

    def play(self, pcm: bytes) -> None:
        """Take canonical audio that the loudspeaker is about to play."""
        for at in range(0, len(pcm), _PIECE_BYTES):
            self._far.append((self._seconds + seconds_of(pcm[:at]), _level_db(pcm[at : at + _PIECE_BYTES])))

    def hear(self, pcm: bytes) -> bytes:
        """Return canonical audio of the microphone as it is passed on."""
        return b"".join(self._passed(pcm[at : at + _PIECE_BYTES]) for at in range(0, len(pcm), _PIECE_BYTES))

    def _passed(self, pcm: bytes) -> bytes:
        self._seconds += seconds_of(pcm)
        near_db = _level_db(pcm)
        self._near.append((self._seconds, near_db))
        for levels in (self._far, self._near):
            while levels and levels[0][0] < self._seconds - _LEARNING_SECONDS:
                levels.popleft()
        self._learn(seconds_of(pcm))
        far_db = _loudest(self._far, self._seconds - _ECHO_SECONDS, math.inf)
        if near_db > far_db + self._coupling_db + _NEAR_DB:
            self._spoken_at = self._seconds
        gain_db = min(0.0, _LOOP_DB - self._coupling_db)
        if far_db > _FAR_DB and self._seconds - self._spoken_at > _HOLD_SECONDS:
            gain_db += _ECHO_DB
        self._gain.target = 10 ** (gain_db / 20)
        return self._gain.apply(pcm, CANONICAL)

    def _learn(self, seconds: float) -> None:
        # All of what was played before that is heard by now, so that the microphone's loudest is at least its echo.
        far_db = _loudest(self._far, -math.inf, self._seconds - _ECHO_SECONDS)
        if far_db > _FAR_DB:
            shown_db = _loudest(self._near, -math.inf, math.inf) - far_db
            self._coupling_db = min(self._coupling_db + _RISE_DB * seconds, max(shown_db, _LEAST_COUPLING_DB))
        self._coupling_db = min(self._coupling_db, _MOST_COUPLING_DB)


def _loudest(levels: deque[tuple[float, float]], since: float, until: float) -> float:
    return max((level for at, level in levels if since <= at <= until), default=-math.inf)


def _level_db(pcm: bytes) -> float:
    """Return the level of a sound, in dB below full scale."""
    import numpy as np

    samples = np.frombuffer(pcm, np.int16).astype(np.float64)
    power = float(np.mean(samples**2)) if len(samples) else 0.0
    return 10 * math.log10(power / 32768**2 + 1e-12)
