"""microWakeWord with the real models of its package, frame by frame against the reference implementation."""

import asyncio
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pymicro_wakeword
import pytest

from satellite.audio.pcm import BYTES_PER_SECOND, RATE, read_wav
from satellite.config.settings import WakeSettings
from satellite.engines.protocols import Detection
from satellite.engines.wake.common import Floats
from satellite.engines.wake.microwakeword import MicroWakeWordEngine
from satellite.engines.wake.openwakeword import openwakeword_files
from satellite.engines.worker import Worker
from satellite.errors import Stage, WakeWordError

DATA = Path(__file__).parent / "data" / "wake"
PACKAGE = Path(pymicro_wakeword.__file__).parent / "models"
WORDS = ("okay_nabu", "hey_jarvis", "alexa", "hey_mycroft")
SPOKEN = ("okay_nabu", "hey_jarvis", "alexa")
RECORDINGS = (*SPOKEN, "not_a_wake_word_computer")
FIRST_BYTES, FRAME_BYTES = 1600, 960

Load = Callable[..., MicroWakeWordEngine]


def recording(name: str) -> bytes:
    """Return a recording's PCM, or three seconds of loud white noise."""
    if name == "white":
        return np.random.default_rng(1).integers(-20_000, 20_000, 3 * RATE).astype(np.int16).tobytes()
    return read_wav(DATA / f"{name}.wav")


@pytest.fixture
def load() -> Iterator[Load]:
    """Make a loaded engine out of settings of `wake`."""
    workers: list[Worker] = []

    def loaded(**wake: object) -> MicroWakeWordEngine:
        workers.append(Worker(Stage.WAKE))
        engine = MicroWakeWordEngine(WakeSettings.model_validate(wake), workers[-1])
        asyncio.run(workers[-1].run(engine.load))
        return engine

    yield loaded
    for worker in workers:
        worker.close()


async def detect(engine: MicroWakeWordEngine, pcm: bytes, names: Sequence[str] | None, chunk: int) -> list[Detection]:
    """Return what a new stream hears in `pcm`, fed in chunks of `chunk` bytes."""
    stream = await engine.stream(names)
    return [found for at in range(0, len(pcm), chunk) for found in await stream.feed(pcm[at : at + chunk])]


def heard(engine: MicroWakeWordEngine, pcm: bytes, names: Sequence[str] | None = WORDS, chunk: int = 2048) -> list[str]:
    """Return the names of the words that are heard in `pcm`."""
    return [detection.name for detection in asyncio.run(detect(engine, pcm, names, chunk))]


def scores(engine: MicroWakeWordEngine, pcm: bytes, names: Sequence[str]) -> Floats:
    """Return the scores of all whole frames of `pcm`."""
    whole = (len(pcm) - FIRST_BYTES) // FRAME_BYTES * FRAME_BYTES + FIRST_BYTES
    return engine.scorer(names).scores(pcm[:whole])


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
    """All words, all frames, although another library runs the networks."""
    pcm = recording(name)
    ours = scores(load(), pcm, WORDS)
    assert len(ours) > 60
    for column, word in enumerate(WORDS):
        assert np.abs(ours[:, column] - reference_scores(pcm, word)[: len(ours)]).max() < 1e-3


@pytest.mark.parametrize("chunk", [320, 2561, BYTES_PER_SECOND * 10])
@pytest.mark.parametrize("name", RECORDINGS)
def test_each_word_is_heard_once_and_only_where_it_is_said(load: Load, name: str, chunk: int) -> None:
    """All four words listen; one fires, once, or none."""
    assert heard(load(), recording(name), WORDS, chunk) == [name] * (name in SPOKEN)


def test_a_detection_says_where_its_frame_ends(load: Load) -> None:
    """The place is a frame's end within the recording, the same for all chunk sizes."""
    engine, pcm = load(), recording("hey_jarvis")
    ((found,), (again,)) = (asyncio.run(detect(engine, pcm, ["hey_jarvis"], size)) for size in (640, 10**6))
    assert found == again
    assert 0.5 < found.seconds <= len(pcm) / BYTES_PER_SECOND
    assert (found.seconds * RATE - 800) % 480 == 0


def test_streams_at_once_do_not_mix(load: Load) -> None:
    """The networks remember, so each stream has its own."""
    engine = load()

    async def all_at_once() -> list[list[Detection]]:
        return await asyncio.gather(*(detect(engine, recording(name), WORDS, 1000) for name in RECORDINGS))

    assert [[detection.name for detection in own] for own in asyncio.run(all_at_once())] == [
        *([name] for name in SPOKEN),
        [],
    ]


def test_a_stream_goes_on_after_a_gap(load: Load) -> None:
    """Where a call's audio was lost, even the first, the next is scored all the same."""
    scorer = load().scorer(["alexa"])
    rows = [
        len(scorer.scores(recording("alexa")[at : at + FRAME_BYTES])) for at in range(0, FRAME_BYTES * 20, FRAME_BYTES)
    ]
    assert sum(rows) == 19


def test_the_models_own_cutoff_holds_unless_the_word_has_a_threshold(load: Load, tmp_path: Path) -> None:
    """`wake.threshold` is for openWakeWord; a word's own setting wins over both."""
    put_pair(tmp_path, "strict", probability_cutoff=1.0)
    pcm = recording("alexa")
    assert heard(load(custom_directory=tmp_path, threshold=0.01), pcm, ["strict"]) == []
    assert heard(load(custom_directory=tmp_path, per_word={"strict": {"threshold": 0.9}}), pcm, ["strict"]) == [
        "strict"
    ]


@pytest.mark.parametrize(("refractory_seconds", "times"), [(1.0, 2), (3.0, 1)])
def test_a_word_is_silent_for_its_refractory_time(load: Load, refractory_seconds: float, times: int) -> None:
    """A word said twice within two seconds counts twice only if it may."""
    assert heard(load(refractory_seconds=refractory_seconds), recording("alexa") * 2) == ["alexa"] * times


def test_the_trigger_level_asks_for_frames_in_a_row(load: Load) -> None:
    """Three frames are 60 ms later than one."""
    one, three = (
        asyncio.run(detect(load(trigger_level=level), recording("alexa"), ["alexa"], 2048))[0].seconds
        for level in (1, 3)
    )
    assert three == pytest.approx(one + 0.06)


def test_words_say_what_a_person_says(load: Load) -> None:
    """Phrase and languages are those of the manifests, before and after loading."""
    unloaded = MicroWakeWordEngine(WakeSettings(), Worker(Stage.WAKE)).words
    assert {word.name: word.phrase for word in unloaded} == {
        "okay_nabu": "Okay Nabu",
        "hey_jarvis": "Hey Jarvis",
        "alexa": "Alexa",
        "hey_mycroft": "Hey Mycroft",
    }
    assert all("en" in word.languages for word in unloaded)
    assert unloaded == load().words


def test_unknown_words_and_an_unloaded_engine_are_errors(load: Load) -> None:
    """Both have stable codes; hey_rhasspy exists for openWakeWord only."""
    with pytest.raises(WakeWordError, match="hey_rhasspy") as unknown:
        asyncio.run(load().stream(["hey_rhasspy"]))
    engine = MicroWakeWordEngine(WakeSettings(), Worker(Stage.WAKE))
    asyncio.run(engine.refresh())
    with pytest.raises(WakeWordError) as unloaded:
        asyncio.run(engine.stream(None))
    assert (unknown.value.code, unloaded.value.code) == ("wake-unknown-word", "wake-not-ready")


def test_a_custom_word_comes_and_goes_and_its_streams_stay(load: Load, tmp_path: Path) -> None:
    """A pair of files is a word from the next refresh on; what is done to them touches no running stream."""
    engine = load(custom_directory=tmp_path)
    put_pair(tmp_path, "my_word")

    async def listen() -> list[Detection]:
        await engine.refresh()
        stream = await engine.stream(["my_word"])
        await stream.feed(recording("alexa")[:20_000])
        (tmp_path / "my_word.tflite").write_bytes(b"")
        await engine.refresh()
        (tmp_path / "my_word.tflite").unlink()
        await engine.refresh()
        return await stream.feed(recording("alexa")[20_000:])

    assert [detection.name for detection in asyncio.run(listen())] == ["my_word"]
    assert {word.name for word in engine.words} == set(WORDS)


@pytest.mark.parametrize("part", [0, 1, 100, 30_000, 55_855])
def test_a_half_written_model_is_logged_once_and_used_when_it_is_whole(
    load: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture, part: int
) -> None:
    """The process survives it, and openWakeWord does not try it either."""
    put_pair(tmp_path, "mine")
    model = tmp_path / "mine.tflite"
    content = model.read_bytes()
    model.write_bytes(content[:part])
    engine = load(custom_directory=tmp_path)
    asyncio.run(engine.refresh())
    assert [record.levelno for record in caplog.records].count(logging.WARNING) == 1
    assert "mine.tflite cannot be used" in caplog.text
    assert openwakeword_files(tmp_path) == {}
    model.write_bytes(content)
    asyncio.run(engine.refresh())
    assert heard(engine, recording("alexa"), ["mine"]) == ["mine"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"feature_step_size": 20}, "20 ms apart"),
        ({"sliding_window_size": 0}, "out of range"),
        ({"probability_cutoff": 85}, "out of range"),
        ({"probability_cutoff": "high"}, "could not convert"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused_with_the_reason(
    load: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture, changes: dict[str, Any], reason: str
) -> None:
    """Better no word than one that never fires, or always."""
    put_pair(tmp_path, "odd", **changes)
    assert {word.name for word in load(custom_directory=tmp_path).words} == set(WORDS)
    assert reason in caplog.text


def test_a_damaged_manifest_and_a_network_of_another_kind_are_refused(
    load: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A manifest that is no JSON yet, and a model that is no streaming network."""
    put_pair(tmp_path, "torn")
    (tmp_path / "torn.json").write_text('{"micro"', "utf-8")
    put_pair(tmp_path, "odd")
    (tmp_path / "odd.tflite").write_bytes(b"TFL3" * 100)
    engine = load(custom_directory=tmp_path)
    assert {word.name for word in engine.words} == set(WORDS)
    assert [record.levelno for record in caplog.records].count(logging.WARNING) == 2
