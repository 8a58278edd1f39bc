"""What espeak is given: ordinary text as it is, endless words and clauses in parts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from satellite.engines.tts.espeak import for_espeak
from tests.test_engines_tts_piper import CONFIG, ONE_SPEAKER

HOSTILE = [
    "A.B." * 500,
    "_é." * 400,
    "a.b." * 200,
    "'s" * 600,
    "a" * 3000,
    "il fait beau " * 400,
    "e" + "\u0301" * 3000,
    "\x015P" * 400,
]
READ = """
import sys
from pathlib import Path
from satellite.config.settings import TtsSettings
from satellite.engines.tts.kokoro_phonemes import KokoroPhonemes
from satellite.engines.tts.piper import PiperVoice
file, text = Path(sys.argv[1]), sys.argv[2]
for letter in "afhi":
    assert any(KokoroPhonemes(letter).sentences(text))
voice = PiperVoice(file, file.parent, ["CPUExecutionProvider"], 1)
assert any(voice.sentences(text, TtsSettings(), None))
"""


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_endless_words_and_clauses_do_not_end_the_process(tmp_path: Path, text: str) -> None:
    voice = tmp_path / "odd.onnx"
    voice.write_bytes(ONE_SPEAKER)
    Path(f"{voice}.json").write_text(json.dumps(CONFIG | {"phoneme_type": "espeak"}))
    subprocess.run([sys.executable, "-c", READ, voice, text], check=True, timeout=120)


@pytest.mark.parametrize(
    "text",
    [
        "Il est 15 h 30, et l'eau bout : qu'est-ce qu'on fait ?",
        "The U.S.A. and the E.U. met at 5 p.m., e.g. in Washington, D.C.",
        "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbe",
        "नमस्ते, क्‍या हाल है? می‌خواهم بروم.",
        "It is 20.5 °C. " * 60,
    ],
)
def test_ordinary_text_is_not_changed(text: str) -> None:
    assert for_espeak(text) == text


def test_what_has_no_sound_is_left_out() -> None:
    assert for_espeak("a\u200bb \ue000 \ud800c\u2800") == "ab    c "


def test_long_words_and_clauses_are_parted() -> None:
    assert {len(part.strip(",")) for part in for_espeak("x" * 3200).split()} == {64}
    assert for_espeak("so it goes on " * 100).count(",") >= 1


def test_it_is_initialised_once_for_all_voices() -> None:
    script = """
from piper import espeakbridge
from satellite.engines.tts.espeak import phonemizer
initialise = espeakbridge.initialize
espeakbridge.initialize = lambda folder: (print("initialised"), initialise(folder))
for voice in ("fr", "en-us", "fr"):
    phonemizer(voice)("Bonjour.")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "initialised\n"
