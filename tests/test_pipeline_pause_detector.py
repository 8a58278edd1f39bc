"""Whether it has just become quiet: by loudness, before a VAD knows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satellite.audio.pcm import RATE
from satellite.pipeline.pause_detector import PauseDetector

ROOM_DB, VOICE_DB = 25.0, 60.0
FRAME_SAMPLES = RATE // 100


def noise(seconds: float, level_db: float, seed: int = 0) -> bytes:
    """Return noise of a mean power in decibels, over that of one step of a sample."""
    samples = np.random.default_rng(seed).standard_normal(round(seconds * RATE)) * 10 ** (level_db / 20)
    return samples.clip(-32768, 32767).astype(np.int16).tobytes()


def begins_at(pcm: bytes, chunk_bytes: int = 2 * FRAME_SAMPLES) -> list[float]:
    """Return when it becomes quiet in `pcm`, seconds."""
    quiet, found, was = PauseDetector(), [], False
    for at in range(0, len(pcm), chunk_bytes):
        quiet.feed(pcm[at : at + chunk_bytes])
        if quiet.paused and not was:
            found.append((at + chunk_bytes) / (2 * RATE))
        was = quiet.paused
    return found


def sounds(*parts: tuple[float, float]) -> bytes:
    """Return noise of so many seconds and decibels each."""
    return b"".join(noise(seconds, level, seed) for seed, (seconds, level) in enumerate(parts))


def test_the_end_of_speech_is_known_within_fifty_milliseconds() -> None:
    pcm = sounds((0.5, ROOM_DB), (1.0, VOICE_DB), (1.0, ROOM_DB))
    assert begins_at(pcm) == [pytest.approx(1.54, abs=0.011)]
    quiet = PauseDetector()
    quiet.feed(pcm[: int(2 * RATE * 1.7)])
    assert quiet.paused
    quiet.feed(pcm[int(2 * RATE * 1.7) : int(2 * RATE * 1.8)])
    assert not quiet.paused


@pytest.mark.parametrize("zeros", [0.5, 3.0])
def test_digital_silence_is_no_quieter_room(zeros: float) -> None:
    opened, gated = bytes(2 * round(zeros * RATE)), bytes(RATE)
    assert begins_at(opened) == []
    assert begins_at(opened + sounds((1.0, VOICE_DB), (0.5, ROOM_DB))) == [pytest.approx(zeros + 1.04, abs=0.011)]
    assert begins_at(sounds((1.0, VOICE_DB)) + gated) == [pytest.approx(1.04, abs=0.011)]


@pytest.mark.parametrize(
    "levels",
    [
        *([(0.5, ROOM_DB), (1.0, VOICE_DB), (0.5, VOICE_DB - softer_db)] for softer_db in (0, 6, 12, 16)),
        *([(1.0, VOICE_DB - noisy_db), (1.0, VOICE_DB), (1.0, VOICE_DB - noisy_db)] for noisy_db in (6, 10, 15)),
        [(0.5, ROOM_DB), (0.6, VOICE_DB), (0.03, ROOM_DB), (0.6, VOICE_DB)],  # the closure of a consonant
    ],
)
def test_softer_speech_and_noisy_rooms_and_consonants_are_no_pause(levels: list[tuple[float, float]]) -> None:
    assert begins_at(sounds(*levels)) == []


@settings(max_examples=25)
@given(st.lists(st.integers(0, 4000), max_size=40))
def test_chunks_make_no_difference(sizes: list[int]) -> None:
    pcm = sounds((0.5, ROOM_DB), (0.6, VOICE_DB), (0.12, ROOM_DB))
    quiet, at = PauseDetector(), 0
    for size in [*sizes, len(pcm)]:
        quiet.feed(pcm[at : at + size])
        at += size
    assert quiet.paused
