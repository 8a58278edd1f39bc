"""The sound before an announcement and of a timer that has ended."""

from satellite.audio.pcm import AudioFormat

_TONES_HERTZ = (659.3, 880.0)
"""E5 and A5: a rising fourth calls without alarming."""

_TONE_SECONDS = 0.35
_GAIN = 0.2


def chime(format_: AudioFormat) -> bytes:
    """Return two soft tones and a short rest as 16-bit mono."""
    import numpy as np

    times = np.arange(int(_TONE_SECONDS * format_.rate)) / format_.rate
    shape = np.minimum(times / 0.01, 1) * np.exp(-5 * times) * np.minimum((_TONE_SECONDS - times) / 0.02, 1)
    tones = [np.sin(2 * np.pi * hertz * times) * shape for hertz in _TONES_HERTZ]
    rest = np.zeros(int(0.15 * format_.rate))
    return (np.concatenate([*tones, rest]) * _GAIN * 32767).astype(np.int16).tobytes()
