"""Simulated homes, and what is made of who answers in them."""

import numpy as np
import pytest
from satellite_bench.arbitration import RULES, Claim, Figures, Measuring, decided, lines
from satellite_bench.arbitration_scenes import Scene, Utterance, Voice, impulse, scene

from satellite.audio.pcm import RATE, to_float

HUM = Utterance(np.sin(np.arange(2 * RATE) * 0.2), "turn on the light")
BEST, FIRST, BOTH = RULES[:3]


class Whisper:
    """Understands what is loud."""

    def text(self, pcm: bytes, language: str | None = None) -> str:
        return "turn on the light" if np.abs(to_float(pcm)).max() > 0.1 else "turn on"


def claims(*of: tuple[int, float, float]) -> list[Claim]:
    return [Claim(room, at, quality, 3.5) for room, at, quality in of]


@pytest.mark.parametrize(
    ("rule", "rooms", "handed_over"),
    [(BEST, [1, 2], 1), (FIRST, [0], 0), (BOTH, [1], 1)],
)
def test_rules_decide_by_the_arbiter_of_the_daemon(rule: object, rooms: list[int], handed_over: int) -> None:
    found = decided(rule, claims((0, 0.0, 5), (1, 0.2, 9), (2, 0.5, 20)))  # type: ignore[arg-type]
    assert ([claim.room for claim in found[0]], found[1]) == (rooms, handed_over)


@pytest.mark.parametrize("voices", [1, 2])
def test_a_home_is_the_same_in_every_run_and_loudest_where_somebody_calls(voices: int) -> None:
    def made() -> list[Scene]:
        chance = np.random.default_rng(1)
        return [scene(chance, [HUM], np.zeros(RATE) + 0.01, voices=voices) for _ in range(6)]

    homes = made()
    assert homes == made()
    for home in homes:
        assert len({voice.room for voice in home.voices}) == voices
        assert all(0 <= delay <= 0.15 for delay in home.delays_seconds)
        levels = [np.abs(to_float(pcm)).max() for pcm in home.heard]
        assert voices == 2 or len(levels) >= 2


def test_sound_falls_with_the_distance_and_behind_doors() -> None:
    def energy(metres: float, through: float) -> float:
        return float(np.sum(impulse(np.random.default_rng(1), metres, 0.4, through) ** 2))

    assert energy(1, 1) > energy(2, 1) > energy(4, 1) > energy(4, 0.3) > energy(4, 0.1)


def test_calls_are_judged_by_the_room_of_the_caller() -> None:
    loud, soft = (np.full(8 * RATE, level, np.int16).tobytes() for level in (9000, 90))
    home = Scene((Voice(0, 2.5, HUM),), (loud, soft), (0.0, 0.0))
    figures = [Figures(rule.name) for rule in RULES]
    measuring = Measuring(Whisper())  # type: ignore[arg-type]
    measuring.add(1, home, claims((1, 0.0, 3), (0, 0.4, 9)), figures)
    measuring.add(2, home, claims((1, 0.0, 3)), figures)
    best, first = (one.described() for one in figures[:2])
    assert (best["calls"], best["wrong_room"], best["double"], best["wer_percent"]) == (1, 0, 1, 0.0)
    assert (first["calls"], first["wrong_room"], first["double"], first["wer_percent"]) == (1, 1, 0, 50.0)
    assert measuring.unheard == 1
    assert "| best signal, 0.3 s | 1 | 0 | 0 | 1 | 0 | 0.0 | 400 | 400 |" in "\n".join(lines({"voices_1": [best]}))
