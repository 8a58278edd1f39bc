"""What of a recording is decoded: its level, its segments, and where words may be missing."""

import unicodedata
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from satellite.audio.pcm import RATE, to_float
from satellite.engines.protocols import AFTER_SPEECH_SECONDS
from satellite.engines.vad import WINDOW_SAMPLES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FULL_WINDOW_SECONDS = 30.0
"""The window of Whisper's training."""

MARGIN_SECONDS = 3.0
"""Silence after the speech in the encoder's window: with less, tiny.en repeats itself."""

_BEFORE_SPEECH_SECONDS = 0.5
"""Audio kept before the VAD's speech, which misses soft beginnings; after it, `AFTER_SPEECH_SECONDS` are kept."""

_LOUD_ENOUGH, _LEVEL, _MOST_GAIN = 0.1, 0.5, 100.0
"""Peak below which audio is raised, to what peak, and by how much at most: Whisper does not know such quiet speech."""

_SILENT = 1e-4
"""Peak (-80 dBFS) below which nothing was said."""

_SLOWEST_CHARACTERS = 12.0
"""Characters for each second of speech below which words are missing: one decode of a short window sometimes ends after
the first of two sentences."""

_WIDE_CHARACTERS = 3
"""Letters that a character of Chinese, Japanese or Korean stands for: four to six of them are said in a second."""

_LEAST_LOST_SECONDS = 1.0
"""Speech that is judged by its pace: a short word may be slow."""

_INNER_PAUSE_WINDOWS = 8
"""Shortest pause, in windows of the VAD, at which a recording is decoded in two parts: 0.26 s."""

_LEAST_UNHEARD_WINDOWS = 20
"""Speech, in windows of the VAD, that is decoded by itself if Whisper's timestamps leave it without text: 0.64 s."""


def levelled(samples: "NDArray[np.float32]") -> "NDArray[np.float32] | None":
    """Return `samples` without their offset, at a level that Whisper knows; None if they are silent."""
    if samples.size:
        samples = samples - samples.mean()
    peak = float(abs(samples).max(initial=0.0))
    if peak < _SILENT:
        return None
    return samples if peak >= _LOUD_ENOUGH else samples * min(_MOST_GAIN, _LEVEL / peak)


def audible(pcm: bytes) -> bytes:
    """Return canonical `pcm` at a level that any model knows; empty if it is silent."""
    import numpy as np

    raised = levelled(to_float(pcm))
    if raised is None:
        return b""
    return np.round(raised * 32768).clip(-32768, 32767).astype(np.int16).tobytes()


def segments(spoken: Sequence[bool] | None, samples: int, window_floor_seconds: float) -> Iterator[tuple[int, int]]:
    """Yield start and end, in samples, of segments with speech that fit a window, cut in pauses; `spoken` None is all.

    What comes before the speech is kept where the shortest window has room for it: a VAD misses soft first words.
    """
    if spoken is None:
        spoken = [True] * -(-samples // WINDOW_SAMPLES)
    before, after = int(_BEFORE_SPEECH_SECONDS * RATE), int(AFTER_SPEECH_SECONDS * RATE)
    longest = int((FULL_WINDOW_SECONDS - MARGIN_SECONDS) * RATE) // WINDOW_SAMPLES
    windows = [index for index, is_speech in enumerate(spoken) if is_speech]
    start = windows[0]
    if windows[-1] * WINDOW_SAMPLES / RATE + MARGIN_SECONDS <= window_floor_seconds:
        start = 0
    while True:
        inside = [index for index in windows if start <= index < start + longest]
        rest = [index for index in windows if index >= start + longest]
        if not rest:
            yield max(0, start * WINDOW_SAMPLES - before), min(samples, (inside[-1] + 1) * WINDOW_SAMPLES + after)
            return
        cut = _widest_gap(inside, rest[0])
        spoken_before = [index for index in inside if index < cut]
        end = min(cut * WINDOW_SAMPLES, (spoken_before[-1] + 1) * WINDOW_SAMPLES + after)
        yield max(0, start * WINDOW_SAMPLES - before), end
        following = next(index for index in windows if index >= cut)
        # What comes before the cut was heard in the segment before, and a long pause belongs to neither.
        start, before = max(cut, following - int(_BEFORE_SPEECH_SECONDS * RATE) // WINDOW_SAMPLES), 0


def pause_before_lost_words(spoken: Sequence[bool], start: int, end: int, text: str) -> int | None:
    """Return the sample between `start` and `end` after which words are missing in `text`; None if none are.

    It lies in the longest pause; without one, nothing can be told from a slow speaker.
    """
    inside = [at for at in range(start // WINDOW_SAMPLES, min(len(spoken), end // WINDOW_SAMPLES)) if spoken[at]]
    seconds = len(inside) * WINDOW_SAMPLES / RATE
    characters = sum(_WIDE_CHARACTERS if unicodedata.east_asian_width(letter) == "W" else 1 for letter in text)
    if seconds < _LEAST_LOST_SECONDS or characters >= _SLOWEST_CHARACTERS * seconds:
        return None
    before, after = max(pairwise(inside), key=lambda pair: pair[1] - pair[0])
    return (before + after + 1) // 2 * WINDOW_SAMPLES if after - before > _INNER_PAUSE_WINDOWS else None


def without_text(
    spoken: Sequence[bool], start: int, end: int, spans: Sequence[tuple[float, float]]
) -> Iterator[tuple[int, int]]:
    """Yield stretches of speech, in samples, between `start` and `end` outside `spans` (seconds from `start`)."""
    at = 0.0
    for first, last in (*sorted(spans), (end / RATE, end / RATE)):
        begin, stop = start + int(at * RATE), min(end, start + int(first * RATE))
        windows = range(-(-begin // WINDOW_SAMPLES), min(len(spoken), stop // WINDOW_SAMPLES))
        if sum(spoken[index] for index in windows) >= _LEAST_UNHEARD_WINDOWS:
            yield begin, stop
        at = max(at, last)


def _widest_gap(windows: Sequence[int], following: int) -> int:
    """Return the middle of the longest pause in the second half of `windows`, where a cut does least harm."""
    later = [*windows[len(windows) // 2 :], following]
    before, after = max(pairwise(later), key=lambda pair: pair[1] - pair[0])
    return (before + after + 1) // 2
