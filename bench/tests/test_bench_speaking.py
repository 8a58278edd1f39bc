"""The speaking matrix: which words count as the same, what is counted of the sound, and how it is shown."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from satellite_bench import marks
from satellite_bench.part_tables import speaking_tables
from satellite_bench.speaking import Said, SpeakingFigures, SpeakingResult, chosen, clipped
from satellite_bench.speaking_texts import TEXTS, Text, same_words
from satellite_bench.stats import summarise
from satellite_bench.stt import Mismatch
from satellite_bench.tts import synthesize

from satellite.audio.pcm import AudioFormat, seconds_of
from satellite.audio.word_errors import WordErrors
from satellite.pipeline.text_normalisation import written_out
from tests.running_daemon import RunningDaemon

ALIKE = [
    ("en", "It is -5°C in the garden.", "it is minus five degrees in the garden"),
    ("en", "at 6:45", "at six forty-five"),
    ("en", "10:05", "ten oh five"),
    ("en", "6:45 or 10:05", "645 or 1005"),
    ("en", "in 2026", "in twenty twenty-six"),
    ("en", "$3.50, 45-50%", "three dollars fifty, forty-five to fifty percent"),
    ("en", "Dr Smith, 3pm", "Doctor Smith, three p.m."),
    ("en", "the USB port", "the U.S.B. port"),
    ("fr", "M. Dupont, 3,50 €", "Monsieur Dupont, trois euros cinquante"),
    ("fr", "à 14h30", "à quatorze heures trente"),
    ("de", "um 6:45", "um sechs Uhr fünfundvierzig"),
    ("es", "El Sr. Pérez", "el señor Pérez"),
]


@pytest.mark.parametrize(("language", "one", "other"), ALIKE)
def test_ways_to_write_the_same_words_are_the_same(language: str, one: str, other: str) -> None:
    assert same_words(one, language) == same_words(other, language)


@pytest.mark.parametrize(
    ("one", "other"), [("It is -5 degrees.", "It is 5 degrees."), ("at 6:45", "at 6:54"), ("$20", "20 euros")]
)
def test_other_words_are_not(one: str, other: str) -> None:
    assert same_words(one, "en") != same_words(other, "en")


@pytest.mark.parametrize(("language", "texts"), TEXTS.items())
def test_what_the_voices_are_to_say_is_what_the_daemon_writes_out(language: str, texts: tuple[Text, ...]) -> None:
    for text in texts:
        assert same_words(written_out(text.written, language), language) == same_words(text.said, language)


def test_a_limit_takes_texts_of_all_kinds() -> None:
    assert [text.kind for text in chosen(TEXTS["en"], 4)] == ["numbers", "times", "prices", "abbreviations"]
    assert chosen(TEXTS["en"], None) == list(TEXTS["en"]) == chosen(TEXTS["en"], 99)


def test_a_peak_that_touches_full_scale_is_not_clipped() -> None:
    def samples(*values: int) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
        return np.array(values, np.int16)

    assert clipped(samples(0, 32767, 0, 32767, 32767, 0)) == 0
    assert clipped(samples(32767, 32767, 32767, 0, -32768, -32767, -32768, -32768)) == 7


def figures(wrong: int, *, clipped_samples: int = 0) -> Said:
    by_kind = {"numbers": 100 * wrong / 10, "plain": 0.0}
    return Said(WordErrors(wrong, 20), by_kind, -20.0, clipped_samples, summarise([50.0, 70.0]))


PIPER = SpeakingFigures("joe", "en", "tiny.en", figures(2), figures(4, clipped_samples=9), (Mismatch("a", "b", "c"),))
KOKORO = SpeakingFigures("siwis", "fr", "base", figures(0, clipped_samples=3), None, ())
RESULT = SpeakingResult((PIPER, KOKORO), ())


def test_voices_are_held_to_the_official_servers_words_and_to_no_clipping() -> None:
    assert {verdict.mark: verdict.text for verdict in marks.speaking_verdicts(RESULT)} == {
        "Speaking, joe: clipped samples": "reached",
        "Speaking, joe: WER not above theirs": "reached",
        "Speaking, siwis: clipped samples": "missed by 3.0",
    }


def test_both_sides_of_each_voice_are_shown() -> None:
    words, sound = speaking_tables(RESULT, mismatches=False)
    assert words.heads == ("voice", "server", "Whisper", "numbers", "plain", "all")
    assert [row[1:] for row in words.rows] == [
        ("satellite", "tiny.en", "20.0", "0.0", "10.0"),
        ("wyoming-piper", "tiny.en", "40.0", "0.0", "20.0"),
        ("satellite", "base", "0.0", "0.0", "0.0"),
    ]
    assert sound.rows[0] == ("joe", "satellite", "-20.0", "0", "2", "60", "69", "70", "60")
    assert [table.title for table in speaking_tables(RESULT, mismatches=True)][2:] == ["joe"]
    alone = SpeakingResult((replace(PIPER, theirs=None),), ())
    assert len(next(iter(speaking_tables(alone, mismatches=False))).rows) == 1


@pytest.mark.models
def test_the_sound_of_a_reply_is_kept(daemon: RunningDaemon) -> None:
    spoken = asyncio.run(synthesize(daemon.port(), "The light is on.", streaming=False))
    assert spoken.source == AudioFormat(22_050)
    assert seconds_of(spoken.canonical) == pytest.approx(spoken.audio_ms / 1000, abs=0.02)
