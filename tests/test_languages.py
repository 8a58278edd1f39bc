"""Codes of languages as people, Whisper, voices, Home Assistant and espeak write them: one table for all of them."""

import time
from pathlib import Path

import numpy as np
import pytest

from satellite.config.settings import SttSettings
from satellite.engines.protocols import Voice, VoiceChoice
from satellite.engines.stt.whisper import WhisperTranscriber
from satellite.engines.tts.voice_choice import choose_voice
from satellite.engines.worker import Worker
from satellite.errors import Stage
from satellite.languages import WHISPER, closest, translated, with_region
from tests.whisper_graphs import save_multilingual

VOICES = [
    Voice(f"{code}-x-low", (code,), (), "")
    for code in ("en_US", "en_GB", "no_NO", "tl_PH", "he_IL", "zh_CN", "zh_TW", "pt_BR", "pt_PT", "sr")
]


@pytest.mark.parametrize(
    ("language", "voice"),
    [
        ("en", "en_US"), ("en-GB", "en_GB"), ("en_au", "en_US"), ("nb", "no_NO"), ("nb-NO", "no_NO"), ("nn", "no_NO"),
        ("fil", "tl_PH"), ("iw", "he_IL"), ("zh", "zh_CN"), ("cmn", "zh_CN"), ("zh-Hant", "zh_TW"), ("zh-SG", "zh_CN"),
        ("zh-Hans-CN", "zh_CN"), ("yue", "zh_CN"), ("pt", "pt_BR"), ("pt-pt", "pt_PT"), ("sr-Latn-RS", "sr"),
    ],
)  # fmt: skip
def test_a_voice_is_found_by_every_code_of_its_language(language: str, voice: str) -> None:
    assert choose_voice(VoiceChoice(language=language, strict=True), VOICES).name == f"{voice}-x-low"


@pytest.mark.parametrize(
    ("language", "code"),
    [("nb-NO", "no"), ("nn", "nn"), ("fil", "tl"), ("iw", "he"), ("zh-Hant-HK", "zh"), ("yue", "zh"), ("jv", "jw")],
)
def test_whisper_is_asked_for_its_own_code(language: str, code: str) -> None:
    whisper = WhisperTranscriber(SttSettings(), Worker(Stage.STT), languages=WHISPER, window_floor_seconds=30.0)
    assert whisper._language(language) == code
    assert closest("yue", (*WHISPER, "yue")) == "yue"


@pytest.mark.parametrize(
    ("model", "spoken", "asked"),
    [(WHISPER, (), None), (WHISPER, ("fr", "en"), None), (WHISPER, ("fr",), "fr"), (("en",), ("fr", "en"), "en")],
)
def test_a_language_is_detected_only_where_there_are_several(
    model: tuple[str, ...], spoken: tuple[str, ...], asked: str | None
) -> None:
    worker = Worker(Stage.STT)
    whisper = WhisperTranscriber(SttSettings(), worker, languages=model, window_floor_seconds=30.0, spoken=spoken)
    assert whisper._language(None) == asked


@pytest.mark.parametrize(
    ("heard", "named", "spoken"),
    [
        ("zh", (None, "en-GB", "zh-TW"), "zh-TW"), ("pt", ("pt-pt", "pt-BR"), "pt-PT"),
        ("fr", ("fr", "fr-CA"), "fr-CA"), ("fr", ("fr", "en-GB"), "fr"), ("de", ("de-CH",), "de"), ("", (None,), ""),
    ],
)  # fmt: skip
def test_what_is_heard_has_the_region_that_was_named(heard: str, named: tuple[str | None, ...], spoken: str) -> None:
    assert with_region(heard, named) == spoken


async def test_whisper_hears_only_languages_of_the_house(tmp_path: Path) -> None:
    known = ("de", "en", "fr", "it", "nl")
    save_multilingual(tmp_path, known)
    pcm = np.random.default_rng(1).normal(0, 3000, 16_000).astype(np.int16).tobytes()

    async def heard(*spoken: str, language: str | None = None) -> str:
        worker, settings = Worker(Stage.STT), SttSettings(threads=1, device="cpu")
        whisper = WhisperTranscriber(settings, worker, languages=known, window_floor_seconds=1.0, spoken=spoken)
        try:
            whisper.load(tmp_path)
            return (await whisper.transcribe(pcm, speech=[0.9] * 31, language=language)).language
        finally:
            worker.close()

    likeliest = await heard()
    others = [language for language in known if language != likeliest]
    assert await heard(*known) == likeliest
    assert await heard(*others) in others
    assert await heard(likeliest, others[0]) == likeliest
    assert await heard(f"{others[0]}-XX") == others[0]
    assert await heard(likeliest, others[0], language=others[1]) == others[1]


@pytest.mark.parametrize(
    ("choice", "voice"),
    [
        (VoiceChoice(), "en_US"),
        (VoiceChoice(spoken="en"), "en_US"),
        (VoiceChoice(spoken="pt"), "pt_BR"),
        (VoiceChoice("pt_PT-x-low", spoken="pt"), "pt_PT"),
        (VoiceChoice("en_GB-x-low", spoken="nb"), "no_NO"),
        (VoiceChoice("en_GB-x-low", spoken="fr"), "en_GB"),
        (VoiceChoice(language="en-GB", spoken="pt"), "pt_BR"),
    ],
)
def test_a_voice_gives_way_to_one_that_speaks_the_language_of_the_answer(choice: VoiceChoice, voice: str) -> None:
    assert choose_voice(choice, VOICES).name == f"{voice}-x-low"


@pytest.mark.parametrize("language", ["nb", "no", "nn", "nn-NO"])
def test_our_own_texts_are_found_by_every_code(language: str) -> None:
    assert translated("timer_done", language) == translated("timer_done", "no") is not None


def test_a_code_that_a_peer_has_sent_takes_no_time() -> None:
    began = time.process_time()
    assert closest("x-" * 1_000_000, WHISPER) is None
    assert time.process_time() - began < 1
