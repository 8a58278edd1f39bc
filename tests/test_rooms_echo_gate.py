"""Calls between rooms whose microphones hear their loudspeakers, in simulated acoustic loops."""

from collections import deque

import numpy as np
import pytest

from satellite.rooms.echo_gate import EchoGate

RATE = 16_000
PIECE = 320
NETWORK_SECONDS = 0.06
SPEECH_DB = -26.0
COUPLINGS = (-20.0, -6.0, 0.0, 6.0)


def level_db(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean((samples / 32768.0) ** 2) + 1e-12))


def speech(seconds: float, db: float = SPEECH_DB, seed: int = 1) -> np.ndarray:
    """Return noise with syllables, and a pause after each second and a half."""
    at = np.arange(round(seconds * RATE)) / RATE
    noise = np.random.default_rng(seed).normal(size=len(at)) * (0.15 + np.sin(np.pi * 4 * at) ** 2) * (at % 1.9 < 1.5)
    scaled: np.ndarray = noise / np.sqrt(np.mean(noise**2)) * 32768 * 10 ** (db / 20)
    return scaled


class Loop:
    """Two rooms, in each of which the microphone hears what is said there and the loudspeaker, `delay` later."""

    def __init__(self, coupling_db: float, delay: float, *, gated: bool = True) -> None:
        self.factor = 10 ** (coupling_db / 20)
        self.gates = [EchoGate(), EchoGate()] if gated else []
        self.air = [deque([np.zeros(PIECE)] * round(delay * RATE / PIECE)) for _ in range(2)]
        self.wire = [deque([np.zeros(PIECE)] * round(NETWORK_SECONDS * RATE / PIECE)) for _ in range(2)]
        self.noise = np.random.default_rng(9)

    def chime(self) -> None:
        """Begin the call, as calls begin: with a sound in both rooms."""
        tone = np.sin(np.arange(30 * PIECE) / 3) * 3000
        for wire in self.wire:
            wire.extendleft(np.split(tone, 30))
        self.run(np.zeros(2 * RATE), np.zeros(2 * RATE))
        for wire in self.wire:
            for _ in range(30):
                wire.popleft()

    def run(self, *said: np.ndarray) -> list[np.ndarray]:
        """Return what each of the two loudspeakers plays while this is said in the rooms."""
        played: list[list[np.ndarray]] = [[], []]
        for at in range(0, len(said[0]) - PIECE + 1, PIECE):
            for room in range(2):
                sound = self.wire[room].popleft()
                played[room].append(sound)
                self.air[room].append(sound * self.factor)
                heard = said[room][at : at + PIECE] + self.air[room].popleft() + self.noise.normal(size=PIECE) * 20
                pcm = heard.clip(-32768, 32767).astype(np.int16).tobytes()
                if self.gates:
                    self.gates[room].play(sound.astype(np.int16).tobytes())
                    pcm = self.gates[room].hear(pcm)
                self.wire[1 - room].append(np.frombuffer(pcm, np.int16).astype(float))
        return [np.concatenate(one) for one in played]


@pytest.mark.parametrize("delay", [0.05, 0.15, 0.3])
@pytest.mark.parametrize("coupling_db", COUPLINGS)
def test_what_goes_around_never_grows(coupling_db: float, delay: float) -> None:
    loop = Loop(coupling_db, delay)
    talk, quiet = speech(4), np.zeros(4 * RATE)
    for _ in range(2):
        _, heard = loop.run(talk, quiet)
        assert level_db(heard) < SPEECH_DB + 3
        rest = [level_db(one) for one in loop.run(quiet, quiet)]
        assert max(rest) < SPEECH_DB - 10
        assert max(level_db(one) for one in loop.run(quiet, quiet)) < -50


def test_without_the_gate_it_does() -> None:
    loop = Loop(6, 0.15, gated=False)
    loop.run(speech(4), np.zeros(4 * RATE))
    assert max(level_db(one) for one in loop.run(np.zeros(4 * RATE), np.zeros(4 * RATE))) > -10


@pytest.mark.parametrize("delay", [0.05, 0.3])
@pytest.mark.parametrize("coupling_db", COUPLINGS)
def test_nobody_hears_themselves(coupling_db: float, delay: float) -> None:
    loop = Loop(coupling_db, delay)
    loop.chime()
    own, heard = loop.run(speech(6), np.zeros(6 * RATE))
    assert level_db(heard) > SPEECH_DB + min(0, -3 - coupling_db) - 3
    assert level_db(own) < SPEECH_DB - 15


@pytest.mark.parametrize(("coupling_db", "louder_db"), [(-20, 0), (-6, 0), (0, 6), (6, 12)])
def test_who_speaks_at_the_same_time_is_heard(coupling_db: float, louder_db: float) -> None:
    loop = Loop(coupling_db, 0.15)
    loop.chime()
    said = speech(6, SPEECH_DB + louder_db, seed=2)
    own, _ = loop.run(speech(6), said)
    late = round((NETWORK_SECONDS) * RATE)
    passed = np.dot(own[late:], said[:-late]) / np.dot(said, said)
    assert 20 * np.log10(passed) > min(0, -3 - coupling_db) - 6


def test_a_room_that_is_quiet_while_the_other_is_too_is_passed_unchanged() -> None:
    gate = EchoGate()
    for _ in range(100):
        gate.play(speech(0.02).astype(np.int16).tobytes())
        gate.hear(bytes(2 * PIECE))
    for _ in range(60):
        gate.hear(bytes(2 * PIECE))
    said = speech(1).astype(np.int16).tobytes()
    assert gate.hear(said) == said


def test_what_is_played_to_a_muted_microphone_is_forgotten() -> None:
    gate = EchoGate()
    for _ in range(100):
        gate.play(bytes(2 * RATE))
    assert len(gate._far) <= 1024
