"""What both wake word engines promise, with their real models."""

import asyncio
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pymicro_wakeword
import pytest

from satellite.audio.pcm import BYTES_PER_SECOND, RATE
from satellite.engines.protocols import Detection
from satellite.engines.worker import Worker
from satellite.errors import Stage, WakeWordError
from satellite.models.catalogue import WAKE_WORDS
from tests.wake_engines import RECORDINGS, SPOKEN, Load, detect, engine, heard, loader, recording

PROGRAMS = [pytest.param("openwakeword", marks=pytest.mark.models), "microwakeword"]
FIRST_SAMPLES = {"openwakeword": 480, "microwakeword": 800}
HOP_SAMPLES = {"openwakeword": 1280, "microwakeword": 480}


@pytest.fixture(params=PROGRAMS, scope="module")
def program(request: pytest.FixtureRequest) -> str:
    """The engine."""
    return str(request.param)


@pytest.fixture(scope="module")
def models(program: str, request: pytest.FixtureRequest) -> Path:
    """The folder with the models; microWakeWord's come with its package."""
    return request.getfixturevalue("models_directory") if program == "openwakeword" else Path("unused")


@pytest.fixture(scope="module")
def load(program: str, models: Path) -> Iterator[Load]:
    """Load an engine with settings of its own."""
    with loader(program, models) as load:
        yield load


@pytest.fixture(scope="module")
def words(program: str) -> list[str]:
    """The words that come with the engine."""
    return list(WAKE_WORDS[program])


@pytest.fixture(scope="module")
def usual(load: Load) -> Load:
    """The engine with the default settings, loaded once."""
    loaded = load()
    return lambda: loaded


def put_alexa(program: str, models: Path, folder: Path, name: str) -> Path:
    """Install the model of “alexa” as a custom word; return its network."""
    if program == "openwakeword":
        source = models / "wake" / "openwakeword" / "alexa.tflite"
    else:
        source = Path(pymicro_wakeword.__file__).parent / "models" / "alexa.tflite"
        manifest = source.with_suffix(".json").read_text("utf-8").replace("alexa.tflite", f"{name}.tflite")
        (folder / f"{name}.json").write_text(manifest, "utf-8")
    return Path(shutil.copy(source, folder / f"{name}.tflite"))


@pytest.mark.parametrize("chunk", [320, 2561, BYTES_PER_SECOND * 10])
@pytest.mark.parametrize("name", RECORDINGS)
def test_each_word_is_detected_once_and_only_where_it_is_said(
    usual: Load, words: list[str], name: str, chunk: int
) -> None:
    assert heard(usual(), recording(name), words, chunk) == [name] * (name in SPOKEN)


def test_a_detection_says_where_its_frame_ends(usual: Load, program: str) -> None:
    pcm = recording("hey_jarvis")
    ((found,), (again,)) = (asyncio.run(detect(usual(), pcm, ["hey_jarvis"], size)) for size in (640, 10**6))
    assert found == again
    assert 0.5 < found.seconds <= len(pcm) / BYTES_PER_SECOND
    assert (found.seconds * RATE - FIRST_SAMPLES[program]) % HOP_SAMPLES[program] == 0


def test_concurrent_streams_do_not_mix(usual: Load, words: list[str]) -> None:
    async def all_at_once() -> list[list[Detection]]:
        return await asyncio.gather(*(detect(usual(), recording(name), words, 1000) for name in RECORDINGS))

    found = asyncio.run(all_at_once())
    assert found == [asyncio.run(detect(usual(), recording(name), words, 1000)) for name in RECORDINGS]
    assert [[detection.name for detection in own] for own in found] == [*([name] for name in SPOKEN), []]


def test_a_stream_survives_a_gap(usual: Load, program: str) -> None:
    scorer, frame = usual().scorer(["alexa"]), 2 * HOP_SAMPLES[program]
    pcm = recording("alexa")
    starts = range(0, len(pcm) - frame + 1, frame)
    rows = [row for at in starts for row in scorer.scores(pcm[at : at + frame])]
    # microWakeWord's first frame needs more audio than the following ones.
    assert len(rows) == len(starts) - (program == "microwakeword")
    assert max(row[0] for row in rows) > 0.5


@pytest.mark.parametrize(("refractory_seconds", "times"), [(1.0, 2), (3.0, 1)])
def test_a_word_is_ignored_for_its_refractory_time(
    load: Load, words: list[str], program: str, refractory_seconds: float, times: int
) -> None:
    word = {"openwakeword": "okay_nabu", "microwakeword": "alexa"}[program]
    assert heard(load(refractory_seconds=refractory_seconds), recording(word) * 2, words) == [word] * times


def test_each_word_has_its_own_refractory_time(load: Load, words: list[str]) -> None:
    assert heard(load(refractory_seconds=30), b"".join(map(recording, SPOKEN)), words) == list(SPOKEN)


def test_the_trigger_level_requires_frames_in_a_row(load: Load, program: str) -> None:
    def first(level: int) -> float | None:
        engine = load(per_word={"alexa": {"trigger_level": level}})
        found = asyncio.run(detect(engine, recording("alexa"), ["alexa"]))
        return found[0].seconds if found else None

    one, three = first(1), first(3)
    assert one is not None
    assert three == pytest.approx(one + 2 * HOP_SAMPLES[program] / RATE)
    assert first(50) is None


def test_words_have_their_phrases(usual: Load, program: str, models: Path) -> None:
    unloaded = engine(program, models, Worker(Stage.WAKE)).words
    assert {word.name: word.phrase for word in unloaded} == WAKE_WORDS[program]
    assert all("en" in word.languages for word in unloaded)
    assert unloaded == usual().words


def test_without_names_the_configured_words_are_detected(load: Load) -> None:
    engine = load(words=("alexa", "hey_jarvis"))
    assert heard(engine, b"".join(map(recording, SPOKEN)), None) == ["hey_jarvis", "alexa"]


def test_unknown_words_and_an_unloaded_engine_are_errors(usual: Load, program: str, models: Path) -> None:
    with pytest.raises(WakeWordError, match="okay_nabu") as unknown:
        asyncio.run(usual().stream(["ok_nabu"]))
    unloaded = engine(program, models, Worker(Stage.WAKE))
    asyncio.run(unloaded.refresh())
    with pytest.raises(WakeWordError) as not_ready:
        asyncio.run(unloaded.stream(None))
    assert (unknown.value.code, not_ready.value.code) == ("wake-unknown-word", "wake-not-ready")


def test_a_custom_word_comes_and_goes_and_its_streams_stay(
    load: Load, words: list[str], program: str, models: Path, tmp_path: Path
) -> None:
    engine = load(custom_directory=tmp_path, words=("my_word",))
    with pytest.raises(WakeWordError):
        asyncio.run(engine.stream(None))
    network = put_alexa(program, models, tmp_path, "my_word")

    async def listen() -> list[Detection]:
        await engine.refresh()
        stream = await engine.stream(None)
        await stream.feed(recording("alexa")[:20_000])
        network.write_bytes(b"")
        await engine.refresh()
        network.unlink()
        await engine.refresh()
        return await stream.feed(recording("alexa")[20_000:])

    assert [detection.name for detection in asyncio.run(listen())] == ["my_word"]
    assert {word.name for word in engine.words} == set(words)


@pytest.mark.parametrize("part", [0.0, 0.00001, 0.001, 0.5, 0.99999])
def test_a_half_written_model_is_logged_once_and_used_when_it_is_whole(
    load: Load, program: str, models: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, part: float
) -> None:
    network = put_alexa(program, models, tmp_path, "mine")
    content = network.read_bytes()
    network.write_bytes(content[: int(part * len(content))])
    engine = load(custom_directory=tmp_path)
    asyncio.run(engine.refresh())
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "mine.tflite cannot be used" in warning
    assert heard(engine, recording("alexa"), ["alexa"]) == ["alexa"]
    network.write_bytes(content)
    asyncio.run(engine.refresh())
    assert heard(engine, recording("alexa"), ["mine"]) == ["mine"]
