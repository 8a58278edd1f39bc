"""What is spoken in windows is understood as well as what is spoken as a whole."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from satellite.audio.pcm import AudioFormat, Converter
from satellite.audio.word_errors import edit_distance
from satellite.config.settings import SttSettings, TtsSettings
from satellite.engines.protocols import Voice, VoiceChoice
from satellite.engines.stt.whisper import WhisperTranscriber
from satellite.engines.tts.piper import PiperVoice
from satellite.engines.tts.synthesizer import PiperSynthesizer
from satellite.engines.tts.vits import Samples, Sentence
from satellite.engines.worker import Worker
from satellite.errors import Stage
from satellite.models.demo_set import JOE, TINY_EN
from satellite.models.store import Store
from tests.test_engines_tts_piper import session
from tests.vits_graphs import with_outputs

pytestmark = pytest.mark.models

SENTENCES = (
    "The kitchen window is still open, and it is raining.",
    "Would you like me to turn down the heating in the living room this evening?",
    "The washing machine is done, the front door is locked, and dinner will be ready in a few minutes.",
)


@pytest.fixture(scope="module")
def whisper(models_directory: Path) -> Iterator[WhisperTranscriber]:
    """The demo model."""
    worker = Worker(Stage.STT)
    loaded = WhisperTranscriber(
        SttSettings(threads=2), worker, languages=TINY_EN.languages, window_floor_seconds=TINY_EN.window_floor_seconds
    )
    loaded.load(Store(models_directory).path(TINY_EN))
    yield loaded
    worker.close()


async def words(whisper: WhisperTranscriber, pcm: bytes, rate: int) -> list[str]:
    """Return what is understood of 16-bit mono sound."""
    converter = Converter(AudioFormat(rate))
    canonical = converter.convert(pcm) + converter.flush()
    heard = await whisper.transcribe(canonical, speech=[1.0] * (len(canonical) // 1024))
    return re.findall(r"[a-z']+", heard.text.lower())


def loud(samples: Samples) -> bytes:
    """Return samples as PCM, at a usual level."""
    return bytes((np.clip(samples * (0.8 / np.abs(samples).max()), -1, 1) * 32767).astype(np.int16).tobytes())


@pytest.mark.parametrize("text", SENTENCES)
async def test_windows_are_understood_as_the_whole_is(
    models_directory: Path, whisper: WhisperTranscriber, text: str
) -> None:
    file = Store(models_directory).file(JOE, ".onnx")
    piper = PiperVoice(file, models_directory / ".parts", ["CPUExecutionProvider"], 2)
    assert piper._network is not None
    names = piper._network._front_outputs
    (inputs,) = piper.sentences(text, TtsSettings(noise_scale=0.3, noise_w_scale=0), None)
    whole, *latent = session(with_outputs(file.read_bytes(), names)).run(None, dict(inputs))
    sentence = Sentence(piper._network, dict(zip(names, latent, strict=True)))
    windows = [sentence.samples(at, min(at + 16, sentence.frames)) for at in range(0, sentence.frames, 16)]
    heard = [await words(whisper, loud(samples), 22_050) for samples in (whole.reshape(-1), np.concatenate(windows))]
    assert edit_distance(*heard) <= 1
    assert len(set(re.findall(r"[a-z']+", text.lower())).difference(heard[0])) <= 1


async def test_what_is_spoken_is_understood(models_directory: Path, whisper: WhisperTranscriber) -> None:
    file = Store(models_directory).file(JOE, ".onnx")
    worker = Worker(Stage.TTS)
    files = [(Voice("joe", ("en_US",), (), ""), file)]
    settings = TtsSettings(noise_scale=0, noise_w_scale=0, threads=2)
    piper = PiperSynthesizer(settings, lambda: files, models_directory / ".parts", worker)
    piper.load()
    text = " ".join(SENTENCES)
    speaker = await piper.speaker(VoiceChoice())
    windows = [pcm async for pcm in speaker.speak(text)]
    assert len(windows) > 3
    assert np.abs(np.frombuffer(windows[0], np.int16)[: round(0.02 * 22_050)]).max() > 100
    said = re.findall(r"[a-z']+", text.lower())
    assert edit_distance(said, await words(whisper, b"".join(windows), 22_050)) <= 1  # tiny.en may take "in" for "and"
    worker.close()
