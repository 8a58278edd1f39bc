"""openWakeWord with its real models, frame by frame against the reference implementation."""

import asyncio
import functools
import itertools
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import pyopen_wakeword
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from satellite.audio.pcm import BYTES_PER_SECOND, RATE, read_wav
from satellite.config.settings import WakeSettings, WakeWordSettings
from satellite.engines.protocols import Detection
from satellite.engines.wake.common import Floats, LiteRtModel, ScoredWakeStream, Trigger
from satellite.engines.wake.mel_spectrogram import Mels
from satellite.engines.wake.openwakeword import OpenWakeWordEngine
from satellite.engines.worker import Worker
from satellite.errors import Stage, WakeWordError
from satellite.models.catalogue import WAKE_WORDS

pytestmark = pytest.mark.models

DATA = Path(__file__).parent / "data" / "wake"
WORDS = ("okay_nabu", "hey_jarvis", "alexa", "hey_mycroft", "hey_rhasspy")
SPOKEN = ("okay_nabu", "hey_jarvis", "alexa")
RECORDINGS = (*SPOKEN, "not_a_wake_word_computer")
FIRST_BYTES, FRAME_BYTES = 960, 2560

Load = Callable[..., OpenWakeWordEngine]


def recording(name: str) -> bytes:
    """Return a recording's PCM."""
    return read_wav(DATA / f"{name}.wav")


def white_noise() -> bytes:
    """Return three seconds of loud white noise."""
    return np.random.default_rng(1).integers(-20_000, 20_000, 3 * RATE).astype(np.int16).tobytes()


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
    return {"white": white_noise, "speech_like": speech_like_noise}.get(name, lambda: recording(name))()


@pytest.fixture
def load(models_directory: Path) -> Iterator[Load]:
    """Make a loaded engine out of settings of `wake`."""
    workers: list[Worker] = []

    def loaded(**wake: object) -> OpenWakeWordEngine:
        workers.append(Worker(Stage.WAKE))
        engine = OpenWakeWordEngine(
            WakeSettings.model_validate(wake),
            models_directory / "wake" / "openwakeword",
            WAKE_WORDS["openwakeword"],
            workers[-1],
        )
        asyncio.run(workers[-1].run(engine.load))
        return engine

    yield loaded
    for worker in workers:
        worker.close()


async def detect(engine: OpenWakeWordEngine, pcm: bytes, names: Sequence[str] | None, chunk: int) -> list[Detection]:
    """Return what a new stream hears in `pcm`, fed in chunks of `chunk` bytes."""
    stream = await engine.stream(names)
    return [found for at in range(0, len(pcm), chunk) for found in await stream.feed(pcm[at : at + chunk])]


def heard(engine: OpenWakeWordEngine, pcm: bytes, names: Sequence[str] | None = WORDS, chunk: int = 2048) -> list[str]:
    """Return the names of the words that are heard in `pcm`."""
    return [detection.name for detection in asyncio.run(detect(engine, pcm, names, chunk))]


def scores(engine: OpenWakeWordEngine, pcm: bytes, names: Sequence[str]) -> Floats:
    """Return the scores of all whole frames of `pcm`."""
    whole = (len(pcm) - FIRST_BYTES) // FRAME_BYTES * FRAME_BYTES + FIRST_BYTES
    return engine.scorer(names).scores(pcm[:whole])


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
def test_every_score_equals_the_references(load: Load, name: str) -> None:
    """All words, all frames: the networks may be run differently, but not to a different result."""
    pcm = clip(name)
    ours = scores(load(), pcm, WORDS)
    assert len(ours) > 20
    for column, word in enumerate(WORDS):
        theirs = reference_scores(pcm, word)[-len(ours) :]
        assert np.abs(ours[:, column] - theirs).max() < 1e-4


def test_scores_do_not_depend_on_the_other_words(load: Load) -> None:
    """A word alone scores as it does among others."""
    engine, pcm = load(), recording("alexa")
    together = scores(engine, pcm, WORDS)
    for column, word in enumerate(WORDS):
        assert np.array_equal(scores(engine, pcm, [word])[:, 0], together[:, column])


def test_scores_do_not_depend_on_the_chunks(load: Load) -> None:
    """Any cuts, also within a sample, give the very same scores as the audio in one piece."""
    engine = load()
    pcm = recording("alexa")[BYTES_PER_SECOND // 2 : BYTES_PER_SECOND * 5 // 4]
    whole = scores(engine, pcm, ["alexa"])

    class Recorder:
        """A scorer that remembers its scores."""

        def __init__(self) -> None:
            self.scorer = engine.scorer(["alexa"])
            self.first_samples, self.hop_samples = self.scorer.first_samples, self.scorer.hop_samples
            self.rows: list[Floats] = []

        def scores(self, pcm: bytes) -> Floats:
            self.rows.append(self.scorer.scores(pcm))
            return self.rows[-1]

    async def feed(sizes: list[int]) -> Floats:
        recorder, worker = Recorder(), Worker(Stage.WAKE)
        listener, rest = ScoredWakeStream(recorder, {"alexa": Trigger(0.5, 1, 2)}, worker), pcm
        for size in [*sizes, len(pcm)]:
            await listener.feed(rest[:size])
            rest = rest[size:]
        worker.close()
        return np.concatenate(recorder.rows)

    @settings(max_examples=30, deadline=None)
    @given(st.lists(st.integers(0, 9000), max_size=40))
    def check(sizes: list[int]) -> None:
        assert np.array_equal(asyncio.run(feed(sizes)), whole)

    check()


@pytest.mark.parametrize("chunk", [320, 2048, 2561, BYTES_PER_SECOND * 10])
@pytest.mark.parametrize("name", RECORDINGS)
def test_each_word_is_heard_once_and_only_where_it_is_said(load: Load, name: str, chunk: int) -> None:
    """All five words listen; one fires, once, or none."""
    assert heard(load(), recording(name), WORDS, chunk) == [name] * (name in SPOKEN)


def test_a_detection_says_where_its_frame_ends(load: Load) -> None:
    """The place is a frame's end within the recording, the same for all chunk sizes."""
    engine, pcm = load(), recording("hey_jarvis")
    ((found,), (again,)) = (asyncio.run(detect(engine, pcm, ["hey_jarvis"], size)) for size in (640, 10**6))
    assert found == again
    assert 0.5 < found.seconds <= len(pcm) / BYTES_PER_SECOND
    assert (found.seconds * RATE - 480) % 1280 == 0


@pytest.mark.parametrize(("refractory_seconds", "times"), [(1.0, 2), (3.0, 1)])
def test_a_word_is_silent_for_its_refractory_time(load: Load, refractory_seconds: float, times: int) -> None:
    """A word said twice within two seconds counts twice only if it may."""
    engine = load(refractory_seconds=refractory_seconds)
    assert heard(engine, recording("okay_nabu") * 2) == ["okay_nabu"] * times


def test_the_refractory_time_is_each_words_own(load: Load) -> None:
    """A detection of one word does not silence another."""
    engine = load(refractory_seconds=30)
    assert heard(engine, b"".join(map(recording, SPOKEN))) == list(SPOKEN)


def test_the_trigger_level_asks_for_frames_in_a_row(load: Load) -> None:
    """Each further frame that is asked for delays the detection by one, and too many prevent it."""

    def first(level: int) -> float | None:
        engine = load(per_word={"alexa": WakeWordSettings(trigger_level=level)})
        found = asyncio.run(detect(engine, recording("alexa"), ["alexa"], 4096))
        return found[0].seconds if found else None

    one, three = first(1), first(3)
    assert one is not None
    assert three == pytest.approx(one + 0.16)
    assert first(50) is None


def test_a_words_own_threshold_wins(load: Load) -> None:
    """The reference's best score for this recording is 0.966: it passes under that and not over it."""
    pcm = recording("okay_nabu")
    assert heard(load(threshold=0.99, per_word={"okay_nabu": {"threshold": 0.9}}), pcm) == ["okay_nabu"]
    assert heard(load(per_word={"okay_nabu": {"threshold": 0.99}}), pcm) == []


def test_streams_at_once_do_not_mix(load: Load) -> None:
    """Streams that are fed side by side hear each their own audio."""
    engine = load()

    async def all_at_once() -> list[list[Detection]]:
        return await asyncio.gather(*(detect(engine, recording(name), WORDS, 1000) for name in RECORDINGS))

    found = asyncio.run(all_at_once())
    assert found == [asyncio.run(detect(engine, recording(name), WORDS, 1000)) for name in RECORDINGS]
    assert [[detection.name for detection in own] for own in found] == [[name] for name in SPOKEN] + [[]]


@pytest.mark.parametrize("count", [1, 2, 3, 6, 7])
def test_streams_that_are_scored_together_score_as_alone(load: Load, count: int) -> None:
    """However many, wherever each is, and however much each brings."""
    engine = load()
    clips = [recording(name)[FRAME_BYTES * number :] for number, name in zip(range(count), itertools.cycle(RECORDINGS))]
    alone, together = ([engine.scorer(["alexa", "okay_nabu"]) for _ in clips] for _ in range(2))
    for step in range(12):
        sizes = [FRAME_BYTES * ((step + number) % 3 + 1) for number in range(count)]
        taken = [clip[:size] for clip, size in zip(clips, sizes, strict=True)]
        clips = [clip[size:] for clip, size in zip(clips, sizes, strict=True)]
        found = together[0].features.scores(list(zip(together, taken, strict=True)))
        for scorer, pcm, scores_ in zip(alone, taken, found, strict=True):
            assert np.allclose(scorer.scores(pcm), scores_, rtol=0, atol=1e-6)


def test_a_stream_goes_on_after_a_gap(load: Load) -> None:
    """Where a call's audio was lost, even the first, the next is scored all the same."""
    scorer = load().scorer(["alexa"])
    pcm = recording("alexa")
    rows = [scorer.scores(pcm[at : at + FRAME_BYTES]) for at in range(0, FRAME_BYTES * 25, FRAME_BYTES)]
    assert [len(row) for row in rows] == [1] * 25
    assert max(row[0, 0] for row in rows) > 0.5


def test_a_long_stream_takes_no_more_memory(load: Load) -> None:
    """What a stream keeps does not grow with its audio."""
    scorer = load().scorer(WORDS)

    def kept_bytes() -> int:
        lists = [value if isinstance(value, list) else [value] for value in vars(scorer).values()]
        return sum(value.nbytes for values in lists for value in values if isinstance(value, np.ndarray))

    scorer.scores(bytes(FIRST_BYTES))
    before = kept_bytes()
    scorer.scores(bytes(FRAME_BYTES * 50))
    assert kept_bytes() == before < 100_000


def test_words_say_what_a_person_says(models_directory: Path, load: Load) -> None:
    """The built-in words are known before and after loading."""
    unloaded = OpenWakeWordEngine(
        WakeSettings(), models_directory / "wake" / "openwakeword", WAKE_WORDS["openwakeword"], Worker(Stage.WAKE)
    )
    assert {word.name: word.phrase for word in unloaded.words} == {
        "okay_nabu": "Okay Nabu",
        "hey_jarvis": "Hey Jarvis",
        "alexa": "Alexa",
        "hey_mycroft": "Hey Mycroft",
        "hey_rhasspy": "Hey Rhasspy",
    }
    assert unloaded.words == load().words
    assert {word.languages for word in unloaded.words} == {("en",)}


def test_without_names_the_configured_words_are_heard(load: Load) -> None:
    """None means what the configuration says."""
    engine = load(words=("alexa", "hey_jarvis"))
    assert heard(engine, b"".join(map(recording, SPOKEN)), None) == ["hey_jarvis", "alexa"]


def test_an_unknown_word_is_refused(load: Load) -> None:
    """The error names the nearest word."""
    with pytest.raises(WakeWordError, match="okay_nabu") as caught:
        asyncio.run(load().stream(["ok_nabu"]))
    assert caught.value.code == "wake-unknown-word"


def test_an_engine_that_is_not_loaded_says_so(models_directory: Path) -> None:
    """A stream before `load` is an error of its own, and refreshing is harmless."""
    engine = OpenWakeWordEngine(
        WakeSettings(), models_directory / "wake" / "openwakeword", WAKE_WORDS["openwakeword"], Worker(Stage.WAKE)
    )
    asyncio.run(engine.refresh())
    with pytest.raises(WakeWordError) as caught:
        asyncio.run(engine.stream(None))
    assert caught.value.code == "wake-not-ready"


@pytest.mark.parametrize("sound", [recording("okay_nabu"), white_noise(), speech_like_noise(), bytes(2 * RATE)])
def test_the_mel_frames_are_those_of_the_network(models_directory: Path, sound: bytes) -> None:
    """What is computed by FFT equals what the network computes."""
    file = models_directory / "wake" / "openwakeword" / "melspectrogram.tflite"
    network, mels = LiteRtModel(file.read_bytes(), (1, 1760)), Mels(file)
    samples = np.frombuffer(sound, np.int16).astype(np.float32)
    windows = np.stack([samples[start : start + 1760] for start in range(0, len(samples) - 1760, 1280)])
    references = [network.run(window[None])[0][0, 0] / 10 + 2 for window in windows]
    assert np.abs(mels(windows) - references).max() < 1e-5


@pytest.mark.parametrize("name", ["embedding_model", "okay_nabu"])
def test_mel_frames_of_another_network_are_refused(models_directory: Path, name: str) -> None:
    """With the reason."""
    folder = models_directory / "wake" / "openwakeword"
    (file,) = folder.glob(f"{name}*.tflite")
    with pytest.raises(ValueError, match="constants are not those of a mel spectrogram"):
        Mels(file)


def test_missing_networks_are_named(tmp_path: Path) -> None:
    """Without the two networks of sound there is nothing to load."""
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
    """It may look back on another number of embeddings than the built-in words beside it."""
    mean_network(tmp_path / "my_mean.onnx", windows)
    engine, pcm = load(custom_directory=tmp_path), recording("alexa")
    embeddings = [embedding.reshape(96) for embedding in reference_embeddings(pcm)]
    ours = scores(engine, pcm, ["alexa", "my_mean"])
    means = [
        np.mean(embeddings[at - windows : at]) for at in range(len(embeddings) - len(ours) + 1, len(embeddings) + 1)
    ]
    assert np.abs(ours[:, 1] - 1 / (1 + np.exp(-np.array(means)))).max() < 1e-3
    assert np.abs(ours[:, 0] - reference_scores(pcm, "alexa")[-len(ours) :]).max() < 1e-3


def test_a_custom_tflite_word_comes_and_goes(models_directory: Path, load: Load, tmp_path: Path) -> None:
    """A file is a word from the next refresh on, until it is removed."""
    engine = load(custom_directory=tmp_path, words=("my_own_word",))
    with pytest.raises(WakeWordError):
        asyncio.run(engine.stream(None))
    shutil.copy(models_directory / "wake" / "openwakeword" / "alexa.tflite", tmp_path / "my_own_word.tflite")
    asyncio.run(engine.refresh())
    word = engine.words[-1]
    assert (word.name, word.phrase, word.languages) == ("my_own_word", "my own word", ())
    assert heard(engine, recording("alexa"), None) == ["my_own_word"]
    (tmp_path / "my_own_word.tflite").unlink()
    asyncio.run(engine.refresh())
    assert {word.name for word in engine.words} == set(WORDS)


def test_a_changed_file_is_loaded_again_and_running_streams_keep_the_old_one(
    models_directory: Path, load: Load, tmp_path: Path
) -> None:
    """What a stream began with stays with it, whatever happens to the file."""
    models, file = models_directory / "wake" / "openwakeword", tmp_path / "mine.tflite"
    shutil.copy(models / "alexa.tflite", file)
    engine = load(custom_directory=tmp_path)

    async def listen() -> tuple[list[Detection], list[Detection]]:
        old = await engine.stream(["mine"])
        await old.feed(recording("alexa")[:20_000])
        file.write_bytes((models / "okay_nabu.tflite").read_bytes())
        await engine.refresh()
        new = await engine.stream(["mine"])
        file.unlink()
        await engine.refresh()
        return await old.feed(recording("alexa")[20_000:]), await new.feed(recording("okay_nabu"))

    for found in asyncio.run(listen()):
        assert [detection.name for detection in found] == ["mine"]


def test_a_custom_word_replaces_the_built_in_one_of_its_name(
    models_directory: Path, load: Load, tmp_path: Path
) -> None:
    """An own model for a known phrase is what its owner wants."""
    shutil.copy(models_directory / "wake" / "openwakeword" / "alexa.tflite", tmp_path / "hey_jarvis.tflite")
    engine = load(custom_directory=tmp_path)
    assert len(engine.words) == len(WORDS)
    assert heard(engine, recording("alexa"), ["hey_jarvis"]) == ["hey_jarvis"]


@pytest.mark.parametrize("part", [0, 1, 100, 100_000, 206_379])
def test_a_half_written_file_is_logged_once_and_used_when_it_is_whole(
    models_directory: Path, load: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture, part: int
) -> None:
    """Neither the daemon nor a running stream notices."""
    content = (models_directory / "wake" / "openwakeword" / "okay_nabu.tflite").read_bytes()
    file = tmp_path / "mine.tflite"
    file.write_bytes(content[:part])
    engine = load(custom_directory=tmp_path)
    asyncio.run(engine.refresh())
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "mine.tflite cannot be used" in warning
    assert heard(engine, recording("alexa"), None) == []
    file.write_bytes(content)
    asyncio.run(engine.refresh())
    assert heard(engine, recording("okay_nabu"), ["mine"]) == ["mine"]


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
    """A network of another shape than a classifier's would crash or answer nonsense."""
    mean_network(tmp_path / "odd.onnx", **options)
    engine = load(custom_directory=tmp_path)
    assert {word.name for word in engine.words} == set(WORDS)
    assert re.search(reason, caplog.text)


def test_a_tflite_network_that_is_no_wake_word_is_refused(
    models_directory: Path, load: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The embedding network itself, say."""
    shutil.copy(models_directory / "wake" / "openwakeword" / "embedding_model.tflite", tmp_path)
    engine = load(custom_directory=tmp_path)
    assert {word.name for word in engine.words} == set(WORDS)
    assert "its input is [1, 76, 32, 1]" in caplog.text


def test_a_file_with_an_old_time_is_noticed_by_its_size(models_directory: Path, load: Load, tmp_path: Path) -> None:
    """Copying programs may keep the time of the original."""
    models, file = models_directory / "wake" / "openwakeword", tmp_path / "mine.tflite"
    for name in ("alexa", "okay_nabu"):
        shutil.copy(models / f"{name}.tflite", file)
        os.utime(file, (1, 1))
        if name == "alexa":
            engine = load(custom_directory=tmp_path)
        asyncio.run(engine.refresh())
        assert heard(engine, recording(name), ["mine"]) == ["mine"]
