"""How long the windows of a sentence are: short at first, then longer, and each ready before it is needed."""

import time
from collections.abc import Callable

_SIZES = (8, 16, 32, 64, 128)
"""Frames a window. Few sizes, because ONNX Runtime plans its memory for each; the longest lasts about a second and a
half, which bounds what an interruption has to wait for."""

_SAFETY = 2.0
"""How often over a window could take the time that it is expected to take, and still be there in time."""

_RECOVERY = 0.2
"""Share by which one window that was fast again lessens what slow ones have taught."""


class Timeline:
    """How much sound a listener who hears it as it comes has left."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._over_at: float | None = None

    @property
    def begun(self) -> bool:
        """Whether any sound has been handed out."""
        return self._over_at is not None

    @property
    def left_seconds(self) -> float:
        """Return how long the sound lasts from now on."""
        return 0.0 if self._over_at is None else max(0.0, self._over_at - self._clock())

    def add(self, seconds: float) -> None:
        """Sound is handed out now."""
        self._over_at = self._clock() + self.left_seconds + seconds


class WindowPlanner:
    """What windows cost on this host, and what follows from that."""

    def __init__(
        self, fixed_seconds: float, frame_seconds: float, frame_sound_seconds: float, lead_frames: int
    ) -> None:
        """A window of n frames takes `fixed_seconds` + n * `frame_seconds`, and sounds n * `frame_sound_seconds`.

        Of a sentence's beginning, `lead_frames` are silence that is left out.
        """
        self._fixed_seconds = fixed_seconds
        self._frame_seconds = frame_seconds
        self._frame_sound_seconds = frame_sound_seconds
        self._lead_frames = lead_frames
        self._slowness = 1.0

    @classmethod
    def measured(cls, seconds: dict[int, float], frame_sound_seconds: float, lead_frames: int) -> "WindowPlanner":
        """Return the pace of a host on which windows of two sizes took `seconds`."""
        (short, short_seconds), (long, long_seconds) = sorted(seconds.items())
        frame_seconds = max(0.0, (long_seconds - short_seconds) / (long - short))
        return cls(max(0.0, short_seconds - short * frame_seconds), frame_seconds, frame_sound_seconds, lead_frames)

    def cost_seconds(self, frames: int) -> float:
        """Return how long a window of `frames` takes, as the last ones have gone."""
        return self._slowness * (self._fixed_seconds + frames * self._frame_seconds)

    def note(self, frames: int, seconds: float) -> None:
        """A window of `frames` took `seconds`: that it took longer is believed at once, that it took less slowly."""
        usual = self._fixed_seconds + frames * self._frame_seconds
        slowness = seconds / usual if usual else 1.0
        self._slowness = max(slowness, self._slowness + _RECOVERY * (slowness - self._slowness))

    def held(self, frames: int) -> int:
        """Return how much of a sentence must be there before it may begin to sound: the least that never runs out.

        On a host that makes sound faster than it is heard, a window; on a slower one, what it will be late by.
        """
        held = min(frames, self._lead_frames + _SIZES[0])
        while held < frames and not self._lasts(frames, held):
            held = min(frames, held + _SIZES[0])
        return held

    def next(self, frames_left: int, left_seconds: float) -> int:
        """Return how long the next window shall be: as long as can be made while `left_seconds` are heard.

        Where none is made in time, it is the shortest that is heard for longer than it takes: so time is won again.
        """
        in_time = [size for size in _SIZES if _SAFETY * self.cost_seconds(size) <= left_seconds]
        if not in_time:
            in_time = [size for size in _SIZES if _SAFETY * self.cost_seconds(size) <= self._sound_seconds(size)][:1]
        size = in_time[-1] if in_time else _SIZES[-1]
        return frames_left if frames_left < size + _SIZES[0] else size

    def _sound_seconds(self, frames: int) -> float:
        return frames * self._frame_sound_seconds

    def _lasts(self, frames: int, held: int) -> bool:
        """Return whether the sound never runs out when `held` frames are there at its beginning."""
        left_seconds = self._sound_seconds(held - self._lead_frames)
        while held < frames:
            size = self.next(frames - held, left_seconds)
            cost_seconds = self.cost_seconds(size)
            if cost_seconds > left_seconds:
                return False
            left_seconds += self._sound_seconds(size) - cost_seconds
            held += size
        return True
