"""Triggers, choice of words, framing and watched folders: what needs no model."""

import asyncio
import ctypes
import itertools
import logging
import math
import os
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satellite.audio.pcm import RATE
from satellite.config.settings import WakeSettings, WakeWordSettings
from satellite.engines.protocols import Detection
from satellite.engines.wake.common import (
    Files,
    Floats,
    ModelFolder,
    ScoredWakeStream,
    Trigger,
    choose,
    trigger_of,
    without_c_errors,
)
from satellite.engines.wake.microwakeword import microwakeword_files
from satellite.engines.wake.openwakeword import openwakeword_files
from satellite.engines.worker import Worker
from satellite.errors import Stage, WakeWordError

FRAME_SECONDS = 0.125  # exact in binary, so that sums of it are too


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker(Stage.WAKE)
    yield worker
    worker.close()


@settings(max_examples=50)
@given(st.lists(st.sampled_from([0.2, 0.5, 0.9, math.nan]), max_size=60), st.integers(1, 4), st.integers(0, 8))
def test_a_trigger_fires_when_all_of_its_last_frames_were_high_and_may_count(
    scores: list[float], level: int, refractory_frames: int
) -> None:
    trigger = Trigger(0.5, level, refractory_frames * FRAME_SECONDS)
    expected: list[int] = []
    for frame in range(len(scores)):
        first_that_counts = max(expected[-1] + 1, expected[-1] + refractory_frames) if expected else 0
        row = range(frame - level + 1, frame + 1)
        if row[0] >= first_that_counts and all(scores[at] >= 0.5 for at in row):
            expected.append(frame)
    assert [frame for frame, score in enumerate(scores) if trigger.feed(score, frame * FRAME_SECONDS)] == expected


def test_a_words_own_settings_win_one_by_one() -> None:
    own = {"a": WakeWordSettings(threshold=0.1), "b": WakeWordSettings(trigger_level=4, refractory_seconds=0)}
    settings = WakeSettings(trigger_level=2, refractory_seconds=3, per_word=own)
    triggers = [trigger_of(name, settings, 0.9) for name in "abc"]
    assert triggers == [Trigger(0.1, 2, 3), Trigger(0.9, 4, 0), Trigger(0.9, 2, 3)]


@pytest.mark.parametrize(
    ("names", "configured", "chosen"),
    [
        (["alexa", "jarvis", "alexa"], [], ["alexa", "jarvis"]),
        (None, ["jarvis", "gone"], ["jarvis"]),
        ([], ["jarvis", "gone"], ["jarvis"]),
    ],
)
def test_each_named_word_is_chosen_once_or_else_the_configured_ones_that_exist(
    names: list[str] | None, configured: list[str], chosen: list[str]
) -> None:
    assert choose(names, {"alexa", "jarvis"}, configured, {}) == chosen


@pytest.mark.parametrize(("names", "configured"), [(["alexo"], ["alexa"]), (["alexa", "alexo"], []), (None, ["alexo"])])
def test_an_unknown_word_is_refused_with_the_nearest(names: list[str] | None, configured: list[str]) -> None:
    with pytest.raises(WakeWordError, match="'alexo'; did you mean 'alexa'") as caught:
        choose(names, {"alexa", "hey_jarvis"}, configured, {})
    assert caught.value.code == "wake-unknown-word"


def test_a_word_whose_file_cannot_be_used_is_refused_with_the_file(tmp_path: Path) -> None:
    def load(files: Sequence[Path]) -> str:
        raise ValueError("no flatbuffer")

    file = tmp_path / "alexa.tflite"
    file.write_bytes(b"no model")
    folder = ModelFolder(tmp_path, lambda _: {"alexa": (file,)}, load)
    folder.scan()
    with pytest.raises(WakeWordError, match=f"{re.escape(str(file))} cannot be used: no flatbuffer") as caught:
        choose(None, folder.models, ["alexa"], folder.unusable)
    assert caught.value.code == "wake-not-ready"


class Sums:
    """A scorer whose score is a frame's sum, so that any slip of a sample shows."""

    first_samples = 5
    hop_samples = 7

    def __init__(self) -> None:
        self.frames: list[float] = []

    def scores(self, pcm: bytes) -> Floats:
        samples = np.frombuffer(pcm, np.int16)
        ends = range(self.hop_samples if self.frames else self.first_samples, len(samples) + 1, self.hop_samples)
        assert ends[-1] == len(samples)
        rows = np.array([[samples[max(0, end - self.hop_samples) : end].sum()] for end in ends], np.float32)
        self.frames += rows[:, 0].tolist()
        return rows


@settings(max_examples=25)
@given(st.binary(max_size=400), st.lists(st.integers(0, 60), max_size=30))
async def test_chunks_of_any_size_make_the_same_frames(pcm: bytes, sizes: list[int]) -> None:
    worker, scorer = Worker(Stage.WAKE), Sums()
    stream = ScoredWakeStream(scorer, {"word": Trigger(1000, 1, 0)}, worker)
    cuts = [0, *itertools.accumulate(sizes), len(pcm)]
    detections = [one for start, end in itertools.pairwise(cuts) for one in await stream.feed(pcm[start:end])]
    worker.close()
    samples = np.frombuffer(pcm[: len(pcm) // 2 * 2], np.int16)
    ends = range(Sums.first_samples, len(samples) + 1, Sums.hop_samples)
    sums = [float(samples[max(0, end - Sums.hop_samples) : end].sum()) for end in ends]
    assert scorer.frames == sums
    assert detections == [Detection("word", end / RATE) for end, total in zip(ends, sums, strict=True) if total >= 1000]


async def test_less_than_a_frame_involves_no_thread(worker: Worker) -> None:
    stream = ScoredWakeStream(Sums(), {"word": Trigger(1, 1, 0)}, worker)
    worker.close()
    assert await stream.feed(bytes(Sums.first_samples * 2 - 1)) == []
    with pytest.raises(WakeWordError, check=lambda error: error.code == "wake-not-ready"):
        await stream.feed(bytes(1))


async def test_a_stream_may_be_closed_while_it_listens_and_hears_nothing_then(worker: Worker) -> None:
    asked, goes_on = threading.Event(), threading.Event()

    class Slow(Sums):
        def scores(self, pcm: bytes) -> Floats:
            asked.set()
            assert goes_on.wait(10)
            return super().scores(pcm)

    stream = ScoredWakeStream(Slow(), {"word": Trigger(-1, 1, 0)}, worker)
    feeding = asyncio.create_task(stream.feed(bytes(2 * Sums.first_samples)))
    await asyncio.to_thread(asked.wait, 10)
    stream.close()
    goes_on.set()
    assert await feeding == []
    stream.close()
    assert await stream.feed(bytes(1000)) == []


def text_files(directory: Path) -> dict[str, Files]:
    return {file.stem: (file,) for file in directory.iterdir()}


def load_text(files: Files) -> list[str]:
    text = files[0].read_text("utf-8")
    if "broken" in text:
        raise ValueError("it is broken")
    return [text]


async def test_a_folder_follows_its_files_and_keeps_the_last_good_model(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = ModelFolder(None, text_files, load_text)
    await nowhere.refresh()
    nowhere.scan()
    assert nowhere.models == {}
    directory = tmp_path / "later"
    folder = ModelFolder(directory, text_files, load_text)

    async def scanned() -> tuple[dict[str, list[str]], list[str]]:
        caplog.clear()
        await folder.refresh()
        warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        return dict(folder.models), warnings

    def write(name: str, text: str, seconds: int) -> None:
        (directory / name).write_text(text, "utf-8")
        os.utime(directory / name, (seconds, seconds))

    models, (warning,) = await scanned()
    assert (models, "cannot be read" in warning) == ({}, True)
    assert await scanned() == ({}, [])
    directory.mkdir()
    write("a", "1", 1)
    write("b", "1", 1)
    write("bad", "broken", 1)
    before, (warning,) = await scanned()
    assert (before, "bad cannot be used: it is broken" in warning) == ({"a": ["1"], "b": ["1"]}, True)
    same, warnings = await scanned()
    assert (same["a"] is before["a"], warnings) == (True, [])
    write("a", "2", 2)
    (directory / "b").unlink()
    write("bad", "broken again", 2)
    models, warnings = await scanned()
    assert (models, len(warnings)) == ({"a": ["2"]}, 1)
    write("a", "broken", 3)
    write("bad", "good", 3)
    models, warnings = await scanned()
    assert (models, len(warnings)) == ({"a": ["2"], "bad": ["good"]}, 1)
    (directory / "a").unlink()
    await scanned()
    write("a", "broken", 4)
    models, _ = await scanned()
    assert models == {"bad": ["good"]}
    assert before == {"a": ["1"], "b": ["1"]}


def test_a_model_with_a_manifest_beside_it_belongs_to_microwakeword(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "folder.tflite").mkdir(parents=True)
    (tmp_path / "outside.tflite").touch()
    for name in ("micro.tflite", "open.tflite", "odd.tflite", "torn.tflite", "net.onnx", "both.onnx", "both.tflite"):
        (folder / name).touch()
    (folder / ".half.tflite").touch()
    manifests = {
        "anything": '{"micro": {}, "model": "micro.tflite"}',
        "odd": '{"author": "somebody"}',
        "list": "[1, 2]",
        "torn": '{"micro": {',
        "lonely": '{"micro": {}, "model": "https://example.org/lonely.tflite"}',
        "leaving": '{"micro": {}, "model": "../outside.tflite"}',
    }
    for name, content in manifests.items():
        (folder / f"{name}.json").write_text(content)
    assert microwakeword_files(folder) == {
        "micro": (folder / "anything.json", folder / "micro.tflite"),
        "torn": (folder / "torn.json", folder / "torn.tflite"),
    }
    own = {"open": "open.tflite", "odd": "odd.tflite", "net": "net.onnx", "both": "both.tflite"}
    assert openwakeword_files(folder) == {name: (folder / file,) for name, file in own.items()}


def test_what_c_writes_meanwhile_is_dropped(capfd: pytest.CaptureFixture[str]) -> None:
    libc = ctypes.CDLL(None)

    def write(text: bytes) -> None:
        libc.fputs(text, ctypes.c_void_p.in_dll(libc, "stderr"))

    with pytest.raises(ValueError, match="failed"), without_c_errors():
        write(b"notice\n")
        print("by python", file=sys.stderr)
        raise ValueError("failed")
    write(b"later\n")
    assert capfd.readouterr().err == "by python\nlater\n"
