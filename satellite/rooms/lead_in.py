"""Silence before the first sound, for speakers that wake up slowly (Bluetooth, HDMI, USB) and would swallow a word."""

import asyncio
import math

from satellite.audio.pcm import AudioFormat

_AWAKE_SECONDS = 5.0
"""How long a speaker stays awake after a sound: those that switch off do so after ten seconds or more."""


class LeadIn:
    """Knows when one speaker has last made a sound."""

    def __init__(self, wake_up_seconds: float) -> None:
        """Give it `wake_up_seconds` of silence first when it has made no sound for 5 s; 0 gives none."""
        self._wake_up_seconds = wake_up_seconds
        self._sound_ended_at = -math.inf

    @property
    def due_seconds(self) -> float:
        """Return how much silence a sound that begins now has to wait for."""
        idle_seconds = asyncio.get_running_loop().time() - self._sound_ended_at
        return self._wake_up_seconds if idle_seconds > _AWAKE_SECONDS else 0.0

    def begin(self, layout: AudioFormat) -> bytes:
        """Return the silence that is due, in `layout`; a sound begins."""
        due_seconds = self.due_seconds
        self._sound_ended_at = math.inf
        zero = b"\x80" if layout.width == 1 else b"\0"  # 8-bit samples are unsigned
        return zero * (round(due_seconds * layout.rate) * layout.frame_bytes)

    def end(self) -> None:
        """The sound has ended, if there was one."""
        if self._sound_ended_at == math.inf:
            self._sound_ended_at = asyncio.get_running_loop().time()
