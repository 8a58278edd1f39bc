"""Voices in parts: windows sound as the whole does, whatever the graph's names, hop and speakers."""

import json
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from satellite.config.settings import TtsSettings
from satellite.engines.tts.graph_split import CannotSplit, split
from satellite.engines.tts.parts_cache import digest_of
from satellite.engines.tts.piper import CALIBRATION, PiperVoice
from satellite.engines.tts.vits import Inputs, Samples, Sentence, VitsNetwork, measure
from satellite.engines.tts.windows import Timeline
from satellite.errors import TextToSpeechError
from satellite.models.demo_set import JOE
from satellite.models.store import Store
from tests.vits_graphs import voice, with_outputs, write

VOICES = {
    "one speaker": voice(),
    "several speakers": voice(speakers=3, seed=2),
    "low quality, hop 128": voice((8, 16), seed=3),
    "hop 300": voice((10, 30), seed=4),
    "branches": voice(branch=True, speakers=2, seed=5),
}


def session(model: bytes | Path) -> Any:
    """Load a model, quietly and in two threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model if isinstance(model, bytes) else str(model), options)


def feed(ids: list[int], speaker: int = 0) -> Inputs:
    """Return the inputs of a voice."""
    return {
        "input": np.array([ids], np.int64),
        "input_lengths": np.array([len(ids)], np.int64),
        "scales": np.array([0.667, 1.0, 0.8], np.float32),
        "sid": np.array([speaker], np.int64),
    }


def in_parts(model: bytes, long: Inputs, short: Inputs) -> VitsNetwork:
    """Cut and measure a model."""
    parts = split(model)
    return measure(session(parts.front), session(parts.flow), session(parts.decoder), parts, long, short)


def difference(model: bytes, network: VitsNetwork, text: Inputs, sizes: list[int]) -> float:
    """Return how far windows differ from the unsplit graph at most, for the same noise, of full scale."""
    names = network._front_outputs
    unsplit = session(with_outputs(model, names))
    samples, *latent = unsplit.run(None, {one.name: text[one.name] for one in unsplit.get_inputs()})
    sentence = Sentence(network, dict(zip(names, latent, strict=True)))
    windows: list[Samples] = []
    at = 0
    while at < sentence.frames:
        size = min(sizes[len(windows) % len(sizes)], sentence.frames - at)
        windows.append(sentence.samples(at, at + size))
        at += size
    whole = samples.reshape(-1)
    joined = np.concatenate(windows)
    assert len(joined) == len(whole) == sentence.frames * network.shape.hop
    assert np.abs(whole).max() > 0.05
    return float(np.abs(joined - whole).max())


@pytest.mark.parametrize("name", VOICES)
def test_windows_sound_as_the_whole_does(name: str) -> None:
    model = VOICES[name]
    ids = [int(one) for one in np.random.default_rng(7).integers(0, 256, 60)]
    network = in_parts(model, feed(ids, 1), feed(ids[:30], 1))
    for sizes in ([8, 16, 32], [1], [37], [1000]):
        assert difference(model, network, feed(ids[::-1], 1), sizes) <= 1e-3


def test_the_hop_is_found_out() -> None:
    ids = list(range(60))
    hops = {
        name: in_parts(model, feed(ids), feed(ids[:30])).shape.hop
        for name, model in VOICES.items()
        if "hop" in name or "several" in name
    }
    assert hops == {"several speakers": 256, "low quality, hop 128": 128, "hop 300": 300}


def test_what_a_window_needs_beside_it_is_told_by_the_kernels() -> None:
    model = VOICES["one speaker"]
    parts = split(model)
    assert parts.flow_reach == (4, 4)
    assert parts.decoder_reach == (5, 5)
    ids = list(range(60))
    network = in_parts(model, feed(ids), feed(ids[:30]))
    for lacking in ({"flow_left": 0}, {"flow_right": 0}, {"decoder_left": 0}, {"decoder_right": 0}):
        network.shape = replace(in_parts(model, feed(ids), feed(ids[:30])).shape, **lacking)  # type: ignore[arg-type]  # numbers
        assert difference(model, network, feed(ids), [16]) > 1e-3


@pytest.mark.models
def test_a_real_flow_and_decoder_see_as_far_as_their_paper_says(models_directory: Path) -> None:
    parts = split(Store(models_directory).file(JOE, ".onnx").read_bytes())
    assert parts.flow_reach == (32, 32)
    assert parts.decoder_reach == (12, 12)


def test_each_speaker_has_a_voice_of_his_own() -> None:
    model = VOICES["several speakers"]
    ids = list(range(60))
    network = in_parts(model, feed(ids), feed(ids[:30]))
    latent = network.latent(feed(ids))
    other = network.latent(feed(ids, 2))
    frames = next(iter(latent.values())).shape[-1]
    speaker = {name: value for name, value in other.items() if name not in network.shape.framed}
    assert speaker
    one, two = (Sentence(network, values).samples(0, frames) for values in (latent, latent | speaker))
    assert np.abs(one - two).max() > 0.01


@pytest.mark.models
@pytest.mark.parametrize("text", [CALIBRATION, "Yes.", "She said that the washing machine is done by noon, at last."])
def test_windows_of_a_real_voice_sound_as_the_whole_does(models_directory: Path, tmp_path: Path, text: str) -> None:
    file = Store(models_directory).file(JOE, ".onnx")
    piper = PiperVoice(file, models_directory / ".parts", ["CPUExecutionProvider"], 1)
    assert piper._network is not None
    for sentence in piper.sentences(text, TtsSettings(), None):
        assert difference(file.read_bytes(), piper._network, sentence, [12, 16, 32, 64]) <= 1e-3


@pytest.mark.parametrize(
    ("model", "why"), [(voice(noise=False), "it adds no noise"), (b"not a model", "it cannot be read")]
)
def test_a_graph_of_another_form_is_not_cut(model: bytes, why: str) -> None:
    with pytest.raises(CannotSplit, match=why):
        split(model)


CONFIG = json.dumps(
    {
        "audio": {"sample_rate": 16000},
        "espeak": {"voice": "en-us"},
        "num_symbols": 256,
        "num_speakers": 1,
        "phoneme_id_map": {chr(at): [at] for at in range(256)} | {"_": [0], "^": [1], "$": [2]},
        "phoneme_type": "text",
    }
)
TEXT = "Twelve monkeys went to the market, and came back with a dozen bananas."


def loaded(file: Path, parts: Path) -> PiperVoice:
    """Load a voice on one core."""
    return PiperVoice(file, parts, ["CPUExecutionProvider"], 1)


def sound(piper: PiperVoice, text: str = TEXT) -> list[int]:
    """Return the lengths of the windows of a text."""
    timeline = Timeline()
    lengths = []
    for window in piper.speak(text, TtsSettings(), None, timeline):
        timeline.add(len(window) / piper.config.sample_rate)
        lengths.append(len(window))
    return lengths


def test_a_voice_that_cannot_be_cut_speaks_all_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "odd.onnx"
    write(file, voice(noise=False), CONFIG)
    with caplog.at_level(logging.WARNING, "satellite"):
        piper = loaded(file, tmp_path / "parts")
        assert piper.planner is None
        assert len(sound(piper)) == 1
    (line,) = [record.getMessage() for record in caplog.records if record.name.startswith("satellite")]
    assert line == "voice odd is synthesised by whole sentences, not in windows: it adds no noise"


def test_parts_are_kept_and_checked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file, parts = tmp_path / "one.onnx", tmp_path / "parts"
    write(file, VOICES["one speaker"], CONFIG)
    assert len(sound(loaded(file, parts))) > 1
    (home,) = parts.iterdir()
    assert home.name == digest_of(file)
    made_at = (home / "flow.onnx").stat().st_mtime_ns
    loaded(file, parts)
    assert (home / "flow.onnx").stat().st_mtime_ns == made_at
    (home / "decoder.onnx").write_bytes(b"broken")
    with caplog.at_level(logging.WARNING, "satellite"):
        assert len(sound(loaded(file, parts))) > 1
    assert "are damaged, and are replaced" in caplog.text
    assert (home / "flow.onnx").stat().st_mtime_ns != made_at
    write(file, VOICES["hop 300"], CONFIG)
    (parts / ".new-abandoned").mkdir()
    os.utime(parts / ".new-abandoned", (0, 0))
    assert len(sound(loaded(file, parts))) > 1
    assert [one.name for one in parts.iterdir()] == [digest_of(file)]


def test_a_voice_is_measured_once(tmp_path: Path) -> None:
    file, parts = tmp_path / "one.onnx", tmp_path / "parts"
    write(file, VOICES["one speaker"], CONFIG)
    assert loaded(file, parts).planner is not None
    (measured,) = parts.glob("*/measured.json")
    told = json.loads(measured.read_text())
    told["windows"]["found"]["seconds"] = [100.0, 900.0]  # so slow that all of a sentence must be there at once
    measured.write_text(json.dumps(told))
    piper = loaded(file, parts)
    assert len([length for length in sound(piper) if length]) == 1
    told["windows"]["under"]["threads"] = 7
    measured.write_text(json.dumps(told))
    assert len([length for length in sound(loaded(file, parts)) if length]) > 1


def test_parts_that_cannot_be_kept_are_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file, parts = tmp_path / "one.onnx", tmp_path / "parts"
    write(file, VOICES["one speaker"], CONFIG)
    parts.write_text("no folder")
    with caplog.at_level(logging.WARNING, "satellite"):
        piper = loaded(file, parts)
    assert piper.planner is not None
    assert "is split at every start" in caplog.text


def test_a_voice_without_sense_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "broken.onnx"
    write(file, b"no graph at all", CONFIG)
    with pytest.raises(TextToSpeechError, match="voice broken cannot be loaded"):
        loaded(file, tmp_path / "parts")
