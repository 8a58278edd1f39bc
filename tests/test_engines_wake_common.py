"""Triggers, choice of words, framing and watched folders: what needs no model."""

import asyncio
import itertools
import logging
import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from satellite.audio.pcm import BYTES_PER_SECOND, RATE
from satellite.config.settings import WakeSettings, WakeWordSettings
from satellite.engines.protocols import Detection
from satellite.engines.wake.common import Files, Floats, ModelFolder, ScoredWakeStream, Trigger, choose, trigger_of
from satellite.engines.wake.microwakeword import microwakeword_files
from satellite.engines.wake.openwakeword import openwakeword_files
from satellite.engines.worker import Worker
from satellite.errors import Stage, WakeWordError

FRAME_SECONDS = 0.125  # exact in binary, so that sums of it are too


@pytest.fixture
def worker() -> Iterator[Worker]:
    """A worker that ends with the test."""
    worker = Worker(Stage.WAKE)
    yield worker
    worker.close()


def fired(trigger: Trigger, scores: list[float]) -> list[int]:
    """Return the numbers of the frames in which `trigger` fires."""
    return [i for i, score in enumerate(scores) if trigger.feed(score, i * FRAME_SECONDS)]


def expected(high: tuple[bool, ...], level: int, refractory_frames: int) -> list[int]:
    """Return the same by the definition: the last `level` frames were high, and all of them may count."""
    detections: list[int] = []
    for i in range(len(high)):
        first_that_counts = max(detections[-1] + 1, detections[-1] + refractory_frames) if detections else 0
        row = range(i - level + 1, i + 1)
        if row[0] >= first_that_counts and all(high[j] for j in row):
            detections.append(i)
    return detections


@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize("refractory_frames", [0, 1, 3, 5])
def test_trigger_follows_its_definition_for_every_short_sequence(level: int, refractory_frames: int) -> None:
    for high in itertools.product([False, True], repeat=10):
        trigger = Trigger(0.5, level, refractory_frames * FRAME_SECONDS)
        assert fired(trigger, [float(value) for value in high]) == expected(high, level, refractory_frames)


@given(
    st.lists(st.floats(0, 1), max_size=200),
    st.floats(0, 1),
    st.integers(1, 8),
    st.integers(0, 40),
)
def test_trigger_follows_its_definition_for_any_scores(
    scores: list[float], threshold: float, level: int, refractory_frames: int
) -> None:
    trigger = Trigger(threshold, level, refractory_frames * FRAME_SECONDS)
    high = tuple(score >= threshold for score in scores)
    assert fired(trigger, scores) == expected(high, level, refractory_frames)


def test_trigger_measures_its_silence_in_the_stream() -> None:
    trigger = Trigger(0.5, 1, 2.0)
    assert [trigger.feed(1.0, seconds) for seconds in (1.0, 1.08, 2.99, 3.0, 3.08)] == [True, False, False, True, False]


def test_trigger_ignores_a_score_that_is_no_number() -> None:
    assert fired(Trigger(0.0, 1, 0), [math.nan, 0.0]) == [1]


def test_a_words_own_settings_win_one_by_one() -> None:
    own = {"a": WakeWordSettings(threshold=0.1), "b": WakeWordSettings(trigger_level=4, refractory_seconds=0)}
    settings = WakeSettings(trigger_level=2, refractory_seconds=3, per_word=own)
    assert trigger_of("a", settings, 0.9) == Trigger(0.1, 2, 3)
    assert trigger_of("b", settings, 0.9) == Trigger(0.9, 4, 0)
    assert trigger_of("c", settings, 0.9) == Trigger(0.9, 2, 3)


def test_choose_takes_each_named_word_once_in_order() -> None:
    assert choose(["b", "a", "b"], {"a", "b", "c"}, ["c"]) == ["b", "a"]


@pytest.mark.parametrize("names", [None, []])
def test_choose_without_names_takes_the_configured_words_that_exist(names: list[str] | None) -> None:
    assert choose(names, {"a", "b"}, ["a", "gone"]) == ["a"]


@pytest.mark.parametrize(("names", "configured"), [(["alexo"], ["alexa"]), (["alexa", "alexo"], []), (None, ["alexo"])])
def test_choose_refuses_an_unknown_word_and_names_the_nearest(names: list[str] | None, configured: list[str]) -> None:
    with pytest.raises(WakeWordError, match="'alexo'; did you mean 'alexa'") as caught:
        choose(names, {"alexa", "hey_jarvis"}, configured)
    assert caught.value.code == "wake-unknown-word"


class Sums:
    """A scorer whose score is a frame's sum, so that any slip of a sample shows."""

    first_samples = 5
    hop_samples = 7

    def __init__(self) -> None:
        self.heard = b""
        self.frames: list[float] = []

    def scores(self, pcm: bytes) -> Floats:
        """Return the sums of the frames in `pcm`."""
        samples = np.frombuffer(pcm, np.int16)
        ends = range(self.first_samples if not self.heard else self.hop_samples, len(samples) + 1, self.hop_samples)
        assert ends[-1] == len(samples)
        self.heard += pcm
        rows = np.array([[samples[max(0, end - self.hop_samples) : end].sum()] for end in ends], np.float32)
        self.frames += rows[:, 0].tolist()
        return rows


@given(st.binary(max_size=400), st.lists(st.integers(0, 60), max_size=30))
async def test_listener_frames_any_chunks_alike(pcm: bytes, sizes: list[int]) -> None:
    async def feed(chunks: list[bytes]) -> tuple[list[float], list[Detection]]:
        worker, scorer = Worker(Stage.WAKE), Sums()
        listener = ScoredWakeStream(scorer, {"word": Trigger(1000, 1, 0)}, worker)
        detections = [detection for chunk in chunks for detection in await listener.feed(chunk)]
        worker.close()
        return scorer.frames, detections

    cuts = [0, *itertools.accumulate(sizes), len(pcm)]
    chunks = [pcm[start:end] for start, end in itertools.pairwise(cuts)]
    frames, detections = await feed(chunks)
    samples = np.frombuffer(pcm[: len(pcm) // 2 * 2], np.int16)
    ends = range(Sums.first_samples, len(samples) + 1, Sums.hop_samples)
    sums = [float(samples[max(0, end - Sums.hop_samples) : end].sum()) for end in ends]
    assert frames == sums
    assert detections == [Detection("word", end / RATE) for end, total in zip(ends, sums, strict=True) if total >= 1000]


async def test_listener_stays_on_the_callers_thread_for_less_than_a_frame(worker: Worker) -> None:
    listener = ScoredWakeStream(Sums(), {"word": Trigger(1, 1, 0)}, worker)
    worker.close()
    assert await listener.feed(bytes(Sums.first_samples * 2 - 1)) == []
    with pytest.raises(WakeWordError) as caught:
        await listener.feed(bytes(1))
    assert caught.value.code == "wake-not-ready"


async def test_listener_ignores_what_comes_after_close(worker: Worker) -> None:
    listener = ScoredWakeStream(Sums(), {"word": Trigger(-1, 1, 0)}, worker)
    listener.close()
    listener.close()
    assert await listener.feed(bytes(BYTES_PER_SECOND)) == []


async def test_listener_may_be_closed_while_it_listens(worker: Worker) -> None:
    asked, goes_on = threading.Event(), threading.Event()

    class Slow(Sums):
        def scores(self, pcm: bytes) -> Floats:
            asked.set()
            assert goes_on.wait(10)
            return super().scores(pcm)

    listener = ScoredWakeStream(Slow(), {"word": Trigger(-1, 1, 0)}, worker)
    feeding = asyncio.create_task(listener.feed(bytes(2 * Sums.first_samples)))
    await asyncio.to_thread(asked.wait, 10)
    listener.close()
    goes_on.set()
    assert await feeding == []


def text_files(directory: Path) -> dict[str, Files]:
    """Return a folder's files by stem."""
    return {file.stem: (file,) for file in directory.iterdir()}


def load_text(files: Files) -> list[str]:
    """Return the file's content as a model of its own; `broken` cannot be used."""
    text = files[0].read_text("utf-8")
    if "broken" in text:
        raise ValueError("it is broken")
    return [text]


def touched(file: Path, text: str, seconds: int) -> None:
    """Write `text` and give the file a time of its own."""
    file.write_text(text, "utf-8")
    os.utime(file, (seconds, seconds))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the warnings so far, and forget them."""
    found = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    caplog.clear()
    return found


def test_folder_follows_files_that_come_change_and_go(tmp_path: Path) -> None:
    folder = ModelFolder(tmp_path, text_files, load_text)
    folder.scan()
    assert folder.models == {}
    touched(tmp_path / "a", "1", 1)
    touched(tmp_path / "b", "1", 1)
    folder.scan()
    before = folder.models
    folder.scan()
    assert folder.models["a"] is before["a"]
    touched(tmp_path / "a", "2", 2)
    (tmp_path / "b").unlink()
    folder.scan()
    assert folder.models == {"a": ["2"]}
    assert before == {"a": ["1"], "b": ["1"]}


def test_folder_logs_a_broken_file_once_and_tries_again_when_it_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = ModelFolder(tmp_path, text_files, load_text)
    touched(tmp_path / "good", "1", 1)
    touched(tmp_path / "bad", "broken", 1)
    folder.scan()
    folder.scan()
    assert folder.models == {"good": ["1"]}
    (warning,) = warnings(caplog)
    assert "bad" in warning
    assert "it is broken" in warning
    touched(tmp_path / "bad", "still broken", 2)
    folder.scan()
    assert len(warnings(caplog)) == 1
    touched(tmp_path / "bad", "mended", 3)
    folder.scan()
    assert folder.models == {"good": ["1"], "bad": ["mended"]}
    assert warnings(caplog) == []


def test_folder_keeps_the_last_good_model_of_a_file_that_broke(tmp_path: Path) -> None:
    folder = ModelFolder(tmp_path, text_files, load_text)
    touched(tmp_path / "a", "1", 1)
    folder.scan()
    touched(tmp_path / "a", "broken", 2)
    folder.scan()
    assert folder.models == {"a": ["1"]}
    (tmp_path / "a").unlink()
    folder.scan()
    touched(tmp_path / "a", "broken", 3)
    folder.scan()
    assert folder.models == {}


async def test_folder_may_be_missing_and_appear(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = ModelFolder(tmp_path / "later", text_files, load_text)
    folder.scan()
    folder.scan()
    assert len(warnings(caplog)) == 1
    (tmp_path / "later").mkdir()
    touched(tmp_path / "later" / "a", "1", 1)
    await folder.refresh()
    assert folder.models == {"a": ["1"]}


async def test_no_folder_has_no_models() -> None:
    folder: ModelFolder[list[str]] = ModelFolder(None, text_files, load_text)
    await folder.refresh()
    folder.scan()
    assert folder.models == {}


def test_a_model_with_a_manifest_beside_it_belongs_to_microwakeword(tmp_path: Path) -> None:
    for name in ("micro.tflite", "open.tflite", "odd.tflite", "torn.tflite", "net.onnx", "both.onnx", "both.tflite"):
        (tmp_path / name).touch()
    (tmp_path / "anything.json").write_text('{"micro": {}, "model": "micro.tflite"}')
    (tmp_path / "odd.json").write_text('{"author": "somebody"}')
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "torn.json").write_text('{"micro": {')
    (tmp_path / "lonely.json").write_text('{"micro": {}, "model": "https://example.org/lonely.tflite"}')
    (tmp_path / ".half.tflite").touch()
    (tmp_path / "folder.tflite").mkdir()
    micro, own = microwakeword_files(tmp_path), openwakeword_files(tmp_path)
    assert micro == {
        "micro": (tmp_path / "anything.json", tmp_path / "micro.tflite"),
        "torn": (tmp_path / "torn.json", tmp_path / "torn.tflite"),
    }
    assert {name: files[0].name for name, files in own.items()} == {
        "open": "open.tflite",
        "odd": "odd.tflite",
        "net": "net.onnx",
        "both": "both.tflite",
    }


def test_a_manifest_reaches_no_file_outside_its_folder(tmp_path: Path) -> None:
    (tmp_path / "outside.tflite").touch()
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "word.json").write_text('{"micro": {}, "model": "../outside.tflite"}')
    assert microwakeword_files(folder) == {}


STDERR_SCRIPT = """
import ctypes, sys
from satellite.engines.wake.common import without_notice
libc = ctypes.CDLL(None)
def write(text):
    libc.fputs(text, ctypes.c_void_p.in_dll(libc, "stderr"))
try:
    with without_notice(b"notice\\n"):
        write(b"before\\nnotice\\n")
        print("by python", file=sys.stderr, flush=True)
        write(b"after\\n")
        if len(sys.argv) > 1:
            raise ValueError
except ValueError:
    pass
write(b"later notice\\n")
"""


def test_a_notice_is_left_out() -> None:
    for arguments in ([], ["fail"]):
        result = subprocess.run(
            [sys.executable, "-c", STDERR_SCRIPT, *arguments], capture_output=True, text=True, check=True, timeout=60
        )
        assert result.stderr == "by python\nbefore\nafter\nlater notice\n"
