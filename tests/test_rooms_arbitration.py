"""Which room answers, and how well each of them hears."""

import numpy as np
import pytest

from satellite.rooms.arbitration import Arbiter, Loudness
from tests.virtual_clock import ManualClock


def test_the_room_that_hears_best_has_the_call() -> None:
    lost: list[str] = []
    clock = ManualClock(0.0)
    arbiter = Arbiter(0.3, now=clock)

    def claim(room: str, quality_db: float, word: str = "okay_nabu") -> bool:
        return arbiter.claim(room, word, quality_db, lambda: lost.append(room))

    assert claim("hall", 15)
    assert claim("hall", 10)
    assert lost == []
    clock.now = 0.1
    assert not claim("attic", 5)
    assert claim("kitchen", 20)
    assert lost == ["hall"]
    assert (arbiter.call_seconds("okay_nabu"), arbiter.call_seconds("alexa")) == (0.1, 0)
    assert claim("bedroom", 1, "alexa")
    clock.now = 0.29
    assert not claim("hall", 20)
    clock.now = 0.71
    assert claim("attic", 5)
    assert lost == ["hall"]


@pytest.mark.parametrize(("noise", "speech", "db"), [(50, 500, 20), (500, 5000, 20), (500, 1000, 6)])
def test_loudness_is_speech_against_the_rooms_own_noise(noise: float, speech: float, db: float) -> None:
    random = np.random.default_rng(1)
    loudness = Loudness()
    assert loudness.speech_to_noise_db == float("-inf")
    sound = np.concatenate([random.normal(0, noise, 80_000), random.normal(0, speech, 12_000)]).astype(np.int16)
    for at in range(0, len(sound), 1000):
        loudness.feed(sound[at : at + 1000].tobytes())
    assert loudness.speech_to_noise_db == pytest.approx(db, abs=1)


@pytest.mark.parametrize(("at", "answers"), [(0.31, False), (0.69, False), (0.71, True)])
def test_a_room_that_hears_the_call_late_stands_down_however_well_it_hears(at: float, answers: bool) -> None:
    clock = ManualClock(0.0)
    arbiter = Arbiter(0.3, now=clock)
    lost: list[str] = []
    assert arbiter.claim("hall", "okay_nabu", 5, lambda: lost.append("hall"))
    clock.now = at
    assert arbiter.claim("kitchen", "okay_nabu", 50, lambda: lost.append("kitchen")) is answers
    assert arbiter.claim("hall", "okay_nabu", 5, lambda: lost.append("hall")) is not answers
    assert arbiter.claim("attic", "alexa", 5, lambda: lost.append("attic"))
    assert lost == []


def test_without_a_window_every_room_answers() -> None:
    arbiter = Arbiter(0.0, now=ManualClock(0.0))
    assert all(arbiter.claim(room, "okay_nabu", 5, lambda: None) for room in ("hall", "kitchen", "attic"))
