"""What the hearing matrix does to recordings, and sounds in which nobody speaks.

Everything is computed: no noise and no room is recorded. The same clips become the same bytes in every run.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import soxr

from satellite.audio.corpus import Clip
from satellite.audio.pcm import CANONICAL, RATE, AudioFormat, to_float
from satellite.errors import SatelliteError
from satellite_bench.splicing import room_tone, speech_bounds
from satellite_bench.synthetic import pink

Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]
"""Samples in [-1, 1], or frames of several channels."""

Change = Callable[[Floats, np.random.Generator], Floats]

_SEED = 20_26
_OVERDRIVE = 10.0
"""Peak of a clipped recording, of full scale: 20 dB too loud."""

_PACE = 1.4
_AROUND_SECONDS = 0.5
"""Noise before and after a recording in noise."""

_PAUSES_SECONDS = (0.3, 0.9)
_SOUND_SECONDS = 3.0
_SOUND_LEVEL = 0.03
"""Root mean square of a sound in which nobody speaks: -30 dBFS."""

_FRAME = RATE // 50
_UNDER_LOUDEST = 0.01
"""Power of a frame, of that of the loudest, from which on it is speech: within 20 dB."""


@dataclass(frozen=True, slots=True)
class Recording:
    """What is sent to the servers, and what is said in it; no words mean that nobody speaks."""

    name: str
    words: str
    pcm: bytes
    source: AudioFormat


@dataclass(frozen=True, slots=True)
class Condition:
    """A change to canonical sound, and the format that it is sent in."""

    name: str
    change: Change
    source: AudioFormat = CANONICAL
    joined: bool = False
    """Whether every clip is followed by the next one, after a pause."""


def recordings(condition: Condition, clips: Sequence[Clip]) -> list[Recording]:
    """Return every clip under the condition."""
    following = [*clips[1:], *clips[:1]]
    return [_recording(condition, *pair, number) for number, pair in enumerate(zip(clips, following, strict=True))]


def _recording(condition: Condition, clip: Clip, following: Clip, number: int) -> Recording:
    chance = np.random.default_rng((_SEED, number))
    pcm, words = clip.pcm, clip.words
    if condition.joined:
        pcm = _joined(clip, following, chance)
        words = f"{words} {following.words}".strip()
    changed = condition.change(to_float(pcm).astype(np.float64), chance)
    return Recording(clip.name, words, _packed(changed), condition.source)


def _joined(clip: Clip, following: Clip, chance: np.random.Generator) -> bytes:
    """Return both clips, between their speech a pause in the tone of the first one's room."""
    first, second = (np.frombuffer(one.pcm, np.int16) for one in (clip, following))
    end, begin = speech_bounds(first)[1], speech_bounds(second)[0]
    pause = room_tone(first, int(chance.uniform(*_PAUSES_SECONDS) * RATE), chance)
    return np.concatenate([first[: int(end * RATE)], pause, second[int(begin * RATE) :]]).tobytes()


def _packed(samples: Floats) -> bytes:
    """Return samples, or interleaved frames, as 16-bit PCM; what is over full scale is cut off."""
    return np.clip(np.round(samples * 32768), -32768, 32767).astype("<i2").tobytes()


def _gain(decibels: float, samples: Floats, chance: np.random.Generator) -> Floats:
    return samples * _factor(decibels)


def _resampled(rate: int, samples: Floats, chance: np.random.Generator) -> Floats:
    resampled: Floats = soxr.resample(samples, RATE, rate)
    return resampled


def _stereo(second: float, samples: Floats, chance: np.random.Generator) -> Floats:
    """Return two channels: the sound, and `second` times the sound."""
    return np.stack([samples, second * samples], axis=1)


def _clipped(samples: Floats, chance: np.random.Generator) -> Floats:
    overdriven = samples * (_OVERDRIVE / max(_peak(samples), 1e-9))
    return overdriven.clip(-1, 1)


def _fast(samples: Floats, chance: np.random.Generator) -> Floats:
    """Return the sound as a tape that runs too fast plays it: shorter, and higher by as much."""
    resampled: Floats = soxr.resample(samples, RATE * _PACE, RATE)
    return resampled


def _noisy(noise: Callable[[int, np.random.Generator], Floats], below: float, samples: Floats, chance: Any) -> Floats:
    """Add noise, `below` dB under the speech, that begins before the recording and goes on after it."""
    padded = np.pad(samples, int(_AROUND_SECONDS * RATE))
    added = noise(len(padded), chance)
    mixed = padded + added * speech_level(samples) / _level(added) * _factor(-below)
    return mixed / max(1.0, _peak(mixed))


def _factor(decibels: float) -> float:
    return float(10 ** (decibels / 20))


def _peak(samples: Floats) -> float:
    return float(np.abs(samples).max())


def _level(samples: Floats) -> float:
    return float(np.sqrt(np.mean(np.square(samples))))


def speech_level(samples: Floats) -> float:
    """Return the level of the frames that are within 20 dB of the loudest one."""
    powers = np.mean(np.square(samples[: len(samples) // _FRAME * _FRAME].reshape(-1, _FRAME)), axis=1)
    return float(np.sqrt(np.mean(powers[powers >= powers.max() * _UNDER_LOUDEST])))


def white(samples: int, chance: np.random.Generator) -> Floats:
    """Return white noise."""
    return chance.standard_normal(samples)


def knocks(samples: int, chance: np.random.Generator) -> Floats:
    """Return two sounds a second that ring and die away within a tenth of a second, as dishes and doors do."""
    found = np.zeros(samples)
    for start in chance.integers(0, samples, max(1, 2 * samples // RATE)):
        time = np.arange(min(samples - start, RATE // 2)) / RATE
        ring = np.sin(2 * np.pi * chance.uniform(200, 3000) * time) * np.exp(-time / chance.uniform(0.01, 0.05))
        found[start : start + len(time)] += ring * chance.uniform(0.3, 1)
    return found


def room(samples: int, chance: np.random.Generator) -> Floats:
    """Return a room in which a fan runs and somebody clears the table: pink noise, mains hum and knocks."""
    hum = np.sin(2 * np.pi * 100 * np.arange(samples) / RATE)
    noise = pink(samples, chance)
    return noise / _level(noise) + hum / 2 + 3 * knocks(samples, chance)


def _beeps(samples: int, chance: np.random.Generator) -> Floats:
    """Return an oven's beeps: 0.2 s of 2 kHz every 0.6 s."""
    time = np.arange(samples) / RATE
    return np.sin(2 * np.pi * 2000 * time) * (time % 0.6 < 0.2)


def _rustle(samples: int, chance: np.random.Generator) -> Floats:
    """Return noise that swells four times a second, as the syllables of speech do."""
    return pink(samples, chance) * np.square(np.sin(np.pi * 4 * np.arange(samples) / RATE))


def sounds() -> list[Clip]:
    """Return the sounds in which nobody speaks."""
    made = {"white noise": white, "room": room, "knocks": knocks, "beeps": _beeps, "rustle": _rustle}
    clips: list[Clip] = []
    for number, (name, make) in enumerate(made.items()):
        samples = make(int(_SOUND_SECONDS * RATE), np.random.default_rng((_SEED, number)))
        clips.append(Clip(name, "", _packed(samples / _level(samples) * _SOUND_LEVEL)))
    return clips


def named(names: Sequence[str]) -> Sequence[Condition]:
    """Return the conditions of some names, or all; raises `SatelliteError` with the code `bench-condition`."""
    if unknown := set(names) - {condition.name for condition in CONDITIONS}:
        known = ", ".join(repr(condition.name) for condition in CONDITIONS)
        raise SatelliteError(f"unknown condition {min(unknown)!r}; expected {known}", code="bench-condition")
    return [condition for condition in CONDITIONS if condition.name in names] if names else CONDITIONS


CONDITIONS = (
    *(Condition(f"{level} dB", partial(_gain, level)) for level in (0, -15, -30, -45, -60)),
    *(Condition(f"{rate / 1000:g} kHz", partial(_resampled, rate), AudioFormat(rate)) for rate in (8_000, 44_100)),
    Condition("stereo", partial(_stereo, 1.0), AudioFormat(channels=2)),
    Condition("stereo, one channel inverted", partial(_stereo, -1.0), AudioFormat(channels=2)),
    Condition("clipped, 20 dB over full scale", _clipped),
    *(Condition(f"white noise, {below} dB below", partial(_noisy, white, below)) for below in (20, 10, 5)),
    *(Condition(f"room noise, {below} dB below", partial(_noisy, room, below)) for below in (20, 10, 5)),
    Condition("two joined, pause of 0.3 to 0.9 s", partial(_gain, 0), joined=True),
    Condition("1.4 times as fast", _fast),
)
