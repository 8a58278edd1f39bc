"""Pauses by loudness alone, some hundredths of a second before a VAD is sure of them.

A VAD goes on hearing speech for a while after its end: Silero v6 after recorded commands for 0.1 s in the median, and
for 0.24 s in one of ten. Loudness shows a pause at once, but takes soft speech for one, and sees none in a noisy room.
So it counts for no longer than a VAD lags.
"""

import math
from collections import deque
from typing import TYPE_CHECKING, Any

from satellite.audio.pcm import BYTES_PER_SECOND, WIDTH

if TYPE_CHECKING:
    import numpy as np

_FRAME_BYTES = BYTES_PER_SECOND // 100
_SMOOTHED_FRAMES = 4
"""Frames whose mean power is a level: one alone may lie between two periods of a low voice."""

_REMEMBERED_FRAMES = 300

_OVER_ROOM_DB, _UNDER_VOICE_DB = 4.0, 18.0
"""A frame is quiet if it is at most so far above the level of the room, and at least so far below that of the voice.
Where room and voice are closer to each other no frame is quiet: it might be the end of a word."""

_OVER_HISS_DB, _UNDER_HISSING_DB = 10.0, 10.0
"""The same for the differences between samples, in which high frequencies prevail: an "s" is hardly louder than many
rooms, but has more high frequencies than any."""

_FAR_UNDER_VOICE_DB = 36.0
"""A frame so far below the voice is quiet even where the room is quieter still."""

_ROOM, _VOICE = 10, 20  # the quietest tenth and the loudest twentieth of the remembered frames

_BEFORE_FRAMES = 30
"""How much of what was heard before a voice is remembered with it, its first syllable included."""

_LAG_FRAMES = 20
"""How long a VAD may lag behind the end of speech; what it hears for longer is soft speech."""


class PauseDetector:
    """Measures the loudness of canonical audio, fed in order."""

    def __init__(self) -> None:
        self._rest = b""
        self._last_sample = 0
        self._all, self._high = _Band(_OVER_ROOM_DB, _UNDER_VOICE_DB), _Band(_OVER_HISS_DB, _UNDER_HISSING_DB)
        self._quiet_frames = 0  # in a row, at the end

    @property
    def paused(self) -> bool:
        """Whether a pause has begun, so recently that a VAD may not have noticed it."""
        return 0 < self._quiet_frames <= _LAG_FRAMES

    @property
    def quiet(self) -> bool:
        """Whether there is no voice, as far as loudness shows."""
        return self._quiet_frames > 0

    @property
    def long_quiet(self) -> bool:
        """Whether it is quiet for longer than a VAD lags."""
        return self._quiet_frames > _LAG_FRAMES

    def begin_voice(self) -> None:
        """Compare with the gaps between words from now on, no longer with the room, which echoes the end of a voice."""
        self._all.forget()
        self._high.forget()

    def feed(self, pcm: bytes) -> None:
        """Advance by `pcm`, of any length."""
        import numpy as np

        data = self._rest + pcm
        whole = len(data) // _FRAME_BYTES * _FRAME_BYTES
        self._rest = data[whole:]
        samples = np.frombuffer(data[:whole], np.int16).astype(np.float32)
        steps = np.diff(samples, prepend=self._last_sample)
        self._last_sample = samples[-1] if whole else self._last_sample
        for is_quiet, is_quiet_too in zip(self._all.feed(samples), self._high.feed(steps), strict=True):
            self._quiet_frames = self._quiet_frames + 1 if is_quiet and is_quiet_too else 0


class _Band:
    """The loudness of a part of the spectrum."""

    def __init__(self, over_room_db: float, under_voice_db: float) -> None:
        self._over_room_db = over_room_db
        self._under_voice_db = under_voice_db
        self._powers: deque[float] = deque(maxlen=_SMOOTHED_FRAMES)
        self._levels: deque[float] = deque(maxlen=_REMEMBERED_FRAMES)

    def forget(self) -> None:
        """Remember only the latest levels."""
        self._levels = deque(list(self._levels)[-_BEFORE_FRAMES:], maxlen=_REMEMBERED_FRAMES)

    def feed(self, samples: "np.ndarray[Any, Any]") -> list[bool]:
        """Return whether each frame is quiet, by the levels of room and voice known after the last of them."""
        import numpy as np

        levels: list[float] = []
        for power in np.square(samples).reshape(-1, _FRAME_BYTES // WIDTH).mean(axis=1).tolist():
            self._powers.append(power)
            levels.append(10 * math.log10(max(1.0, sum(self._powers) / len(self._powers))))
        # Digital silence is a gate that is closed, or a microphone that opens: it says nothing of the room behind it.
        self._levels += [level for level in levels if level > 0]
        if not self._levels:
            return [False] * len(levels)
        ordered = sorted(self._levels)
        room, voice = ordered[len(ordered) // _ROOM], ordered[-1 - len(ordered) // _VOICE]
        quiet = min(max(room + self._over_room_db, voice - _FAR_UNDER_VOICE_DB), voice - self._under_voice_db)
        return [level <= quiet for level in levels]
