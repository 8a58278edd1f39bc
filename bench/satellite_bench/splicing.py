"""Recordings with pauses in them: longer silences between two words, in the tone of the recording's own room."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from satellite.audio.corpus import Clip
from satellite.audio.pcm import RATE, Samples, seconds_of, to_float
from satellite.audio.word_errors import normalise
from satellite.errors import SatelliteError

PAUSES_MS = (300, 500, 800)

TAIL_SECONDS = 4.0
"""Room tone after every clip: longer than either side waits for more speech."""

_LEAST_TONE = 4.0
"""Of a sample, in the mean: -78 dBFS, since no room and no microphone is quite silent."""

_FRAME = RATE // 100
_QUIET_SAMPLES = RATE // 5
_QUIET_STEP = RATE // 40

_UNDER_LOUD_DB = 18
"""How far below the loudest twentieth of a recording a sound may be and still be speech, not its room."""

_OVER_QUIET_DB = 6
_LEAST_FRAMES = 3
"""Frames of 10 ms that belong together: a click is no speech."""

_SNAP_SAMPLES = 2 * RATE // 25
"""How far beside a word's border, as a model of words sees it, the quietest place is looked for."""

_EDGE_SECONDS = 0.15
"""Least speech on both sides of a pause."""


@dataclass(frozen=True, slots=True)
class Spliced:
    """A recording in canonical PCM, with room tone after it."""

    name: str
    pauses_ms: tuple[int, ...]
    pcm: bytes
    speech_end_seconds: float
    """Where the last of the speech ends, by its sound alone."""


class Words(Protocol):
    """What recognises speech."""

    def starts(self, pcm: bytes) -> Sequence[float]:
        """Return where, more or less, the words of canonical PCM begin, seconds."""

    def said(self, pcm: bytes) -> Sequence[str]:
        """Return the words of canonical PCM, in lower case."""


class WhisperWords:
    """`Words` by Whisper as faster-whisper runs it: no code of ours is involved."""

    def __init__(self, model: Path, threads: int) -> None:
        """Load the model in the folder; blocks."""
        from faster_whisper import WhisperModel

        try:
            self._whisper = WhisperModel(str(model), device="cpu", compute_type="int8", cpu_threads=threads)
        except (OSError, RuntimeError, ValueError) as error:
            raise SatelliteError(f"{model} cannot be loaded: {error}", code="bench-words") from error

    def starts(self, pcm: bytes) -> Sequence[float]:
        """Return where words begin, by the model's attention."""
        segments = self._segments(pcm, word_timestamps=True)
        return [float(word.start) for segment in segments for word in segment.words or ()]

    def said(self, pcm: bytes) -> Sequence[str]:
        """Return the words."""
        return normalise(self.text(pcm))

    def text(self, pcm: bytes, language: str | None = None) -> str:
        """Return what is said in canonical PCM; without a language, Whisper finds it."""
        return " ".join(segment.text.strip() for segment in self._segments(pcm, language=language))

    def _segments(self, pcm: bytes, **how: Any) -> list[Any]:
        segments, _ = self._whisper.transcribe(to_float(pcm), beam_size=1, temperature=0.0, **how)
        return list(segments)


def spliced(
    clip: Clip, words: Words, chance: np.random.Generator, lengths_ms: Sequence[int] = PAUSES_MS
) -> list[Spliced]:
    """Return the clip as it is, with a pause of each length, and with two of half a second, where it has room for them.

    A pause is put between two words that chance picks.
    """
    samples = np.frombuffer(clip.pcm, np.int16)
    begin, end = speech_bounds(samples)
    lengths: list[tuple[int, ...]] = [()]
    gaps = _gaps(samples, words, begin + _EDGE_SECONDS, end - _EDGE_SECONDS)
    lengths += [(length,) for length in lengths_ms if gaps]
    if len(gaps) > 2:
        lengths.append((500, 500))
    found: list[Spliced] = []
    for pauses in lengths:
        places = sorted(chance.choice(gaps, len(pauses), replace=False).tolist()) if pauses else []
        pcm = _with_pauses(samples, list(zip(places, pauses, strict=True)), chance)
        found.append(Spliced(clip.name, pauses, pcm, end + sum(pauses) / 1000))
    return found


def speech_bounds(samples: Samples) -> tuple[float, float]:
    """Return where speech begins and ends, seconds, by loudness alone, without a voice activity detector."""
    whole = len(samples) // _FRAME
    frames = samples[: whole * _FRAME].reshape(whole, _FRAME).astype(np.float64)
    levels = 10 * np.log10(np.maximum(np.mean(np.square(frames), axis=1), 1))
    threshold = max(np.quantile(levels, 0.1) + _OVER_QUIET_DB, np.quantile(levels, 0.95) - _UNDER_LOUD_DB)
    loud = np.flatnonzero(np.convolve(levels >= threshold, np.ones(_LEAST_FRAMES), "valid") >= _LEAST_FRAMES)
    if not len(loud):
        return 0.0, seconds_of(samples.tobytes())
    return float(loud[0]) * _FRAME / RATE, float(loud[-1] + _LEAST_FRAMES) * _FRAME / RATE


def room_tone(samples: Samples, length: int, chance: np.random.Generator) -> Samples:
    """Return noise with the level and the spectrum of the quietest fifth of a second, or hardly audible noise."""
    size = min(_QUIET_SAMPLES, len(samples))
    starts = range(0, len(samples) - size + 1, _QUIET_STEP)
    quiet = min((samples[start : start + size].astype(np.float64) for start in starts), key=_power)
    window = np.hanning(size)
    spectrum = np.abs(np.fft.rfft(quiet * window)) / np.sqrt(np.sum(np.square(window)))
    spectrum = np.maximum(spectrum, _LEAST_TONE)
    noise = np.fft.rfft(chance.standard_normal(length))
    shape = np.interp(np.linspace(0, 1, len(noise)), np.linspace(0, 1, len(spectrum)), spectrum)
    return np.clip(np.fft.irfft(noise * shape, length), -32768, 32767).astype(np.int16)


def _power(samples: np.ndarray[Any, Any]) -> float:
    return float(np.mean(np.square(samples)))


def _gaps(samples: Samples, words: Words, first: float, last: float) -> list[int]:
    """Return the samples between two words, two times in seconds apart from the ends.

    Near the beginning of every word but the first the quietest place is taken, if what stands before it is heard as
    the first words of the whole: where words begin is known to a tenth of a second, and the closure of a "t" is quiet.
    """
    gaps: list[int] = []
    for start in words.starts(samples.tobytes())[1:]:
        around = range(max(0, int(start * RATE) - _SNAP_SAMPLES), int(start * RATE) + _SNAP_SAMPLES, _FRAME // 2)
        near = [at for at in around if _FRAME <= at <= len(samples) - _FRAME]
        if near:
            gaps.append(min(near, key=lambda at: _power(samples[at - _FRAME : at + _FRAME].astype(np.float64))))
    inside = sorted({at for at in gaps if first < at / RATE < last})
    whole = words.said(samples.tobytes()) if inside else []
    return [at for at in inside if _begins(words.said(samples[:at].tobytes()), whole)]


def _begins(some: Sequence[str], whole: Sequence[str]) -> bool:
    return 0 < len(some) < len(whole) and list(whole[: len(some)]) == list(some)


def _with_pauses(samples: Samples, pauses: Sequence[tuple[int, int]], chance: np.random.Generator) -> bytes:
    """Return the recording with room tone of so many milliseconds at each sample, and after its end."""
    pieces: list[Samples] = []
    done = 0
    for at, length_ms in pauses:
        pieces += [samples[done:at], room_tone(samples, length_ms * RATE // 1000, chance)]
        done = at
    pieces += [samples[done:], room_tone(samples, int(TAIL_SECONDS * RATE), chance)]
    return np.concatenate(pieces).tobytes()
