"""The daemon's own sounds: short, and taken for speech by nobody."""

from collections.abc import AsyncIterator

import numpy as np
import pytest

from satellite.audio.pcm import RATE, Converter, seconds_of
from satellite.engines.vad import WINDOW_SAMPLES, SileroVad
from satellite.engines.worker import Worker
from satellite.errors import Stage
from satellite.rooms.chimes import PLAIN, Cue, cue_sound


@pytest.fixture
async def vad() -> AsyncIterator[SileroVad]:
    worker = Worker(Stage.STT)
    vad = SileroVad(worker)
    vad.load()
    yield vad
    worker.close()


@pytest.mark.parametrize("cue", Cue)
@pytest.mark.parametrize("level", [1.0, 0.1])
async def test_a_cue_is_short_and_not_taken_for_speech(vad: SileroVad, cue: Cue, level: float) -> None:
    converter = Converter(PLAIN)
    pcm = converter.convert(cue_sound(cue)) + converter.flush()
    assert 0.1 < seconds_of(pcm) < 0.3
    sound = np.frombuffer(pcm, np.int16) * level
    room = np.random.default_rng(0).normal(0, 8, 2 * RATE // WINDOW_SAMPLES * WINDOW_SAMPLES)
    for at in range(8_000, 8_500, 100):
        heard = room.copy()
        heard[at : at + len(sound)] += sound
        assert max(await vad.stream().feed(heard.astype(np.int16).tobytes())) < 0.3


def test_cues_differ() -> None:
    assert len({cue_sound(cue) for cue in Cue}) == len(Cue)
