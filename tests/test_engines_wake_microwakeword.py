"""microWakeWord with the real models of its package, frame by frame against the reference implementation."""

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pymicro_wakeword
import pytest

from satellite.engines.wake.common import Floats
from satellite.engines.wake.openwakeword import openwakeword_files
from satellite.models.catalogue import WAKE_WORDS
from tests.wake_engines import RECORDINGS, Load, heard, loader, recording, scores

PACKAGE = Path(pymicro_wakeword.__file__).parent / "models"
WORDS = tuple(WAKE_WORDS["microwakeword"])


@pytest.fixture(scope="module")
def load() -> Iterator[Load]:
    """Load an engine with settings of its own."""
    with loader("microwakeword", Path("unused")) as load:
        yield load


def reference_scores(pcm: bytes, word: str) -> Floats:
    """Return the reference implementation's score for each three features."""
    features = pymicro_wakeword.MicroWakeWordFeatures().process_streaming(pcm)
    model = pymicro_wakeword.MicroWakeWord.from_builtin(pymicro_wakeword.Model(word))
    return np.array([model.process_streaming_prob(feature) for feature in features][2::3], np.float32)


def put_pair(directory: Path, name: str, source: str = "alexa", **changes: Any) -> None:
    """Put the model `source` of the package into `directory` as `name`, its manifest changed."""
    content = json.loads((PACKAGE / f"{source}.json").read_text("utf-8"))
    content["model"] = f"{name}.tflite"
    content["micro"].update(changes)
    shutil.copy(PACKAGE / f"{source}.tflite", directory / f"{name}.tflite")
    (directory / f"{name}.json").write_text(json.dumps(content), "utf-8")


@pytest.mark.parametrize("name", [*RECORDINGS, "white"])
def test_every_score_equals_the_references(load: Load, name: str) -> None:
    pcm = recording(name)
    ours = scores(load(), pcm, WORDS)
    assert len(ours) > 60
    for column, word in enumerate(WORDS):
        assert np.abs(ours[:, column] - reference_scores(pcm, word)[: len(ours)]).max() < 1e-3


def test_the_models_own_cutoff_holds_unless_the_word_has_a_threshold(load: Load, tmp_path: Path) -> None:
    put_pair(tmp_path, "strict", probability_cutoff=1.0)
    pcm = recording("alexa")
    assert heard(load(custom_directory=tmp_path, threshold=0.01), pcm, ["strict"]) == []
    assert heard(load(custom_directory=tmp_path, per_word={"strict": {"threshold": 0.9}}), pcm, ["strict"]) == [
        "strict"
    ]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"feature_step_size": 20}, "20 ms apart"),
        ({"sliding_window_size": 0}, "out of range"),
        ({"probability_cutoff": 85}, "out of range"),
        ({"probability_cutoff": "high"}, "could not convert"),
        ({"sliding_window_size": float("inf")}, "cannot convert float infinity"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused_with_the_reason(
    load: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture, changes: dict[str, Any], reason: str
) -> None:
    put_pair(tmp_path, "odd", **changes)
    assert {word.name for word in load(custom_directory=tmp_path).words} == set(WORDS)
    assert reason in caplog.text


def test_a_damaged_manifest_and_a_network_of_another_kind_are_refused(
    load: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put_pair(tmp_path, "torn")
    (tmp_path / "torn.json").write_text('{"micro"', "utf-8")
    put_pair(tmp_path, "odd")
    (tmp_path / "odd.tflite").write_bytes(b"TFL3" * 100)
    engine = load(custom_directory=tmp_path)
    assert {word.name for word in engine.words} == set(WORDS)
    assert [record.levelno for record in caplog.records].count(logging.WARNING) == 2
    assert openwakeword_files(tmp_path) == {}
