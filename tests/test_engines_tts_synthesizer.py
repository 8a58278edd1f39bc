"""Piper: one gain, one format, several voices in bounded memory, and no text that crashes it."""

import asyncio
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from satellite.audio.pcm import AudioFormat, Converter
from satellite.audio.word_errors import edit_distance
from satellite.config.settings import SttSettings, TtsSettings
from satellite.daemon.installed_voices import VoiceFolder
from satellite.engines.protocols import Voice, VoiceChoice
from satellite.engines.tts.synthesizer import PiperSynthesizer
from satellite.engines.worker import Worker
from satellite.errors import ModelError, Stage, TextToSpeechError
from satellite.models import catalogue
from satellite.models.demo_set import JOE
from satellite.models.spec import Kind
from satellite.models.store import Store
from satellite.pipeline.clauses import pieces
from tests.test_engines_stt import Ears, words
from tests.waiting import PATIENCE_SECONDS, until

pytestmark = pytest.mark.models

RATE = 22_050


class Mouth:
    """A synthesizer of copies of the demo voice, whose configurations differ as given, by name."""

    def __init__(self, models: Path, folder: Path, voices: dict[str, dict[str, object]], **settings: Any) -> None:
        original = Store(models).file(JOE, ".onnx")
        files = []
        for name, changes in voices.items():
            file = folder / f"{name}.onnx"
            file.symlink_to(original)
            config = json.loads(Path(f"{original}.json").read_text()) | changes
            Path(f"{file}.json").write_text(json.dumps(config))
            files.append((Voice(name, (name.partition("-")[0],), tuple(config.get("speaker_id_map", ())), name), file))
        self.worker = Worker(Stage.TTS)
        parts = models / ".parts"
        self.piper = PiperSynthesizer(TtsSettings(**{"threads": 2, **settings}), lambda: files, parts, self.worker)

    async def say(self, text: str, choice: VoiceChoice | None = None) -> bytes:
        """Return `text` as PCM."""
        speaker = await self.piper.speaker(choice or VoiceChoice())
        return b"".join([pcm for piece in pieces(text) async for pcm in speaker.speak(piece)])


@pytest.fixture(scope="module")
def make(models_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Mouth]]:
    """Make synthesizers whose threads end with the tests."""
    made: list[Mouth] = []

    def make(voices: dict[str, dict[str, object]], **settings: Any) -> Mouth:
        made.append(Mouth(models_directory, tmp_path_factory.mktemp("voices"), voices, **settings))
        return made[-1]

    yield make
    for mouth in made:
        mouth.worker.close()


@pytest.fixture(scope="module")
def mouth(make: Callable[..., Mouth]) -> Mouth:
    """Three voices, of which two fit into memory."""
    mouth = make({"en_US-joe-medium": {}, "en_GB-jim-medium": {}, "fr_FR-jean-medium": {}}, max_loaded_voices=2)
    mouth.piper.load()
    return mouth


def peak(pcm: bytes) -> float:
    """Return the largest sample; 1 is full scale."""
    return float(np.abs(np.frombuffer(pcm, np.int16)).max()) / 32768


async def test_what_is_spoken_is_understood(models_directory: Path, make: Callable[..., Mouth]) -> None:
    ears = Ears(models_directory, SttSettings(threads=2))
    mouth = make({"en_US-joe-medium": {}}, noise_scale=0, noise_w_scale=0)
    text = (
        "The kitchen window is still open, and it is raining. "
        "Would you like me to turn down the heating in the living room this evening?"
    )
    speaker = await mouth.piper.speaker(VoiceChoice())
    windows = [pcm async for pcm in speaker.speak(text)]
    assert len(windows) > 3
    assert np.abs(np.frombuffer(windows[0], np.int16)[: round(0.02 * RATE)]).max() > 100  # no silence before it
    converter = Converter(AudioFormat(RATE))
    heard = await ears.hear(converter.convert(b"".join(windows)) + converter.flush())
    assert edit_distance(words(text), words(heard.text)) <= 1
    ears.worker.close()


@pytest.mark.parametrize("text", ["", "   ", "🎉🎉", "...", "***", "\n\n", "```code```", "<break/>"])
async def test_text_without_words_is_silent(mouth: Mouth, text: str) -> None:
    assert await mouth.say(text) == b""


@pytest.mark.parametrize(
    "text",
    [
        "The quick brown fox jumps over the lazy dog near the old river bank. " * 3,
        "1234567890 and 3.14159, 50%, $20.",
        "See https://example.com/a/very/long?path=with#things or mail me@example.com",
        "漢字 and кириллица and العربية",
        "a" * 500,
        "Hmm... [[ˈfoʊ]] ]] [[",
        "\u202eright to left\u202c \ud7ff",
        "é\u0301\u0302\u0303" * 30,
    ],
)
async def test_odd_text_is_spoken(mouth: Mouth, text: str) -> None:
    assert len(await mouth.say(text)) > 10_000


async def test_each_speaker_of_a_voice_has_a_gain_of_its_own(make: Callable[..., Mouth]) -> None:
    piper = make({"en_US-two-medium": {"speaker_id_map": {"ann": 0, "bob": 1}}}).piper
    ann, bob, again = [await piper.speaker(VoiceChoice(speaker=name)) for name in ("ann", "bob", "ann")]
    assert ann.identity == again.identity != bob.identity
    assert list(piper._gains.values()) == [ann.gain, bob.gain]
    assert ann.gain == again.gain > 0


async def test_volume_scales_the_sound_and_length_scale_its_duration(make: Callable[..., Mouth]) -> None:
    settings: list[dict[str, float]] = [{}, {"volume": 0.5}, {"length_scale": 2.0}]
    mouths = [make({"en_US-joe-medium": {}}, noise_scale=0, noise_w_scale=0, **one) for one in settings]
    usual, half, slow = [await mouth.say("Attention! Attention, please!") for mouth in mouths]
    assert 0.2 < peak(usual) < 1.0
    assert 1.0 < len(usual) / 2 / RATE < 4.0
    assert peak(half) == pytest.approx(peak(usual) / 2, rel=0.02)
    assert len(slow) > 1.5 * len(usual)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (VoiceChoice(), "en_US-joe-medium"),
        (VoiceChoice(name="fr_FR-jean-medium"), "fr_FR-jean-medium"),
        (VoiceChoice(language="fr"), "fr_FR-jean-medium"),
        (VoiceChoice(language="en-GB"), "en_GB-jim-medium"),
        (VoiceChoice(language="en"), "en_US-joe-medium"),
        (VoiceChoice(language="xx"), "en_US-joe-medium"),
    ],
)
async def test_voices_are_chosen_by_name_or_language(mouth: Mouth, choice: VoiceChoice, expected: str) -> None:
    assert (await mouth.piper.speaker(choice)).voice.name == expected


async def test_unknown_voices_are_errors_with_a_hint(mouth: Mouth) -> None:
    with pytest.raises(TextToSpeechError, match="did you mean 'en_US-joe-medium'") as caught:
        await mouth.say("Hello", VoiceChoice(name="en_US-jo-medium"))
    assert caught.value.code == "tts-unknown-voice"


async def test_few_voices_stay_in_memory(mouth: Mouth) -> None:
    for name in ("en_US-joe-medium", "en_GB-jim-medium", "fr_FR-jean-medium", "en_US-joe-medium"):
        assert await mouth.say("Yes.", VoiceChoice(name=name))
        assert len(mouth.piper._loaded) <= 2
    assert list(mouth.piper._loaded) == ["fr_FR-jean-medium", "en_US-joe-medium"]


async def test_closing_or_cancelling_stops_the_work(mouth: Mouth) -> None:
    story = "This is a sentence of some length. " * 60
    speaker = await mouth.piper.speaker(VoiceChoice())
    async with aclosing(speaker.speak(story)) as sound:
        assert await anext(sound)
    left_at = mouth.worker.completed
    speaking = asyncio.create_task(anext(speaker.speak(story)))
    await until(lambda: mouth.worker.busy_since is not None)
    speaking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await speaking
    async with asyncio.timeout(PATIENCE_SECONDS):
        windows = [pcm async for pcm in speaker.speak("Next.")]
    assert windows
    assert mouth.worker.completed < left_at + len(windows) + 10  # of some hundred
    assert mouth.worker.pending == 0


async def test_texts_that_are_spoken_at_once_take_turns(mouth: Mouth) -> None:
    speaker = await mouth.piper.speaker(VoiceChoice())
    ended: list[str] = []

    async def say(text: str) -> None:
        async for _ in speaker.speak(text):
            pass
        ended.append(text)

    story = "This is a sentence of some length. " * 20
    await asyncio.gather(say(story), say("Yes."))
    assert ended[0] == "Yes."


def test_installed_voices_are_found(models_directory: Path, tmp_path: Path) -> None:
    voice, file = VoiceFolder(Store(models_directory), JOE).files()[0]
    assert (voice.name, voice.languages, voice.speakers) == ("en_US-joe-medium", ("en_US",), ())
    own = tmp_path / "mine.onnx"
    own.symlink_to(file)
    shutil.copy(f"{file}.json", f"{own}.json")
    voice, _ = VoiceFolder(Store(tmp_path), catalogue.find(Kind.TTS, str(own))).files()[0]
    assert (voice.name, voice.languages) == ("mine", ("en_US",))


def test_a_missing_voice_says_how_to_get_it(tmp_path: Path) -> None:
    folder = VoiceFolder(Store(tmp_path), catalogue.find(Kind.TTS, "fr_FR-siwis-medium"))
    assert folder.files() == []
    with pytest.raises(ModelError, match="satellite models pull tts/fr_FR-siwis-medium"):
        folder.require_default()


async def test_a_voice_that_is_replaced_is_read_again(models_directory: Path, tmp_path: Path) -> None:
    Mouth(models_directory, tmp_path, {"en-mine": {}}).worker.close()
    file = tmp_path / "en-mine.onnx"
    about = Path(f"{file}.json")
    folder = VoiceFolder(Store(tmp_path / "store"), catalogue.find(Kind.TTS, str(file)))
    worker = Worker(Stage.TTS)
    piper = PiperSynthesizer(TtsSettings(voice=str(file)), folder.files, models_directory / ".parts", worker)

    async def seconds() -> float:
        folder.scan()
        speaker = await piper.speaker(VoiceChoice())
        pcm = b"".join([one async for one in speaker.speak("This is a sentence of some length.")])
        return len(pcm) / 2 / speaker.format.rate

    def replace(content: str) -> None:
        about.with_suffix(".new").write_text(content)
        about.with_suffix(".new").replace(about)

    first = await seconds()
    assert await seconds() == pytest.approx(first, rel=0.2)
    good = json.loads(about.read_text())
    replace(json.dumps(good | {"inference": {**good["inference"], "length_scale": 3.0}}))
    slow = await seconds()
    assert slow > 2 * first
    replace(json.dumps({key: value for key, value in good.items() if key != "phoneme_id_map"}))
    assert await seconds() == pytest.approx(slow, rel=0.2)
    replace(json.dumps(good))
    assert await seconds() == pytest.approx(first, rel=0.2)
    worker.close()
