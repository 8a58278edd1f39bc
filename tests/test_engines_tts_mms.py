"""Voices that read characters: what they are given, and that they speak in windows, from a hub to a sound."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from satellite.cli.main import main
from satellite.config.settings import TtsSettings
from satellite.daemon.installed_voices import VoiceFolder
from satellite.engines.onnx_session import CPU
from satellite.engines.protocols import VoiceChoice
from satellite.engines.tts.mms import MmsVoice
from satellite.engines.tts.synthesizer import VoiceSynthesizer
from satellite.engines.tts.windows import Timeline
from satellite.engines.worker import Worker
from satellite.errors import Stage, TextToSpeechError
from satellite.models import catalogue
from satellite.models.spec import Kind
from satellite.models.store import Store
from tests.hub_server import HubServer
from tests.test_engines_tts_piper import difference
from tests.vits_graphs import mms_voice

FRENCH = " 'abcdefghijklmnopqrstuvwxyzàâçèéêëîïôùûœ-"
RUSSIAN = " абвгдежзийклмнопрстуфхцчшщъыьэюя"
MODEL = mms_voice()


def files(alphabet: str = FRENCH, **tokenizer: Any) -> dict[str, bytes]:
    return {
        "onnx/model.onnx": MODEL,
        "config.json": b'{"sampling_rate": 16000}',
        "vocab.json": json.dumps({letter: number for number, letter in enumerate(alphabet)}).encode(),
        "tokenizer_config.json": json.dumps({"add_blank": True, "is_uroman": False} | tokenizer).encode(),
    }


def load(folder: Path, language: str = "fr_FR", alphabet: str = FRENCH, **tokenizer: Any) -> MmsVoice:
    for name, content in files(alphabet, **tokenizer).items():
        folder.mkdir(exist_ok=True)
        (folder / Path(name).name).write_bytes(content)
    return MmsVoice(folder / "model.onnx", folder.parent / "parts", CPU, 1, language)


def read(voice: MmsVoice, text: str, alphabet: str = FRENCH) -> str:
    """Return the characters that `voice` reads in `text`, without the blanks between them."""
    return "".join(alphabet[number] for number in voice.ids(text)[1::2])


def test_text_becomes_known_lower_case_characters_with_blanks_between(tmp_path: Path) -> None:
    voice = load(tmp_path / "voice")
    assert voice.ids("Été!") == [0, FRENCH.index("é"), 0, FRENCH.index("t"), 0, FRENCH.index("é"), 0]
    assert read(voice, "L'île, à 5 km…") == "l'île à  cinq  km"
    assert [voice.ids(text) for text in ("", "…", "漢字", " - ")] == [[]] * 4
    assert load(tmp_path / "plain", add_blank=False).ids("ab") == [2, 3]


@pytest.mark.parametrize(
    ("language", "alphabet", "text", "expected"),
    [
        ("fr_FR", FRENCH, "71", "soixante-et-onze"),
        ("en", FRENCH, "42", "forty-two"),
        ("ru_RU", RUSSIAN, "5", "пять"),
        ("yo", FRENCH, "7 a", " a"),  # whose words for numbers nobody here knows
        ("fr_FR", f"{FRENCH}0123456789", "15", "15 a"),
    ],
)
def test_numbers_are_written_out_in_the_voices_language(
    tmp_path: Path, language: str, alphabet: str, text: str, expected: str
) -> None:
    voice = load(tmp_path / "voice", language, alphabet)
    heard = read(voice, text if any(map(str.isalpha, text)) else f"{text} a", alphabet).strip()
    assert heard.startswith(expected.strip())


def test_it_speaks_in_windows_that_sound_as_the_whole_does(tmp_path: Path) -> None:
    voice = load(tmp_path / "voice")
    assert voice.in_windows
    assert voice._vits.network is not None
    inputs = voice._calibration()[0]
    assert difference(MODEL, voice._vits.network, inputs, [8, 16, 32]) <= 1e-3
    pieces = list(
        voice.speak("La fenêtre de la cuisine est encore ouverte. Il pleut.", TtsSettings(), None, Timeline())
    )
    assert len([piece for piece in pieces if len(piece)]) >= 2


def test_a_voice_of_another_alphabet_is_measured_in_its_own(tmp_path: Path) -> None:
    voice = load(tmp_path / "voice", "ru_RU", RUSSIAN)
    assert read(voice, voice.calibration, RUSSIAN).startswith("абвгд ежзий")


def test_a_voice_that_needs_latin_letters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TextToSpeechError, match="voice korean cannot be loaded: its text has to be written in Latin"):
        load(tmp_path / "korean", is_uroman=True)


def test_pulling_says_that_it_is_not_for_commercial_use(
    hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.repositories = {"Xenova/mms-tts-fra": files()}
    assert main(["models", "pull", "tts/mms-tts-fra", "--directory", str(tmp_path)]) == 0
    assert "tts/mms-tts-fra: its licence is CC BY-NC 4.0 (non-commercial)" in capsys.readouterr().out


async def test_it_is_pulled_by_name_listed_with_its_language_and_spoken(
    hub: HubServer, store: Store, tmp_path: Path
) -> None:
    hub.repositories = {"Xenova/mms-tts-fra": files()}
    spec = catalogue.find(Kind.TTS, "mms-tts-fra")
    store.pull(spec)
    (found, file), *others = VoiceFolder(store, spec).files()
    assert (found.name, found.languages, others) == ("mms-tts-fra", ("fr_FR",), [])
    worker = Worker(Stage.TTS)
    voices = VoiceSynthesizer(TtsSettings(threads=1), lambda: [(found, file)], tmp_path / "parts", worker)
    speaker = await voices.speaker(VoiceChoice(language="fr"))
    sound = b"".join([pcm async for pcm in speaker.speak("Il est 5 heures.")])
    assert speaker.format.rate == 16_000
    assert np.abs(np.frombuffer(sound, np.int16)).max() > 1000
    worker.close()
