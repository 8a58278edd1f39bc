"""Simulated homes: people who call and ask, and what the microphone of each room hears of it.

A room is an impulse response: the direct sound, which falls with the distance, and a tail of noise that decays within
the reverberation time and is as loud everywhere in the room. What comes from another room comes through a door or a
wall, by its tail alone. Everything is computed from a seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from satellite.audio.pcm import RATE
from satellite_bench.synthetic import pink

Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]
"""Samples in [-1, 1]."""

_SOUND_SPEED = 343.0
_DECAY = 6.91
"""Natural logarithm of 1000: the reverberation time is that of 60 dB."""

_CRITICAL_METRES = 0.7
"""Where the direct sound is as loud as the tail, in a living room."""

_LEAD_SECONDS = 2.5
"""Of the room's own noise, which is what speech is compared with."""

_TAIL_SECONDS = 2.0
_VOICE_LEVEL = 0.05
"""Root mean square of a voice at 1 m: -26 dBFS."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """The wake word and a command, as one recording."""

    sound: Floats
    words: str


@dataclass(frozen=True, slots=True)
class Voice:
    """Somebody who calls in one of the rooms."""

    room: int
    at_seconds: float
    utterance: Utterance


@dataclass(frozen=True, slots=True)
class Scene:
    """What happens once, and how the rooms hear it."""

    voices: tuple[Voice, ...]
    heard: tuple[bytes, ...]
    """Canonical PCM of each room's microphone."""

    delays_seconds: tuple[float, ...]
    """How late the sound of each room arrives."""


def scene(chance: np.random.Generator, utterances: Sequence[Utterance], background: Floats, *, voices: int) -> Scene:
    """Return a home of two or three rooms in which `voices` people call, each in a room of their own."""
    rooms = int(chance.integers(max(2, voices), 4))
    where = chance.permutation(rooms)[:voices]
    said = [utterances[int(chance.integers(len(utterances)))] for _ in where]
    # Two people: within two seconds of each other.
    starts = [_LEAD_SECONDS + (chance.uniform(0, 2) if number else 0.0) for number in range(voices)]
    people = tuple(Voice(int(room), at, one) for room, at, one in zip(where, starts, said, strict=True))
    seconds = max(one.at_seconds + len(one.utterance.sound) / RATE for one in people) + _TAIL_SECONDS
    heard = tuple(_heard(chance, people, room, int(seconds * RATE), background) for room in range(rooms))
    return Scene(people, heard, tuple(chance.uniform(0, 0.15) for _ in range(rooms)))


def impulse(chance: np.random.Generator, metres: float, decay_seconds: float, through: float) -> Floats:
    """Return the response from a voice to a microphone; `through` is the gain of a door or wall, 1 in the same room."""
    times = np.arange(int(decay_seconds * RATE)) / RATE
    tail = chance.standard_normal(len(times)) * np.exp(-_DECAY * times / decay_seconds)
    tail *= through / _CRITICAL_METRES / np.sqrt(np.sum(tail**2))
    response = np.concatenate([np.zeros(int(metres / _SOUND_SPEED * RATE)), tail])
    if through == 1:
        response[int(metres / _SOUND_SPEED * RATE)] += 1 / metres
    return response


def _heard(chance: np.random.Generator, voices: Sequence[Voice], room: int, samples: int, background: Floats) -> bytes:
    decay = chance.uniform(0.25, 0.6)
    mixed = pink(samples, chance)
    mixed *= 10 ** (chance.uniform(-62, -44) / 20) / np.sqrt(np.mean(mixed**2))
    if chance.random() < 0.3:  # a television, or people who talk
        start = int(chance.integers(max(1, len(background) - samples)))
        talk = np.resize(background[start:], samples)
        mixed += talk * 10 ** (chance.uniform(-48, -36) / 20) / np.sqrt(np.mean(talk**2))
    for voice in voices:
        own = voice.room == room
        metres = chance.uniform(0.8, 4) if own else chance.uniform(4, 9)
        through = 1.0 if own else 10 ** (chance.uniform(-22, -4) / 20)  # a closed door to an open one
        sound = voice.utterance.sound * (_VOICE_LEVEL / np.sqrt(np.mean(voice.utterance.sound**2)))
        arrived = np.convolve(sound, impulse(chance, metres, decay, through))
        at = int(voice.at_seconds * RATE)
        mixed[at : at + len(arrived)] += arrived[: samples - at]
    gain = 10 ** (chance.uniform(-6, 6) / 20)  # microphones differ
    return bytes((np.clip(mixed * gain, -1, 1) * 32767).astype(np.int16).tobytes())
