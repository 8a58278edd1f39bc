"""Voices in parts: windows sound as the whole does, whatever the graph's names, hop and speakers."""

import json
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from satellite.config.settings import TtsSettings
from satellite.engines.onnx_session import load_session
from satellite.engines.tts.graph_split import CannotSplit, split
from satellite.engines.tts.parts_cache import digest_of
from satellite.engines.tts.piper import PiperVoice
from satellite.engines.tts.vits import Inputs, Samples, Sentence, VitsNetwork, measure
from satellite.engines.tts.windows import Timeline
from satellite.errors import TextToSpeechError
from satellite.models.demo_set import JOE
from satellite.models.store import Store
from tests.vits_graphs import voice, with_outputs

VOICES = {
    "one speaker": (voice(), 256),
    "several speakers": (voice(speakers=3, seed=2), 256),
    "low quality": (voice((8, 16), seed=3), 128),
    "odd hop": (voice((10, 30), seed=4), 300),
    "branches": (voice(branch=True, speakers=2, seed=5), 256),
}
ONE_SPEAKER, SEVERAL_SPEAKERS = VOICES["one speaker"][0], VOICES["several speakers"][0]
IDS = list(range(60))


def feed(ids: list[int], speaker: int = 0) -> Inputs:
    return {
        "input": np.array([ids], np.int64),
        "input_lengths": np.array([len(ids)], np.int64),
        "scales": np.array([0.667, 1.0, 0.8], np.float32),
        "sid": np.array([speaker], np.int64),
    }


def in_parts(model: bytes) -> VitsNetwork:
    parts = split(model)
    front, flow, decoder = (load_session(part) for part in (parts.front, parts.flow, parts.decoder))
    return measure(front, flow, decoder, parts, feed(IDS, 1), feed(IDS[:30], 1))


def joined_and_whole(model: bytes, network: VitsNetwork, text: Inputs, sizes: list[int]) -> tuple[Samples, Samples]:
    """Return the sound of windows of `sizes` in turn, and that of the unsplit graph for the same noise."""
    names = network._front_outputs
    unsplit = load_session(with_outputs(model, names))
    samples, *latent = unsplit.run(None, {one.name: text[one.name] for one in unsplit.get_inputs()})
    sentence = Sentence(network, dict(zip(names, latent, strict=True)))
    windows: list[Samples] = []
    at = 0
    while at < sentence.frames:
        size = min(sizes[len(windows) % len(sizes)], sentence.frames - at)
        windows.append(sentence.samples(at, at + size))
        at += size
    whole, joined = samples.reshape(-1), np.concatenate(windows)
    assert len(joined) == len(whole) == sentence.frames * network.shape.hop
    return joined, whole


def difference(model: bytes, network: VitsNetwork, text: Inputs, sizes: list[int]) -> float:
    """Return how far windows differ from the unsplit graph at most, of full scale."""
    joined, whole = joined_and_whole(model, network, text, sizes)
    assert np.abs(whole).max() > 0.05
    return float(np.abs(joined - whole).max())


@pytest.mark.parametrize("name", VOICES)
def test_windows_sound_as_the_whole_does(name: str) -> None:
    model, hop = VOICES[name]
    network = in_parts(model)
    assert network.shape.hop == hop
    for sizes in ([8, 16, 32], [1], [37], [1000]):
        assert difference(model, network, feed(IDS[::-1], 1), sizes) <= 1e-3


@pytest.mark.parametrize("lacking", ["flow_left", "flow_right", "decoder_left", "decoder_right"])
def test_a_window_needs_the_frames_beside_it_that_the_kernels_cover(lacking: str) -> None:
    parts = split(ONE_SPEAKER)
    assert (parts.flow_reach, parts.decoder_reach) == ((4, 4), (5, 5))
    network = in_parts(ONE_SPEAKER)
    network.shape = replace(network.shape, **{lacking: 0})  # type: ignore[arg-type]  # numbers
    assert difference(ONE_SPEAKER, network, feed(IDS), [16]) > 1e-3


def test_each_speaker_has_a_voice_of_his_own() -> None:
    network = in_parts(SEVERAL_SPEAKERS)
    latent, other = network.latent(feed(IDS)), network.latent(feed(IDS, 2))
    frames = next(iter(latent.values())).shape[-1]
    speaker = {name: value for name, value in other.items() if name not in network.shape.framed}
    assert speaker
    one, two = (Sentence(network, values).samples(0, frames) for values in (latent, latent | speaker))
    assert np.abs(one - two).max() > 0.01


@pytest.mark.models
def test_windows_of_a_real_voice_sound_as_the_whole_does(models_directory: Path) -> None:
    file = Store(models_directory).file(JOE, ".onnx")
    parts = split(file.read_bytes())
    assert (parts.flow_reach, parts.decoder_reach) == ((32, 32), (12, 12))
    piper = loaded(file, models_directory / ".parts")
    assert piper.vits.network is not None
    for text in ("Yes.", "She said that the washing machine is done by noon, at last."):
        for sentence in piper.sentences(text, TtsSettings(), None):
            assert difference(file.read_bytes(), piper.vits.network, sentence, [12, 16, 32, 64]) <= 1e-3


@pytest.mark.parametrize(
    ("model", "why"), [(voice(noise=False), "it adds no noise"), (b"not a model", "it cannot be read")]
)
def test_a_graph_of_another_form_is_not_split(model: bytes, why: str) -> None:
    with pytest.raises(CannotSplit, match=why):
        split(model)


CONFIG = {
    "audio": {"sample_rate": 16000},
    "espeak": {"voice": "en-us"},
    "num_symbols": 256,
    "num_speakers": 1,
    "phoneme_id_map": {chr(at): [at] for at in range(256)} | {"_": [0], "^": [1], "$": [2]},
    "phoneme_type": "text",
}

Write = Callable[[bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a voice as `odd.onnx`."""

    def write(model: bytes) -> Path:
        file = tmp_path / "odd.onnx"
        file.write_bytes(model)
        Path(f"{file}.json").write_text(json.dumps(CONFIG))
        return file

    return write


def loaded(file: Path, parts: Path) -> PiperVoice:
    return PiperVoice(file, parts, ["CPUExecutionProvider"], 1)


def windows(piper: PiperVoice) -> int:
    """Return the number of windows with sound in which a sentence is spoken."""
    timeline = Timeline()
    count = 0
    text = "Twelve monkeys went to the market, and came back with a dozen bananas."
    for window in piper.speak(text, TtsSettings(), None, timeline):
        timeline.add(len(window) / piper.rate)
        count += len(window) > 0
    return count


def test_a_voice_that_cannot_be_split_speaks_in_whole_sentences(
    write: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "satellite"):
        piper = loaded(write(voice(noise=False)), tmp_path / "parts")
    assert (piper.vits.planner, windows(piper)) == (None, 1)
    (line,) = [record.getMessage() for record in caplog.records if record.name.startswith("satellite")]
    assert line == "voice odd is synthesised by whole sentences, not in windows: it adds no noise"


def test_parts_are_kept_and_checked(write: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file, parts = write(ONE_SPEAKER), tmp_path / "parts"
    assert windows(loaded(file, parts)) > 1
    (home,) = parts.iterdir()
    assert home.name == digest_of(file)
    made_at = (home / "flow.onnx").stat().st_mtime_ns
    loaded(file, parts)
    assert (home / "flow.onnx").stat().st_mtime_ns == made_at
    (home / "decoder.onnx").write_bytes(b"broken")
    assert windows(loaded(file, parts)) > 1
    assert "are damaged, and are replaced" in caplog.text
    assert (home / "flow.onnx").stat().st_mtime_ns != made_at
    write(VOICES["odd hop"][0])
    (parts / ".new-abandoned").mkdir()
    os.utime(parts / ".new-abandoned", (0, 0))
    assert windows(loaded(file, parts)) > 1
    assert [one.name for one in parts.iterdir()] == [digest_of(file)]


def test_a_voice_is_measured_once(write: Write, tmp_path: Path) -> None:
    file, parts = write(ONE_SPEAKER), tmp_path / "parts"
    loaded(file, parts)
    (file_of_costs,) = parts.glob("*/measured.json")
    measured = json.loads(file_of_costs.read_text())
    measured["windows"]["found"]["seconds"] = [100.0, 900.0]  # so slow that all of a sentence must be there at once
    file_of_costs.write_text(json.dumps(measured))
    assert windows(loaded(file, parts)) == 1
    measured["windows"]["under"]["threads"] = 7
    file_of_costs.write_text(json.dumps(measured))
    assert windows(loaded(file, parts)) > 1


def test_parts_that_cannot_be_kept_are_used(write: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "parts").write_text("no folder")
    assert loaded(write(ONE_SPEAKER), tmp_path / "parts").vits.planner is not None
    assert "is split at every start" in caplog.text


def test_a_damaged_voice_is_an_error(write: Write, tmp_path: Path) -> None:
    with pytest.raises(TextToSpeechError, match="voice odd cannot be loaded"):
        loaded(write(b"no graph at all"), tmp_path / "parts")
