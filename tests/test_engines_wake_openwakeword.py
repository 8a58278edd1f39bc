"""What openWakeWord computes for many words and streams together is what it computes for each alone."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from satellite.config.settings import WakeSettings
from satellite.engines.wake.common import Floats
from satellite.engines.wake.mel_spectrogram import Mels
from satellite.engines.wake.openwakeword import OpenWakeWordEngine
from satellite.engines.worker import Worker
from satellite.errors import Stage, WakeWordError
from satellite.models.catalogue import WAKE_WORDS
from tests.test_engines_wake import RECORDINGS, loader, recording, scores

pytestmark = pytest.mark.models

WORDS = tuple(WAKE_WORDS["openwakeword"])
FIRST_BYTES, FRAME_BYTES = 960, 2560


@pytest.fixture(scope="module")
def models(models_directory: Path) -> Path:
    return models_directory / "wake" / "openwakeword"


@pytest.fixture(scope="module")
def engine(models: Path) -> Iterator[OpenWakeWordEngine]:
    with loader("openwakeword", models) as load:
        loaded = load()
        assert isinstance(loaded, OpenWakeWordEngine)
        yield loaded


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_streams_that_are_scored_together_piece_by_piece_score_as_each_alone(
    engine: OpenWakeWordEngine, count: int
) -> None:
    clips = [recording(name)[FRAME_BYTES * number :] for number, name in zip(range(count), itertools.cycle(RECORDINGS))]
    words = ["alexa", "okay_nabu"]
    scorers = [engine.scorer(words) for _ in clips]
    found: list[list[Floats]] = [[] for _ in clips]
    ends = [FIRST_BYTES] * count
    pieces = [clip[:FIRST_BYTES] for clip in clips]
    for step in range(12):
        for number, rows in enumerate(scorers[0].features.scores(list(zip(scorers, pieces, strict=True)))):
            found[number].append(rows)
        begins = ends
        ends = [begin + FRAME_BYTES * ((step + number) % 3 + 1) for number, begin in enumerate(begins)]
        pieces = [clip[begin:end] for clip, begin, end in zip(clips, begins, ends, strict=True)]
    for clip, rows_found in zip(clips, found, strict=True):
        together = np.concatenate(rows_found)
        for column, word in enumerate(words):
            alone = scores(engine, clip, [word])[: len(together), 0]
            assert np.allclose(alone, together[:, column], rtol=0, atol=1e-6)


def test_a_long_stream_takes_no_more_memory(engine: OpenWakeWordEngine) -> None:
    scorer = engine.scorer(WORDS)

    def kept_bytes() -> int:
        lists = [value if isinstance(value, list) else [value] for value in vars(scorer).values()]
        return sum(value.nbytes for values in lists for value in values if isinstance(value, np.ndarray))

    scorer.scores(bytes(FIRST_BYTES))
    before = kept_bytes()
    scorer.scores(bytes(FRAME_BYTES * 50))
    assert kept_bytes() == before < 100_000


@pytest.mark.parametrize("name", ["embedding_model", "okay_nabu"])
def test_mel_frames_of_another_network_are_refused(models: Path, name: str) -> None:
    with pytest.raises(ValueError, match="constants are not those of a mel spectrogram"):
        Mels(models / f"{name}.tflite")


def test_missing_networks_are_named(tmp_path: Path) -> None:
    (tmp_path / "melspectrogram.tflite").touch()
    with pytest.raises(WakeWordError, match=r"lacks embedding_model\.tflite") as caught:
        OpenWakeWordEngine(WakeSettings(), tmp_path, WAKE_WORDS["openwakeword"], Worker(Stage.WAKE)).load()
    assert caught.value.code == "wake-not-ready"
