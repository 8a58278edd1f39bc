"""Text to speech: one gain, one format, several voices in bounded memory, and no text that crashes it."""

import asyncio
import json
import shutil
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from satellite.audio.pcm import AudioFormat, Converter
from satellite.audio.word_errors import edit_distance
from satellite.config.settings import SttSettings, TtsSettings
from satellite.daemon.installed_voices import VoiceFolder
from satellite.engines.protocols import Voice, VoiceChoice
from satellite.engines.tts.level import TARGET_LUFS, loudness
from satellite.engines.tts.loaded_voice import CALIBRATION, VoiceFile
from satellite.engines.tts.synthesizer import VoiceSynthesizer
from satellite.engines.worker import Worker
from satellite.errors import ModelError, Stage, TextToSpeechError
from satellite.models import catalogue
from satellite.models.demo_set import JOE
from satellite.models.spec import Kind
from satellite.models.store import Store
from satellite.pipeline.clauses import pieces
from tests.test_engines_stt import Ears, words
from tests.test_engines_tts_piper import CONFIG, ONE_SPEAKER, SEVERAL_SPEAKERS, VOICES
from tests.waiting import PATIENCE_SECONDS, until

SENTENCE = "This is a sentence of some length. "


class Mouth:
    """A synthesizer of the voices in `files`."""

    def __init__(self, files: list[tuple[Voice, VoiceFile]], parts: Path, **settings: Any) -> None:
        self.worker = Worker(Stage.TTS)
        self.piper = VoiceSynthesizer(TtsSettings(**{"threads": 1, **settings}), lambda: files, parts, self.worker)

    async def say(self, text: str, choice: VoiceChoice | None = None) -> bytes:
        speaker = await self.piper.speaker(choice or VoiceChoice())
        return b"".join([pcm for piece in pieces(text) async for pcm in speaker.speak(piece)])


Make = Callable[..., Mouth]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """Make synthesizers of small voices with random weights; their threads end with the tests."""
    made: list[Mouth] = []
    parts = tmp_path_factory.mktemp("parts")

    def make(*names: str, model: bytes = ONE_SPEAKER, config: dict[str, Any] | None = None, **settings: Any) -> Mouth:
        folder = tmp_path_factory.mktemp("voices")
        files = []
        for name in names:
            file = folder / f"{name}.onnx"
            file.write_bytes(model)
            Path(f"{file}.json").write_text(json.dumps(CONFIG | (config or {})))
            files.append((Voice(name, (name.partition("-")[0],), (), name), VoiceFile(file)))
        made.append(Mouth(files, parts, **settings))
        return made[-1]

    yield make
    for mouth in made:
        mouth.worker.close()


@pytest.fixture(scope="module")
def mouth(make: Make) -> Mouth:
    """Three voices, of which two fit into memory."""
    mouth = make("en_US-joe-medium", "en_GB-jim-medium", "fr_FR-jean-medium", max_loaded_voices=2)
    mouth.piper.load()
    return mouth


@pytest.fixture(scope="module")
def joe(models_directory: Path) -> Iterator[Mouth]:
    file = Store(models_directory).file(JOE, ".onnx")
    mouth = Mouth([(Voice("joe", ("en_US",), (), ""), VoiceFile(file))], models_directory / ".parts", threads=2)
    yield mouth
    mouth.worker.close()


def peak(pcm: bytes) -> float:
    return float(np.abs(np.frombuffer(pcm, np.int16)).max()) / 32768


async def test_what_is_spoken_is_understood(models_directory: Path, joe: Mouth) -> None:
    ears = Ears(models_directory, SttSettings(threads=2))
    text = "The kitchen window is still open, and it is raining."
    speaker = await joe.piper.speaker(VoiceChoice())
    windows = [pcm async for pcm in speaker.speak(text)]
    assert len(windows) > 1
    assert speaker.format == AudioFormat(22_050)
    assert np.abs(np.frombuffer(windows[0], np.int16)[:441]).max() > 100  # no silence before it
    assert 0.2 < peak(b"".join(windows)) < 1.0
    converter = Converter(speaker.format)
    heard = await ears.hear(converter.convert(b"".join(windows)) + converter.flush())
    assert edit_distance(words(text), words(heard.text)) <= 1
    ears.worker.close()


@pytest.mark.parametrize("text", ["", "   ", "🎉🎉", "...", "***", "\n\n", "```code```", "<break/>"])
async def test_text_without_words_is_silent(joe: Mouth, text: str) -> None:
    assert await joe.say(text) == b""


@pytest.mark.parametrize(
    "text",
    [
        "3.14159, 50%, $20.",
        "See https://example.com/path?of=things or mail me@example.com",
        "漢字 and кириллица and العربية",
        "a" * 300,
        "Hmm... [[ˈfoʊ]] ]] [[",
        "\u202eright to left\u202c \ud7ff",
        "é\u0301\u0302\u0303" * 20,
    ],
)
async def test_odd_text_is_spoken(joe: Mouth, text: str) -> None:
    assert len(await joe.say(text)) > 10_000


async def test_each_speaker_of_a_voice_has_a_gain_of_its_own(make: Make) -> None:
    speakers = {"num_speakers": 3, "speaker_id_map": {"ann": 0, "bob": 1, "cid": 2}}
    piper = make("en_US-two-medium", model=SEVERAL_SPEAKERS, config=speakers).piper
    ann, bob, again = [await piper.speaker(VoiceChoice(speaker=name)) for name in ("ann", "bob", "ann")]
    assert ann.identity == again.identity != bob.identity
    assert list(piper._gains.values()) == [ann.gain, bob.gain]
    assert ann.gain == again.gain > 0


async def test_voices_and_speakers_are_equally_loud(make: Make) -> None:
    settings = {"noise_scale": 0, "noise_w_scale": 0}
    numbers = {"ann": 0, "bob": 1, "cid": 2}
    speakers = {"num_speakers": 3, "speaker_id_map": numbers}
    several = make("en_US-two-medium", model=SEVERAL_SPEAKERS, config=speakers, **settings)
    others = [make("en_US-joe-medium", model=VOICES[name][0], **settings) for name in ("one speaker", "odd hop")]
    choices = [VoiceChoice(speaker=name) for name in numbers]
    sounds = [await several.say(CALIBRATION, choice) for choice in choices]
    sounds += [await mouth.say(CALIBRATION) for mouth in others]
    for sound in sounds:
        samples = (np.frombuffer(sound, np.int16) / 32768).astype(np.float32)
        assert loudness(samples, 16_000) == pytest.approx(TARGET_LUFS, abs=1)


async def test_volume_scales_the_sound_and_length_scale_its_duration(make: Make) -> None:
    settings: list[dict[str, float]] = [{}, {"volume": 0.5}, {"length_scale": 2.0}]
    mouths = [make("en_US-joe-medium", noise_scale=0, noise_w_scale=0, **one) for one in settings]
    usual, half, slow = [await mouth.say("Hello there, how are you?") for mouth in mouths]
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
    speaker = await mouth.piper.speaker(VoiceChoice())
    async with aclosing(speaker.speak(SENTENCE * 30)) as sound:
        assert await anext(sound)
    left_at = mouth.worker.completed
    heard = asyncio.Event()

    async def listen() -> None:
        async for _ in speaker.speak(SENTENCE * 30):
            heard.set()

    listening = asyncio.create_task(listen())
    async with asyncio.timeout(PATIENCE_SECONDS):
        await heard.wait()
        listening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listening
        windows = [pcm async for pcm in speaker.speak("Next.")]
    assert windows
    assert mouth.worker.completed < left_at + len(windows) + 8  # of some sixty
    assert mouth.worker.pending == 0


async def test_the_text_whose_sound_runs_out_first_goes_ahead(mouth: Mouth) -> None:
    speaker = await mouth.piper.speaker(VoiceChoice())
    order: list[str] = []

    async def next_of(name: str, sound: AsyncGenerator[bytes, None]) -> None:
        await anext(sound)
        order.append(name)

    async with AsyncExitStack() as stack:
        first, second, late = [
            await stack.enter_async_context(aclosing(speaker.speak(SENTENCE * 30, lead))) for lead in (900, 600, 0)
        ]
        await asyncio.gather(anext(first), anext(second))
        release = threading.Event()
        asking: list[asyncio.Task[Any]] = [asyncio.create_task(mouth.worker.run(release.wait, PATIENCE_SECONDS))]
        await until(lambda: mouth.worker.busy_since is not None)
        named = {"first": first, "second": second, "late": late}
        asking += [asyncio.create_task(next_of(name, sound)) for name, sound in named.items()]
        await asyncio.sleep(0)
        release.set()
        await asyncio.gather(*asking)
    assert order == ["late", "second", "first"]


async def test_texts_that_are_spoken_at_once_take_turns(mouth: Mouth) -> None:
    speaker = await mouth.piper.speaker(VoiceChoice())
    ended: list[str] = []

    async def say(text: str) -> None:
        async for _ in speaker.speak(text):
            pass
        ended.append(text)

    await asyncio.gather(say(SENTENCE * 20), say("Yes."))
    assert ended == ["Yes.", SENTENCE * 20]


def test_installed_voices_are_found(models_directory: Path, tmp_path: Path) -> None:
    voice, file = VoiceFolder(Store(models_directory), JOE).files()[0]
    assert (voice.name, voice.languages, voice.speakers) == ("en_US-joe-medium", ("en_US",), ())
    own = tmp_path / "mine.onnx"
    own.symlink_to(file.path)
    shutil.copy(f"{file.path}.json", f"{own}.json")
    voice, _ = VoiceFolder(Store(tmp_path), catalogue.find(Kind.TTS, str(own))).files()[0]
    assert (voice.name, voice.languages) == ("mine", ("en_US",))


def test_a_missing_voice_says_how_to_get_it(tmp_path: Path) -> None:
    folder = VoiceFolder(Store(tmp_path), catalogue.find(Kind.TTS, "fr_FR-siwis-medium"))
    assert folder.files() == []
    with pytest.raises(ModelError, match="satellite models pull tts/fr_FR-siwis-medium"):
        folder.require_default()


async def test_a_damaged_voice_says_which_of_its_files_it_is_and_how_to_get_it(tmp_path: Path) -> None:
    spec = catalogue.find(Kind.TTS, "ff_siwis")
    assert spec.network is not None
    for one in (spec, spec.network):
        folder = tmp_path / "tts" / one.name
        folder.mkdir(parents=True)
        (file, *_) = one.files
        manifest = {"kind": "tts", "name": one.name, "files": [{"name": file.name, "size_bytes": 3, "sha256": "0"}]}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        (folder / file.name).write_bytes(b"cut" if one is spec else b"")
    voices, worker = VoiceFolder(Store(tmp_path), spec), Worker(Stage.TTS)
    synthesizer = VoiceSynthesizer(TtsSettings(), voices.files, tmp_path / "parts", worker, voices.missing)
    with pytest.raises(TextToSpeechError, match=r"/tts/kokoro/.* has 0 of its 3 bytes; .* models pull tts/ff_siwis"):
        await synthesizer.speaker(VoiceChoice())
    worker.close()


async def test_a_voice_that_is_replaced_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "en-mine.onnx"
    file.write_bytes(ONE_SPEAKER)
    about = Path(f"{file}.json")

    def replace(config: dict[str, Any]) -> None:
        about.with_suffix(".new").write_text(json.dumps(config))
        about.with_suffix(".new").replace(about)

    replace(CONFIG)
    folder = VoiceFolder(Store(tmp_path / "store"), catalogue.find(Kind.TTS, str(file)))
    worker = Worker(Stage.TTS)
    settings = TtsSettings(voice=str(file), noise_scale=0, noise_w_scale=0)
    piper = VoiceSynthesizer(settings, folder.files, tmp_path / "parts", worker)

    async def length() -> int:
        folder.scan()
        speaker = await piper.speaker(VoiceChoice())
        return len(b"".join([pcm async for pcm in speaker.speak(SENTENCE)]))

    first = await length()
    assert await length() == first
    replace(CONFIG | {"inference": {"length_scale": 3.0}})
    slow = await length()
    assert slow > 2 * first
    replace({key: value for key, value in CONFIG.items() if key != "phoneme_id_map"})
    assert await length() == slow
    replace(CONFIG)
    assert await length() == first
    worker.close()
