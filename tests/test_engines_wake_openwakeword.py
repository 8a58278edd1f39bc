"""What openWakeWord computes for many words and streams together is what it computes for each alone."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from satellite.audio.pcm import RATE
from satellite.config.settings import WakeSettings
from satellite.engines.wake.common import LiteRtModel
from satellite.engines.wake.mel_spectrogram import Mels
from satellite.engines.wake.openwakeword import OpenWakeWordEngine
from satellite.engines.worker import Worker
from satellite.errors import Stage, WakeWordError
from satellite.models.catalogue import WAKE_WORDS
from tests.test_engines_wake import RECORDINGS, SOUNDS, loader, recording, scores

pytestmark = pytest.mark.models

WORDS = tuple(WAKE_WORDS["openwakeword"])
FIRST_BYTES, FRAME_BYTES = 960, 2560


@pytest.fixture(scope="module")
def models(models_directory: Path) -> Path:
    """The folder of the networks."""
    return models_directory / "wake" / "openwakeword"


@pytest.fixture(scope="module")
def engine(models: Path) -> Iterator[OpenWakeWordEngine]:
    """The engine with the default settings."""
    with loader("openwakeword", models) as load:
        loaded = load()
        assert isinstance(loaded, OpenWakeWordEngine)
        yield loaded


def test_scores_depend_on_neither_the_other_words_nor_the_frames_of_a_call(engine: OpenWakeWordEngine) -> None:
    pcm = recording("alexa")[: FIRST_BYTES + 30 * FRAME_BYTES]
    together = scores(engine, pcm, WORDS)
    for column, word in enumerate(WORDS):
        assert np.array_equal(scores(engine, pcm, [word])[:, 0], together[:, column])
    scorer = engine.scorer(WORDS)
    ends = [0, *(FIRST_BYTES + frames * FRAME_BYTES for frames in (0, 1, 2, 4, 7, 8, 20, 30))]
    pieces = [scorer.scores(pcm[begin:end]) for begin, end in itertools.pairwise(ends)]
    assert np.array_equal(np.concatenate(pieces), together)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_streams_that_are_scored_together_score_as_alone(engine: OpenWakeWordEngine, count: int) -> None:
    clips = [recording(name)[FRAME_BYTES * number :] for number, name in zip(range(count), itertools.cycle(RECORDINGS))]
    alone, together = ([engine.scorer(["alexa", "okay_nabu"]) for _ in clips] for _ in range(2))
    for step in range(12):
        sizes = [FRAME_BYTES * ((step + number) % 3 + 1) for number in range(count)]
        taken = [clip[:size] for clip, size in zip(clips, sizes, strict=True)]
        clips = [clip[size:] for clip, size in zip(clips, sizes, strict=True)]
        found = together[0].features.scores(list(zip(together, taken, strict=True)))
        for scorer, pcm, scores_ in zip(alone, taken, found, strict=True):
            assert np.allclose(scorer.scores(pcm), scores_, rtol=0, atol=1e-6)


def test_a_long_stream_takes_no_more_memory(engine: OpenWakeWordEngine) -> None:
    scorer = engine.scorer(WORDS)

    def kept_bytes() -> int:
        lists = [value if isinstance(value, list) else [value] for value in vars(scorer).values()]
        return sum(value.nbytes for values in lists for value in values if isinstance(value, np.ndarray))

    scorer.scores(bytes(FIRST_BYTES))
    before = kept_bytes()
    scorer.scores(bytes(FRAME_BYTES * 50))
    assert kept_bytes() == before < 100_000


@pytest.mark.parametrize("sound", [*(SOUNDS[name] for name in ("okay_nabu", "white", "speech-like")), bytes(2 * RATE)])
def test_the_mel_frames_are_those_of_the_network(models: Path, sound: bytes) -> None:
    file = models / "melspectrogram.tflite"
    network, mels = LiteRtModel(file.read_bytes(), (1, 1760)), Mels(file)
    samples = np.frombuffer(sound, np.int16).astype(np.float32)
    windows = np.stack([samples[start : start + 1760] for start in range(0, len(samples) - 1760, 1280)])
    references = [network.run(window[None])[0][0, 0] / 10 + 2 for window in windows]
    assert np.abs(mels(windows) - references).max() < 1e-5


@pytest.mark.parametrize("name", ["embedding_model", "okay_nabu"])
def test_mel_frames_of_another_network_are_refused(models: Path, name: str) -> None:
    with pytest.raises(ValueError, match="constants are not those of a mel spectrogram"):
        Mels(models / f"{name}.tflite")


def test_missing_networks_are_named(tmp_path: Path) -> None:
    (tmp_path / "melspectrogram.tflite").touch()
    with pytest.raises(WakeWordError, match=r"lacks embedding_model\.tflite") as caught:
        OpenWakeWordEngine(WakeSettings(), tmp_path, WAKE_WORDS["openwakeword"], Worker(Stage.WAKE)).load()
    assert caught.value.code == "wake-not-ready"
