"""openWakeWord with its real models, frame by frame against the reference implementation."""

import asyncio
import functools
import itertools
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pyopen_wakeword
import pytest
from onnx import TensorProto, helper

from satellite.audio.pcm import RATE
from satellite.config.settings import WakeSettings
from satellite.engines.wake.common import Floats, LiteRtModel
from satellite.engines.wake.mel_spectrogram import Mels
from satellite.engines.wake.openwakeword import OpenWakeWordEngine
from satellite.engines.worker import Worker
from satellite.errors import Stage, WakeWordError
from satellite.models.catalogue import WAKE_WORDS
from tests.wake_engines import RECORDINGS, Load, heard, loader, recording, scores

pytestmark = pytest.mark.models

WORDS = tuple(WAKE_WORDS["openwakeword"])
FIRST_BYTES, FRAME_BYTES = 960, 2560


def speech_like_noise() -> bytes:
    """Return four seconds of noise with the spectrum of speech, in syllables with pauses."""
    random = np.random.default_rng(2)
    seconds = np.arange(4 * RATE) / RATE
    hertz = np.fft.rfftfreq(len(seconds), 1 / RATE)
    formants = sum(np.exp(-(((hertz - centre) / 200) ** 2)) for centre in (500, 1500, 2500)) + 0.02
    noise = np.fft.irfft(np.fft.rfft(random.standard_normal(len(seconds))) * formants, len(seconds))
    syllables = np.clip(np.sin(2 * np.pi * 2 * seconds), 0, None) * (np.sin(2 * np.pi * 0.4 * seconds) > -0.3)
    samples = np.asarray(noise * syllables / np.abs(noise).max() * 30_000, np.int16)
    return samples.tobytes()


def clip(name: str) -> bytes:
    """Return a recording or a noise by name."""
    return speech_like_noise() if name == "speech_like" else recording(name)


@pytest.fixture(scope="module")
def models(models_directory: Path) -> Path:
    """The folder of the networks."""
    return models_directory / "wake" / "openwakeword"


@pytest.fixture(scope="module")
def load(models_directory: Path) -> Iterator[Load]:
    """Load an engine with settings of its own."""
    with loader("openwakeword", models_directory) as load:
        yield load


@pytest.fixture(scope="module")
def engine(load: Load) -> OpenWakeWordEngine:
    """The engine with the default settings."""
    loaded = load()
    assert isinstance(loaded, OpenWakeWordEngine)
    return loaded


@functools.cache
def reference_embeddings(pcm: bytes) -> list[Floats]:
    """Return the reference implementation's embeddings, those of the silence before the stream first."""
    features = pyopen_wakeword.OpenWakeWordFeatures.from_builtin()
    chunks = [pcm[at : at + 2048] for at in range(0, len(pcm), 2048)]
    return [embedding for chunk in chunks for embedding in features.process_streaming(chunk)]


def reference_scores(pcm: bytes, word: str) -> list[float]:
    """Return the reference implementation's scores, those of the silence before the stream first."""
    model = pyopen_wakeword.OpenWakeWord.from_builtin(pyopen_wakeword.Model(word))
    return [score for embedding in reference_embeddings(pcm) for score in model.process_streaming(embedding)]


@pytest.mark.parametrize("name", [*RECORDINGS, "white", "speech_like"])
def test_every_score_equals_the_references(engine: OpenWakeWordEngine, name: str) -> None:
    pcm = clip(name)
    ours = scores(engine, pcm, WORDS)
    assert len(ours) > 20
    for column, word in enumerate(WORDS):
        theirs = reference_scores(pcm, word)[-len(ours) :]
        assert np.abs(ours[:, column] - theirs).max() < 1e-4


def test_scores_do_not_depend_on_the_other_words(engine: OpenWakeWordEngine) -> None:
    pcm = recording("alexa")
    together = scores(engine, pcm, WORDS)
    for column, word in enumerate(WORDS):
        assert np.array_equal(scores(engine, pcm, [word])[:, 0], together[:, column])


def test_scores_do_not_depend_on_the_frames_of_a_call(engine: OpenWakeWordEngine) -> None:
    pcm = recording("alexa")[: FIRST_BYTES + 30 * FRAME_BYTES]
    scorer = engine.scorer(["alexa"])
    ends = [0, *(FIRST_BYTES + frames * FRAME_BYTES for frames in (0, 1, 2, 4, 7, 8, 20, 30))]
    pieces = [scorer.scores(pcm[begin:end]) for begin, end in itertools.pairwise(ends)]
    assert np.array_equal(np.concatenate(pieces), scores(engine, pcm, ["alexa"]))


def test_a_words_own_threshold_wins(load: Load) -> None:
    pcm = recording("okay_nabu")
    assert heard(load(threshold=0.99, per_word={"okay_nabu": {"threshold": 0.9}}), pcm, WORDS) == ["okay_nabu"]
    assert heard(load(per_word={"okay_nabu": {"threshold": 0.99}}), pcm, WORDS) == []


@pytest.mark.parametrize("count", [1, 2, 3, 6, 7])
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


@pytest.mark.parametrize("sound", [recording("okay_nabu"), recording("white"), speech_like_noise(), bytes(2 * RATE)])
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


def mean_network(file: Path, windows: int, outputs: int = 1, kind: int = TensorProto.FLOAT, features: int = 96) -> None:
    """Write an ONNX classifier whose answer is the logistic of the mean of its input."""
    source = helper.make_tensor_value_info("embeddings", kind, [1, windows, features])
    answer = helper.make_tensor_value_info("answer", kind, [1, outputs])
    nodes = [
        helper.make_node("ReduceMean", ["embeddings"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("ReduceMean", ["mean"], ["single"], axes=[1], keepdims=1),
        helper.make_node("Sigmoid", ["single"], ["probability"]),
        helper.make_node("Concat", ["probability"] * outputs, ["answer"], axis=1),
    ]
    graph = helper.make_graph(nodes, "mean", [source], [answer])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, file)


@pytest.mark.parametrize("windows", [1, 16, 20])
def test_a_custom_onnx_word_gets_the_same_features(load: Load, tmp_path: Path, windows: int) -> None:
    mean_network(tmp_path / "my_mean.onnx", windows)
    engine, pcm = load(custom_directory=tmp_path), recording("alexa")
    embeddings = [embedding.reshape(96) for embedding in reference_embeddings(pcm)]
    ours = scores(engine, pcm, ["alexa", "my_mean"])
    means = [
        np.mean(embeddings[at - windows : at]) for at in range(len(embeddings) - len(ours) + 1, len(embeddings) + 1)
    ]
    assert np.abs(ours[:, 1] - 1 / (1 + np.exp(-np.array(means)))).max() < 1e-3
    assert np.abs(ours[:, 0] - reference_scores(pcm, "alexa")[-len(ours) :]).max() < 1e-3


def test_a_changed_file_is_loaded_again(models: Path, load: Load, tmp_path: Path) -> None:
    file = tmp_path / "my_word.tflite"
    for name in ("alexa", "okay_nabu"):
        shutil.copy(models / f"{name}.tflite", file)
        os.utime(file, (1, 1))
        if name == "alexa":
            engine = load(custom_directory=tmp_path)
        asyncio.run(engine.refresh())
        assert heard(engine, recording(name), ["my_word"]) == ["my_word"]
    word = engine.words[-1]
    assert (word.name, word.phrase, word.languages) == ("my_word", "my word", ())


def test_a_custom_word_replaces_the_built_in_one_of_its_name(models: Path, load: Load, tmp_path: Path) -> None:
    shutil.copy(models / "alexa.tflite", tmp_path / "hey_jarvis.tflite")
    engine = load(custom_directory=tmp_path)
    assert len(engine.words) == len(WORDS)
    assert heard(engine, recording("alexa"), ["hey_jarvis"]) == ["hey_jarvis"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"windows": 200}, r"its input is \[1, 200, 96\]"),
        ({"windows": 16, "features": 40}, r"its input is \[1, 16, 40\]"),
        ({"windows": 16, "kind": TensorProto.DOUBLE}, "other than float32"),
        ({"windows": 16, "outputs": 3}, "3 numbers, not one probability"),
    ],
)
def test_a_network_that_is_no_wake_word_is_refused_with_the_reason(
    load: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture, options: dict[str, int], reason: str
) -> None:
    mean_network(tmp_path / "odd.onnx", **options)
    engine = load(custom_directory=tmp_path)
    assert {word.name for word in engine.words} == set(WORDS)
    assert re.search(reason, caplog.text)


def test_a_tflite_network_that_is_no_wake_word_is_refused(
    models: Path, load: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(models / "embedding_model.tflite", tmp_path)
    assert {word.name for word in load(custom_directory=tmp_path).words} == set(WORDS)
    assert "its input is [1, 76, 32, 1]" in caplog.text
