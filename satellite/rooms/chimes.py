"""Short sounds of the daemon's own, made of sine tones: before announcements, and for what happens in a room."""

from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING

from satellite.audio.pcm import AudioFormat

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PLAIN = AudioFormat(22050, 2, 1)
"""The format of sound without speech."""

_CHIME_HERTZ = (659.3, 880.0)
"""E5 and A5: a rising fourth calls without alarming."""

_CHIME_SECONDS = 0.35
_CHIME_REST_SECONDS = 0.15
_GAIN = 0.2

_CUE_SECONDS = 0.08
"""Of each tone of a cue: a command may follow at once, and an answer waits for it."""


class Cue(Enum):
    """What has happened in a room, with its tones, Hz: of a height at which the VAD takes none for speech."""

    LISTENING = (587.3, 784.0)
    """The room listens: it rises."""

    DONE = (784.0, 587.3)
    """The command is over, and was understood: it falls."""

    NOT_UNDERSTOOD = (587.3, 587.3)
    """Nobody has spoken, nothing was understood, or the answer has failed: twice the same."""


def chime(format_: AudioFormat, *, falls: bool = False) -> bytes:
    """Return two soft tones and a short rest, as 16-bit mono: before an announcement, a ring or a call.

    One that `falls` says that a call is over.
    """
    import numpy as np

    rest = np.zeros(int(_CHIME_REST_SECONDS * format_.rate))
    return _pcm([*_tones(_CHIME_HERTZ[::-1] if falls else _CHIME_HERTZ, _CHIME_SECONDS, format_), rest])


def cue_sound(cue: Cue) -> bytes:
    """Return the sound of a cue, in the format `PLAIN`."""
    return _pcm(_tones(cue.value, _CUE_SECONDS, PLAIN))


def _tones(all_hertz: Sequence[float], seconds: float, format_: AudioFormat) -> "list[NDArray[np.floating]]":
    import numpy as np

    times = np.arange(int(seconds * format_.rate)) / format_.rate
    # A tone that begins or ends abruptly clicks: 10 ms to rise, and 20 ms at the end.
    shape = np.minimum(times / 0.01, 1) * np.exp(-5 * times) * np.minimum((seconds - times) / 0.02, 1)
    return [np.sin(2 * np.pi * hertz * times) * shape for hertz in all_hertz]


def _pcm(parts: "Sequence[NDArray[np.floating]]") -> bytes:
    import numpy as np

    return (np.concatenate(parts) * _GAIN * 32767).astype(np.int16).tobytes()
