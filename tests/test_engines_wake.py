"""The wake word engines with their real models: what both promise, and each against its reference implementation."""

import asyncio
import functools
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pymicro_wakeword
import pyopen_wakeword
import pytest

from satellite.audio.pcm import BYTES_PER_SECOND, RATE, read_wav
from satellite.config.settings import WakeSettings
from satellite.engines.protocols import Detection, WakeWord
from satellite.engines.wake.common import Floats
from satellite.engines.wake.microwakeword import MicroWakeWordEngine
from satellite.engines.wake.openwakeword import OpenWakeWordEngine, openwakeword_files
from satellite.engines.worker import Worker
from satellite.errors import Stage, WakeWordError
from satellite.models.catalogue import WAKE_WORDS

DATA = Path(__file__).parent / "data" / "wake"
SPOKEN = ("okay_nabu", "hey_jarvis", "alexa")
RECORDINGS = (*SPOKEN, "not_a_wake_word_computer")

PROGRAMS = [pytest.param("openwakeword", marks=pytest.mark.models), "microwakeword"]
FIRST_SAMPLES = {"openwakeword": 480, "microwakeword": 800}
HOP_SAMPLES = {"openwakeword": 1280, "microwakeword": 480}
MICRO_MODELS = Path(pymicro_wakeword.__file__).parent / "models"

Engine = OpenWakeWordEngine | MicroWakeWordEngine
Load = Callable[..., Engine]
"""Returns a loaded engine for the settings of `wake` that are given by name."""


def recording(name: str) -> bytes:
    """Return a recording's PCM, or three seconds of loud white noise."""
    if name == "white":
        return np.random.default_rng(1).integers(-20_000, 20_000, 3 * RATE).astype(np.int16).tobytes()
    return read_wav(DATA / f"{name}.wav")


def speech_like_noise() -> bytes:
    """Return four seconds of noise with the spectrum of speech, in syllables with pauses."""
    random = np.random.default_rng(2)
    seconds = np.arange(4 * RATE) / RATE
    hertz = np.fft.rfftfreq(len(seconds), 1 / RATE)
    formants = sum(np.exp(-(((hertz - centre) / 200) ** 2)) for centre in (500, 1500, 2500)) + 0.02
    noise = np.fft.irfft(np.fft.rfft(random.standard_normal(len(seconds))) * formants, len(seconds))
    syllables = np.clip(np.sin(2 * np.pi * 2 * seconds), 0, None) * (np.sin(2 * np.pi * 0.4 * seconds) > -0.3)
    return np.asarray(noise * syllables / np.abs(noise).max() * 30_000, np.int16).tobytes()


SOUNDS = {name: recording(name) for name in (*RECORDINGS, "white")} | {"speech-like": speech_like_noise()}


def unloaded(program: str, models: Path, **wake: object) -> tuple[Engine, Worker]:
    settings, worker = WakeSettings.model_validate(wake), Worker(Stage.WAKE)
    if program == "microwakeword":
        return MicroWakeWordEngine(settings, worker), worker
    return OpenWakeWordEngine(settings, models, WAKE_WORDS["openwakeword"], worker), worker


@contextmanager
def loader(program: str, models: Path) -> Iterator[Load]:
    """Load engines whose threads end with the context."""
    workers: list[Worker] = []

    def load(**wake: object) -> Engine:
        engine, worker = unloaded(program, models, **wake)
        workers.append(worker)
        engine.load()
        return engine

    yield load
    for worker in workers:
        worker.close()


@pytest.fixture(params=PROGRAMS, scope="module")
def program(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def models(program: str, request: pytest.FixtureRequest) -> Path:
    """The folder with the engine's models; microWakeWord's come with its package."""
    if program == "microwakeword":
        return MICRO_MODELS
    return Path(request.getfixturevalue("models_directory")) / "wake" / "openwakeword"


@pytest.fixture(scope="module")
def load(program: str, models: Path) -> Iterator[Load]:
    with loader(program, models) as load:
        yield load


@pytest.fixture(scope="module")
def words(program: str) -> list[str]:
    return list(WAKE_WORDS[program])


@pytest.fixture(scope="module")
def usual(load: Load) -> Engine:
    return load()


def names(engine: Engine) -> set[str]:
    return {word.name for word in engine.words}


async def detect(engine: Engine, pcm: bytes, names: Sequence[str] | None, chunk: int = 2048) -> list[Detection]:
    """Return the detections of a new stream in `pcm`, fed in chunks of `chunk` bytes."""
    stream = await engine.stream(names)
    return [found for at in range(0, len(pcm), chunk) for found in await stream.feed(pcm[at : at + chunk])]


def heard(engine: Engine, pcm: bytes, names: Sequence[str] | None, chunk: int = 2048) -> list[str]:
    return [detection.name for detection in asyncio.run(detect(engine, pcm, names, chunk))]


def scores(engine: Engine, pcm: bytes, names: Sequence[str]) -> Floats:
    """Return the scores of all whole frames of `pcm`."""
    scorer = engine.scorer(names)
    frames = (len(pcm) // 2 - scorer.first_samples) // scorer.hop_samples
    return scorer.scores(pcm[: 2 * (scorer.first_samples + frames * scorer.hop_samples)])


@functools.cache
def reference_embeddings(pcm: bytes) -> list[Floats]:
    """Return the embeddings of openWakeWord's reference, those of the silence before the stream first."""
    features = pyopen_wakeword.OpenWakeWordFeatures.from_builtin()
    chunks = [pcm[at : at + 2048] for at in range(0, len(pcm), 2048)]
    return [embedding for chunk in chunks for embedding in features.process_streaming(chunk)]


def reference_scores(program: str, pcm: bytes, word: str, frames: int) -> Floats:
    """Return the scores of the engine's reference implementation."""
    if program == "microwakeword":
        micro = pymicro_wakeword.MicroWakeWord.from_builtin(pymicro_wakeword.Model(word))
        features = pymicro_wakeword.MicroWakeWordFeatures().process_streaming(pcm)
        return np.array([micro.process_streaming_prob(feature) for feature in features][2::3][:frames], np.float32)
    model = pyopen_wakeword.OpenWakeWord.from_builtin(pyopen_wakeword.Model(word))
    found = [score for embedding in reference_embeddings(pcm) for score in model.process_streaming(embedding)]
    return np.array(found[-frames:], np.float32)


def put_alexa(models: Path, folder: Path, name: str, **changes: Any) -> Path:
    """Install the model of “alexa” as a custom word, its manifest changed; return its network."""
    if models == MICRO_MODELS:
        content = json.loads((models / "alexa.json").read_text("utf-8"))
        content["model"] = f"{name}.tflite"
        content["micro"].update(changes)
        (folder / f"{name}.json").write_text(json.dumps(content), "utf-8")
    return Path(shutil.copy(models / "alexa.tflite", folder / f"{name}.tflite"))


@pytest.mark.parametrize("name", SOUNDS)
def test_every_score_equals_the_references(usual: Engine, program: str, words: list[str], name: str) -> None:
    pcm = SOUNDS[name]
    ours = scores(usual, pcm, words)
    assert len(ours) > 20
    for column, word in enumerate(words):
        theirs = reference_scores(program, pcm, word, len(ours))
        assert np.abs(ours[:, column] - theirs).max() < (1e-4 if program == "openwakeword" else 1e-3)


@pytest.mark.parametrize("name", RECORDINGS)
def test_each_word_is_detected_once_and_only_where_it_is_said(usual: Engine, words: list[str], name: str) -> None:
    assert heard(usual, recording(name), words, 2561) == [name] * (name in SPOKEN)


def test_a_detection_says_where_its_frame_ends(usual: Engine, program: str) -> None:
    pcm = recording("hey_jarvis")
    ((found,), (again,)) = (asyncio.run(detect(usual, pcm, ["hey_jarvis"], size)) for size in (320, 10**6))
    assert found == again
    assert 0.5 < found.seconds <= len(pcm) / BYTES_PER_SECOND
    assert (found.seconds * RATE - FIRST_SAMPLES[program]) % HOP_SAMPLES[program] == 0


async def test_concurrent_streams_do_not_mix(usual: Engine, words: list[str]) -> None:
    found = await asyncio.gather(*(detect(usual, recording(name), words, 1000) for name in RECORDINGS))
    assert [[detection.name for detection in own] for own in found] == [*([name] for name in SPOKEN), []]


def test_a_stream_survives_a_gap(usual: Engine, program: str) -> None:
    scorer, frame = usual.scorer(["alexa"]), 2 * HOP_SAMPLES[program]
    pcm = recording("alexa")
    starts = range(0, len(pcm) - frame + 1, frame)
    rows = [row for at in starts for row in scorer.scores(pcm[at : at + frame])]
    # microWakeWord's first frame needs more audio than the following ones.
    assert len(rows) == len(starts) - (program == "microwakeword")
    assert max(row[0] for row in rows) > 0.5


@pytest.mark.parametrize(("refractory_seconds", "times"), [(2.0, 2), (30, 1)])
def test_each_word_is_ignored_for_its_own_refractory_time(
    load: Load, words: list[str], refractory_seconds: float, times: int
) -> None:
    pcm = b"".join(map(recording, SPOKEN * 2))
    assert heard(load(refractory_seconds=refractory_seconds), pcm, words) == [*SPOKEN] * times


def test_words_have_their_phrases(usual: Engine, program: str, models: Path) -> None:
    engine, _ = unloaded(program, models)
    assert {word.name: word.phrase for word in engine.words} == WAKE_WORDS[program]
    assert all("en" in word.languages for word in engine.words)
    assert engine.words == usual.words


async def test_unknown_words_and_an_unloaded_engine_are_errors(usual: Engine, program: str, models: Path) -> None:
    engine, _ = unloaded(program, models)
    await engine.refresh()
    with pytest.raises(WakeWordError, match="okay_nabu") as unknown:
        await usual.stream(["ok_nabu"])
    with pytest.raises(WakeWordError) as not_ready:
        await engine.stream(None)
    assert (unknown.value.code, not_ready.value.code) == ("wake-unknown-word", "wake-not-ready")


async def test_a_custom_word_comes_and_goes_and_its_streams_stay(
    load: Load, words: list[str], models: Path, tmp_path: Path
) -> None:
    engine = load(custom_directory=tmp_path, words=("my_word",))
    with pytest.raises(WakeWordError):
        await engine.stream(None)
    network = put_alexa(models, tmp_path, "my_word")
    await engine.refresh()
    stream = await engine.stream(None)
    found: list[Detection] = await stream.feed(recording("alexa")[:20_000])
    network.write_bytes(b"")
    await engine.refresh()
    network.unlink()
    await engine.refresh()
    found += await stream.feed(recording("alexa")[20_000:])
    assert [detection.name for detection in found] == ["my_word"]
    assert names(engine) == set(words)


@pytest.mark.parametrize("part", [0.0, 0.00001, 0.5, 0.99999])
def test_a_half_written_model_is_logged_once_and_used_when_it_is_whole(
    load: Load, models: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, part: float
) -> None:
    network = put_alexa(models, tmp_path, "mine")
    content = network.read_bytes()
    network.write_bytes(content[: int(part * len(content))])
    engine = load(custom_directory=tmp_path)
    asyncio.run(engine.refresh())
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "mine.tflite cannot be used" in warning
    assert engine.unusable == {"mine": warning.removeprefix("wake word mine: ")}
    assert heard(engine, recording("alexa"), ["alexa"]) == ["alexa"]
    network.write_bytes(content)
    asyncio.run(engine.refresh())
    assert heard(engine, recording("alexa"), ["mine"]) == ["mine"]


@pytest.mark.models
def test_a_custom_word_has_the_phrase_of_its_name_and_replaces_a_built_in_one(
    models_directory: Path, tmp_path: Path
) -> None:
    models = models_directory / "wake" / "openwakeword"
    for name in ("hey_jarvis", "my_word"):
        put_alexa(models, tmp_path, name)
    with loader("openwakeword", models) as load:
        engine = load(custom_directory=tmp_path)
        assert len(engine.words) == len(WAKE_WORDS["openwakeword"]) + 1
        assert engine.words[-1] == WakeWord("my_word", "my word", ())
        assert heard(engine, recording("alexa"), ["hey_jarvis"]) == ["hey_jarvis"]


def test_a_words_own_threshold_wins(load: Load, program: str, models: Path, tmp_path: Path) -> None:
    word, recorded, threshold = "okay_nabu", "okay_nabu", 0.99
    if program == "microwakeword":  # the cutoff of its model comes before the setting for all words
        word, recorded, threshold = "strict", "alexa", 0.01
        put_alexa(models, tmp_path, "strict", probability_cutoff=1.0)

    def found(**per_word: float) -> list[str]:
        engine = load(custom_directory=tmp_path, threshold=threshold, per_word={word: per_word})
        return heard(engine, recording(recorded), [word])

    assert (found(), found(threshold=0.9)) == ([], [word])


def mean_network(
    folder: Path, windows: int, outputs: int = 1, kind: str = "float", features: int = 96, name: str = "odd"
) -> None:
    """Write an ONNX classifier whose answer is the logistic of the mean of its input."""
    repeated = ", ".join(["probability"] * outputs)
    model = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["": 13]>
        mean ({kind}[1, {windows}, {features}] embeddings) => ({kind}[1, {outputs}] answer) {{
            mean = ReduceMean <axes = [1], keepdims = 0> (embeddings)
            single = ReduceMean <axes = [1], keepdims = 1> (mean)
            probability = Sigmoid (single)
            answer = Concat <axis = 1> ({repeated})
        }}""")
    onnx.save(model, folder / f"{name}.onnx")


@pytest.mark.models
@pytest.mark.parametrize("windows", [1, 16, 20])
def test_a_custom_onnx_word_gets_the_same_features(models_directory: Path, tmp_path: Path, windows: int) -> None:
    mean_network(tmp_path, windows, name="my_mean")
    pcm = recording("alexa")
    with loader("openwakeword", models_directory / "wake" / "openwakeword") as load:
        ours = scores(load(custom_directory=tmp_path), pcm, ["alexa", "my_mean"])
    embeddings = [embedding.reshape(96) for embedding in reference_embeddings(pcm)]
    means = [
        np.mean(embeddings[at - windows : at]) for at in range(len(embeddings) - len(ours) + 1, len(embeddings) + 1)
    ]
    assert np.abs(ours[:, 1] - 1 / (1 + np.exp(-np.array(means)))).max() < 1e-3
    assert np.abs(ours[:, 0] - reference_scores("openwakeword", pcm, "alexa", len(ours))).max() < 1e-3


def test_models_that_cannot_be_used_are_refused_with_the_reason(
    load: Load, words: list[str], program: str, models: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if program == "openwakeword":
        mean_network(tmp_path, 200, name="a")
        mean_network(tmp_path, 16, features=40, name="b")
        mean_network(tmp_path, 16, kind="double", name="c")
        mean_network(tmp_path, 16, outputs=3, name="d")
        shutil.copy(models / "embedding_model.tflite", tmp_path / "e.tflite")
        reasons = ["[1, 200, 96]", "[1, 16, 40]", "other than float32", "3 numbers, not one", "[1, 76, 32, 1]"]
    else:
        put_alexa(models, tmp_path, "a", feature_step_size=20)
        put_alexa(models, tmp_path, "b", sliding_window_size=0)
        put_alexa(models, tmp_path, "c", probability_cutoff=85)
        put_alexa(models, tmp_path, "d", probability_cutoff="high")
        put_alexa(models, tmp_path, "e", sliding_window_size=float("inf"))
        put_alexa(models, tmp_path, "f").write_bytes(b"TFL3" * 100)
        put_alexa(models, tmp_path, "g").with_suffix(".json").write_text('{"micro"', "utf-8")
        reasons = ["20 ms", "out of range", "out of range", "could not convert", "infinity", "f.tflite", "g.tflite"]
        assert openwakeword_files(tmp_path) == {}
    assert names(load(custom_directory=tmp_path)) == set(words)
    warnings = sorted(record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
    assert len(warnings) == len(reasons)
    for warning, reason in zip(warnings, reasons, strict=True):
        assert reason in warning
