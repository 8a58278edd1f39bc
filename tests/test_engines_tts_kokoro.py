"""Kokoro's voices: the phonemes of each language, the style's rows, and pieces that fit into the network."""

import gc
import json
from pathlib import Path

import numpy as np
import pytest

from satellite.config.settings import TtsSettings
from satellite.daemon.installed_voices import VoiceFolder
from satellite.engines.onnx_session import CPU
from satellite.engines.protocols import Voice, VoiceChoice
from satellite.engines.tts.kokoro import KokoroVoice
from satellite.engines.tts.kokoro_phonemes import KokoroPhonemes
from satellite.engines.tts.level import TARGET_LUFS, loudness
from satellite.engines.tts.loaded_voice import CALIBRATION, VoiceFile
from satellite.engines.tts.synthesizer import VoiceSynthesizer
from satellite.engines.tts.voice_loader import VoiceLoader
from satellite.engines.tts.windows import Timeline
from satellite.engines.worker import Worker
from satellite.errors import Stage, TextToSpeechError
from satellite.models.demo_set import JOE
from satellite.models.store import Store
from tests.kokoro_graphs import SAMPLES_A_SYMBOL, write_network, write_style
from tests.test_engines_tts_piper import CONFIG, ONE_SPEAKER


@pytest.fixture
def loader(tmp_path: Path) -> VoiceLoader:
    write_network(tmp_path / "network")
    return VoiceLoader(tmp_path / "parts")


def load(loader: VoiceLoader, tmp_path: Path, name: str = "ff_siwis") -> KokoroVoice:
    file = VoiceFile(write_style(tmp_path / f"{name}.bin"), tmp_path / "network")
    voice = loader.load(file, CPU, 1)
    assert isinstance(voice, KokoroVoice)
    return voice


def spoken(voice: KokoroVoice, text: str, **settings: float) -> list[np.ndarray[tuple[int], np.dtype[np.float32]]]:
    return list(voice.speak(text, TtsSettings(**settings), None, Timeline()))


@pytest.mark.parametrize(
    ("letter", "text", "phonemes"),
    [
        ("a", "The old judge, my boy!", "ðɪ ˈOld ʤˈʌʤ, mI bˈY!"),
        ("b", "The boat goes here.", "ðə bˈQt ɡQz hˈɪə."),
        ("f", "Bonjour, la France.", "bɔ\u0303ʒˈuʁ, la fʁˈɑ\u0303s."),
        ("f", "le garçon", "lə ɡaʁsˈɔ\u0303"),
        ("e", "Un chico.", "ˈun ʧˈiko."),
        ("i", "Ciao, pizza!", "ʧˈao, pˈiʦːa!"),
        ("p", "Bom dia.", "bˈõn ʤˈiʲɐ.".replace("õ", "o\u0303")),
        ("h", "नमस्ते", "nəmˈʌsteː"),
    ],
)
def test_languages_are_written_in_the_symbols_of_the_network(letter: str, text: str, phonemes: str) -> None:
    assert list(KokoroPhonemes(letter).sentences(text)) == [phonemes]


def test_each_sentence_is_spoken_in_the_row_of_its_length(loader: VoiceLoader, tmp_path: Path) -> None:
    first, second = spoken(load(loader, tmp_path), "Bonjour. Il fait beau dans la cuisine.")
    for sound in (first, second):
        symbols = len(sound) // SAMPLES_A_SYMBOL - 2  # a mark stands at each end
        assert sound[0] == pytest.approx(symbols / 1000)
    assert len(second) > len(first)


def test_pace_is_the_speed_of_the_network(loader: VoiceLoader, tmp_path: Path) -> None:
    voice = load(loader, tmp_path)
    usual, slow = spoken(voice, "Bonjour.")[0], spoken(voice, "Bonjour.", length_scale=2)[0]
    assert slow[0] == pytest.approx(usual[0] / 2)


def test_long_sentences_are_cut_between_clauses_and_words(loader: VoiceLoader, tmp_path: Path) -> None:
    voice = load(loader, tmp_path)
    clauses = spoken(voice, "Il fait beau dans la cuisine, " * 20)
    endless = spoken(voice, "il fait beau dans la cuisine " * 40)
    assert len(clauses) > 3
    assert max(len(sound) for sound in clauses) <= 152 * SAMPLES_A_SYMBOL
    assert len(endless) > 1
    assert max(len(sound) for sound in endless) <= 512 * SAMPLES_A_SYMBOL
    assert len(spoken(voice, "a" * 3000)) >= 1


@pytest.mark.parametrize("text", ["", "  ", "...", "—"])
def test_text_without_words_is_silent(loader: VoiceLoader, tmp_path: Path, text: str) -> None:
    assert spoken(load(loader, tmp_path), text) == []


def test_voices_share_their_network_for_as_long_as_one_is_there(loader: VoiceLoader, tmp_path: Path) -> None:
    siwis, heart = load(loader, tmp_path), load(loader, tmp_path, "af_heart")
    assert siwis._network is heart._network
    assert siwis.digest == heart.digest  # the styles of this test are equal
    del siwis, heart
    gc.collect()
    assert list(loader._networks) == []


def test_what_cannot_be_loaded_is_reported_with_its_name(loader: VoiceLoader, tmp_path: Path) -> None:
    with pytest.raises(TextToSpeechError, match="voice xx_odd cannot be loaded"):
        load(loader, tmp_path, "xx_odd")
    short = tmp_path / "ff_short.bin"
    short.write_bytes(bytes(10))
    with pytest.raises(TextToSpeechError, match="voice ff_short cannot be loaded"):
        loader.load(VoiceFile(short, tmp_path / "network"), CPU, 1)
    with pytest.raises(TextToSpeechError, match=r"Kokoro in .*nowhere cannot be loaded"):
        loader.load(VoiceFile(short, tmp_path / "nowhere"), CPU, 1)


async def test_one_list_has_voices_of_every_kind_at_one_level(loader: VoiceLoader, tmp_path: Path) -> None:
    piper = tmp_path / "en_US-joe-medium.onnx"
    piper.write_bytes(ONE_SPEAKER)
    Path(f"{piper}.json").write_text(json.dumps(CONFIG))
    files = [
        (Voice("en_US-joe-medium", ("en_US",), (), ""), VoiceFile(piper)),
        (
            Voice("ff_siwis", ("fr_FR",), (), ""),
            VoiceFile(write_style(tmp_path / "ff_siwis.bin"), tmp_path / "network"),
        ),
    ]
    worker = Worker(Stage.TTS)
    voices = VoiceSynthesizer(
        TtsSettings(threads=1, noise_scale=0, noise_w_scale=0), lambda: files, tmp_path / "parts", worker
    )
    for language, name, rate in (("fr", "ff_siwis", 24_000), ("en", "en_US-joe-medium", 16_000)):
        speaker = await voices.speaker(VoiceChoice(language=language))
        sound = b"".join([pcm async for pcm in speaker.speak(CALIBRATION)])
        samples = np.frombuffer(sound, np.int16).astype(np.float32) / np.float32(32768)
        assert (speaker.voice.name, speaker.format.rate) == (name, rate)
        assert loudness(samples, rate) == pytest.approx(TARGET_LUFS, abs=1)
    worker.close()


def test_the_voice_is_listed_beside_pipers_and_its_network_knows_all_symbols(french_models_directory: Path) -> None:
    store = Store(french_models_directory)
    voices = {voice.name: (voice, file) for voice, file in VoiceFolder(store, JOE).files()}
    assert voices["ff_siwis"][0].languages == ("fr_FR",)
    assert {"en_US-joe-medium", "ff_siwis"} <= voices.keys()
    network = voices["ff_siwis"][1].network
    assert network is not None
    known = json.loads((network / "vocab.json").read_text())["vocab"]
    text = {
        "a": "The quick judge measured a church; boys share five hours, don't they?",
        "b": "Fair boats go here, sure: the quick judge measured a church!",
        "e": "El niño llegó jugando, ¿verdad? Una guitarra y un pingüino.",
        "f": "Où est le garçon ? Un œuf, vingt-deux agneaux, une huître et du Champagne…",
        "h": "रसोई की खिड़की खुली है, और बारिश हो रही है।",
        "i": "Gli gnocchi sono già pronti, la pizza no: che cosa c'è?",
        "p": "Não há pães nem maçãs; amanhã vou à praia, está bem?",
    }
    for letter, words in text.items():
        assert set("".join(KokoroPhonemes(letter).sentences(words))) - known.keys() == set(), letter
