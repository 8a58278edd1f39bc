"""The lengths of a sentence's windows: short at first, then longer, each ready before it is heard."""

from collections.abc import Callable
from dataclasses import dataclass, field

from satellite.clock import monotonic

_SIZES = (8, 16, 32, 64, 128)
"""Frames of a window. Few sizes, because ONNX Runtime plans its memory for each; the longest lasts about 1.5 s, which
bounds how long an interruption waits."""

_SAFETY = 2.0
"""A window is in time although it takes this many times as long as expected."""

_RECOVERY = 0.2
"""Share by which a window that is faster than expected lowers the estimate."""


class Timeline:
    """How much of the sound handed out so far is still to be heard, if it is played without a pause."""

    def __init__(self, lead_seconds: float = 0.0, *, clock: Callable[[], float] = monotonic) -> None:
        """`lead_seconds` of sound are still to be heard before."""
        self._clock = clock
        self._over_at = clock() + lead_seconds

    @property
    def left_seconds(self) -> float:
        """Return how long it will last from now on."""
        return max(0.0, self._over_at - self._clock())

    def add(self, seconds: float) -> None:
        """Record that `seconds` of sound are handed out now."""
        self._over_at = self._clock() + self.left_seconds + seconds


@dataclass(slots=True)
class WindowPlanner:
    """Chooses the lengths of windows by what they cost on this host.

    A window of n frames takes `fixed_seconds` + n * `frame_seconds`, and lasts n * `frame_sound_seconds`.
    """

    fixed_seconds: float
    frame_seconds: float
    frame_sound_seconds: float
    lead_frames: int
    """Silence at the beginning of a sentence, which is cut off."""

    _slowness: float = field(default=1.0, init=False)

    @classmethod
    def measured(cls, seconds: dict[int, float], frame_sound_seconds: float, lead_frames: int) -> "WindowPlanner":
        """Return the planner of a host on which windows of two sizes took `seconds`."""
        (short, short_seconds), (long, long_seconds) = sorted(seconds.items())
        frame_seconds = max(0.0, (long_seconds - short_seconds) / (long - short))
        return cls(max(0.0, short_seconds - short * frame_seconds), frame_seconds, frame_sound_seconds, lead_frames)

    def cost_seconds(self, frames: int) -> float:
        """Return how long a window of `frames` takes, judging by recent ones."""
        return self._slowness * (self.fixed_seconds + frames * self.frame_seconds)

    def note(self, frames: int, seconds: float) -> None:
        """Record that a window of `frames` took `seconds`.

        The estimate rises at once, since the sound would run out, and falls slowly.
        """
        usual = self.fixed_seconds + frames * self.frame_seconds
        slowness = seconds / usual if usual else 1.0
        self._slowness = max(slowness, self._slowness + _RECOVERY * (slowness - self._slowness))

    def held(self, frames: int, left_seconds: float = 0.0) -> int:
        """Return how many frames to compute before the first sound: as few as possible without a gap afterwards.

        That is one window on a host that is faster than real time, what it falls short by on a slower one, and none
        where enough sound from before is heard for `left_seconds` more.
        """
        held = 0
        while held < frames and not self._lasts(frames, held, left_seconds):
            held = min(frames, max(held, self.lead_frames) + _SIZES[0])
        return held

    def next(self, frames_left: int, left_seconds: float) -> int:
        """Return the length of the next window: the longest that is computed while `left_seconds` are heard."""
        in_time = [size for size in _SIZES if _SAFETY * self.cost_seconds(size) <= left_seconds]
        if not in_time:  # late in any case: the shortest that lasts longer than it takes regains time
            in_time = [size for size in _SIZES if _SAFETY * self.cost_seconds(size) <= self._sound_seconds(size)][:1]
        size = in_time[-1] if in_time else _SIZES[-1]
        return frames_left if frames_left < size + _SIZES[0] else size

    def _sound_seconds(self, frames: int) -> float:
        return frames * self.frame_sound_seconds

    def _lasts(self, frames: int, held: int, left_seconds: float) -> bool:
        """Return whether there is no gap if `held` frames are ready at the first sound, which others precede."""
        held_seconds = self.cost_seconds(held) if held else 0.0
        left_seconds = max(0.0, left_seconds - held_seconds) + self._sound_seconds(held - self.lead_frames)
        while held < frames:
            size = self.next(frames - held, left_seconds)
            cost_seconds = self.cost_seconds(size)
            if cost_seconds > left_seconds:
                return False
            left_seconds += self._sound_seconds(size) - cost_seconds
            held += size
        return True
