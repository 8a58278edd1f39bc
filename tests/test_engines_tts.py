"""Piper: one gain, one format, several voices in bounded memory, and no text that crashes it."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest

from satellite.config.settings import TtsSettings
from satellite.daemon.installed_voices import VoiceFolder
from satellite.engines.protocols import Voice, VoiceChoice
from satellite.engines.tts.synthesizer import PiperSynthesizer
from satellite.engines.worker import Worker
from satellite.errors import ModelError, Stage, TextToSpeechError
from satellite.models import catalogue
from satellite.models.spec import Kind
from satellite.models.store import Store
from satellite.pipeline.clauses import pieces
from tests.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.models


class Mouth:
    """A synthesizer over some voices."""

    def __init__(self, files: list[tuple[Voice, Path]], settings: TtsSettings, parts: Path) -> None:
        self.worker = Worker(Stage.TTS)
        self.piper = PiperSynthesizer(settings, lambda: files, parts, self.worker)

    async def say(self, text: str, choice: VoiceChoice | None = None) -> bytes:
        """Return `text` as PCM."""
        speaker = await self.piper.speaker(choice or VoiceChoice())
        return b"".join([pcm for piece in pieces(text) async for pcm in speaker.speak(piece)])


def copies(models: Path, folder: Path, names: dict[str, dict[str, object]]) -> list[tuple[Voice, Path]]:
    """Make voices out of the demo voice, with changed settings, by name."""
    original = Store(models).path(catalogue.find(Kind.TTS, "en_US-joe-medium")) / "en_US-joe-medium.onnx"
    found = []
    for name, changes in names.items():
        file = folder / f"{name}.onnx"
        file.symlink_to(original)
        config = json.loads(Path(f"{original}.json").read_text()) | changes
        Path(f"{file}.json").write_text(json.dumps(config))
        language = name.partition("-")[0]
        speakers: dict[str, int] = config.get("speaker_id_map", {})
        found.append((Voice(name, (language,), tuple(speakers), name), file))
    return found


@pytest.fixture(scope="module")
def mouth(models_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mouth]:
    """Three voices, of which two fit into memory."""
    voices: dict[str, dict[str, object]] = {"en_US-joe-medium": {}, "en_GB-jim-medium": {}, "fr_FR-jean-medium": {}}
    mouth = Mouth(
        copies(models_directory, tmp_path_factory.mktemp("voices"), voices),
        TtsSettings(max_loaded_voices=2, threads=2),
        models_directory / ".parts",
    )
    mouth.piper.load()
    yield mouth
    mouth.worker.close()


def peak(pcm: bytes) -> float:
    """Return the largest sample, 1 being full scale."""
    return float(np.abs(np.frombuffer(pcm, np.int16)).max()) / 32768


async def test_text_becomes_sound(mouth: Mouth) -> None:
    """A sentence lasts about as long as a person needs for it, at a sensible level."""
    pcm = await mouth.say("The capital of France is Paris.")
    assert 1.0 < len(pcm) / 2 / 22050 < 4.0
    assert 0.2 < peak(pcm) < 1.0


@pytest.mark.parametrize("text", ["", "   ", "🎉🎉", "...", "***", "\n\n", "```code```", "<break/>"])
async def test_text_without_words_is_silent(mouth: Mouth, text: str) -> None:
    """Nothing to say is no sound and no failure."""
    assert await mouth.say(text) == b""


@pytest.mark.parametrize(
    "text",
    [
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
    """Digits, addresses, other scripts and nonsense give some sound, never a crash."""
    assert len(await mouth.say(text)) > 10_000


async def test_a_long_text_is_spoken_in_pieces(mouth: Mouth) -> None:
    """Two thousand characters come out whole."""
    sentence = "The quick brown fox jumps over the lazy dog near the old river bank. "
    pcm = await mouth.say(sentence * 10)
    assert len(pcm) / 2 / 22050 > 25


async def test_each_speaker_of_a_voice_has_a_gain_of_its_own(models_directory: Path, tmp_path: Path) -> None:
    """One may be louder than the other; who has spoken before need not be loaded."""
    voices: dict[str, dict[str, object]] = {"en_US-two-medium": {"speaker_id_map": {"ann": 0, "bob": 1}}}
    mouth = Mouth(copies(models_directory, tmp_path, voices), TtsSettings(threads=2), models_directory / ".parts")
    mouth.piper.load()
    for name in ("ann", "bob", "ann"):
        await mouth.piper.speaker(VoiceChoice(speaker=name))
    speakers = [await mouth.piper.speaker(VoiceChoice(speaker=name)) for name in ("ann", "bob")]
    assert len({speaker.identity for speaker in speakers}) == 2
    assert [gain for (_, speaker_id), gain in mouth.piper._gains.items() if speaker_id is not None] == [
        speaker.gain for speaker in speakers
    ]
    mouth.worker.close()


async def test_the_gain_of_a_voice_is_constant(mouth: Mouth) -> None:
    """Short and long texts are scaled alike: no piece is blown up to full loudness on its own."""
    (gain,) = {(await mouth.piper.speaker(VoiceChoice())).gain for _ in range(3)}
    assert gain > 0
    loud = peak(await mouth.say("Attention! Attention! Attention!"))
    assert loud < 1.0


async def test_volume_scales_the_sound(models_directory: Path, tmp_path: Path) -> None:
    """Half the volume is half the amplitude, everything random switched off."""
    levels = []
    for volume in (1.0, 0.5):
        folder = tmp_path / str(volume)
        folder.mkdir()
        settings = TtsSettings(volume=volume, noise_scale=0, noise_w_scale=0, threads=2)
        mouth = Mouth(copies(models_directory, folder, {"en_US-joe-medium": {}}), settings, models_directory / ".parts")
        levels.append(peak(await mouth.say("Hello there.")))
        mouth.worker.close()
    assert levels[1] == pytest.approx(levels[0] / 2, rel=0.02)


async def test_a_slower_pace_takes_longer(models_directory: Path, tmp_path: Path) -> None:
    """`length_scale` stretches the speech."""
    lengths = []
    for scale in (1.0, 2.0):
        folder = tmp_path / str(scale)
        folder.mkdir()
        settings = TtsSettings(length_scale=scale, noise_scale=0, noise_w_scale=0, threads=2)
        mouth = Mouth(copies(models_directory, folder, {"en_US-joe-medium": {}}), settings, models_directory / ".parts")
        lengths.append(len(await mouth.say("Hello there, how are you?")))
        mouth.worker.close()
    assert lengths[1] > 1.5 * lengths[0]


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
    """The name wins, then the language with its region, then the language, then the default."""
    assert (await mouth.piper.speaker(choice)).voice.name == expected


async def test_unknown_voices_are_errors_with_a_hint(mouth: Mouth) -> None:
    """A name with a slip names the nearest voice."""
    with pytest.raises(TextToSpeechError, match="did you mean 'en_US-joe-medium'") as caught:
        await mouth.say("Hello", VoiceChoice(name="en_US-jo-medium"))
    assert caught.value.code == "tts-unknown-voice"


async def test_few_voices_stay_in_memory(mouth: Mouth) -> None:
    """Past the bound, the voice unused longest is unloaded, and comes back when asked for."""
    for name in ("en_US-joe-medium", "en_GB-jim-medium", "fr_FR-jean-medium", "en_US-joe-medium"):
        assert await mouth.say("Yes.", VoiceChoice(name=name))
        assert len(mouth.piper._loaded) <= 2
    assert list(mouth.piper._loaded) == ["fr_FR-jean-medium", "en_US-joe-medium"]


async def test_leaving_stops_the_work(mouth: Mouth) -> None:
    """A caller that leaves, between two windows or amid one, does not keep the engine busy with the rest."""
    story = "This is a sentence of some length. " * 60
    speaker = await mouth.piper.speaker(VoiceChoice())
    async with aclosing(speaker.speak(story)) as sound:
        assert await anext(sound)
    left_at = mouth.worker.completed
    speaking = asyncio.create_task(anext(speaker.speak(story)))
    while mouth.worker.busy_since is None:
        await asyncio.sleep(0.001)
    speaking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await speaking
    async with asyncio.timeout(PATIENCE_SECONDS):
        windows = [pcm async for pcm in speaker.speak("Next.")]
    assert windows
    assert mouth.worker.completed < left_at + len(windows) + 10  # of some hundred
    assert mouth.worker.pending == 0


async def test_those_who_speak_at_once_take_turns(mouth: Mouth) -> None:
    """A short text does not wait for a long one to be over."""
    speaker = await mouth.piper.speaker(VoiceChoice())
    ended: list[str] = []

    async def say(text: str) -> None:
        async for _ in speaker.speak(text):
            pass
        ended.append(text)

    story = "This is a sentence of some length. " * 20
    await asyncio.gather(say(story), say("Yes."))
    assert (ended)[0] == "Yes."


def test_installed_voices_are_found(models_directory: Path) -> None:
    """The demo voice is listed with its language."""
    folder = VoiceFolder(Store(models_directory), catalogue.find(Kind.TTS, "en_US-joe-medium"))
    voice, file = folder.files()[0]
    assert (voice.name, voice.languages, voice.speakers) == ("en_US-joe-medium", ("en_US",), ())
    assert file.is_file()


def test_a_voice_of_ones_own_by_its_path(models_directory: Path, tmp_path: Path) -> None:
    """An .onnx file with its .json beside it is a voice; speakers and language come from the file."""
    original = Store(models_directory).path(catalogue.find(Kind.TTS, "en_US-joe-medium")) / "en_US-joe-medium.onnx"
    file = tmp_path / "mine.onnx"
    file.symlink_to(original)
    shutil.copy(f"{original}.json", f"{file}.json")
    folder = VoiceFolder(Store(tmp_path), catalogue.find(Kind.TTS, str(file)))
    voice, _ = folder.files()[0]
    assert (voice.name, voice.languages) == ("mine", ("en_US",))


def test_a_missing_voice_says_how_to_get_it(tmp_path: Path) -> None:
    """The error ends with the command."""
    folder = VoiceFolder(Store(tmp_path), catalogue.find(Kind.TTS, "fr_FR-siwis-medium"))
    assert folder.files() == []
    with pytest.raises(ModelError, match="satellite models pull tts/fr_FR-siwis-medium"):
        folder.require_default()


async def test_a_voice_that_is_replaced_is_read_again(models_directory: Path, tmp_path: Path) -> None:
    """One that cannot be used leaves the old one speaking; nobody has to restart anything."""
    (original,) = copies(models_directory, tmp_path, {"en-mine": {}})
    about = Path(f"{original[1]}.json")
    folder = VoiceFolder(Store(tmp_path / "store"), catalogue.find(Kind.TTS, str(original[1])))
    worker = Worker(Stage.TTS)
    piper = PiperSynthesizer(TtsSettings(voice=str(original[1])), folder.files, models_directory / ".parts", worker)

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
