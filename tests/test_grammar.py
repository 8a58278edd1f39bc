"""What is a command in ten languages, as Whisper writes it, and what is none."""

import asyncio
import time
from datetime import datetime
from functools import lru_cache
from typing import Any

import home_assistant_intents
import pytest
import yaml
from _pytest.mark import ParameterSet

from satellite.languages import read_yaml
from satellite.skills.grammar import Grammar
from satellite.skills.grammars import Grammars, known_language
from satellite.skills.intents import Command, Intent
from satellite.skills.responses import Responses
from satellite.skills.timers.timers import Duration, Timer
from tests.running_daemon import DATA

KITCHENS = (
    *("kitchen", "Küche", "cuisine", "cocina", "cucina", "keuken", "cozinha", "kjøkkenet", "köket", "køkkenet"),
    *("кухне", "kuchni"),
)
ROOMS = {"Living Room": "lounge"} | dict.fromkeys(KITCHENS, "kitchen")

SENTENCES = yaml.safe_load((DATA / "sentences" / "commands.yaml").read_text(encoding="utf-8"))

TIMERS = yaml.safe_load((DATA / "sentences" / "timers.yaml").read_text(encoding="utf-8"))


def sentences(kind: str) -> list[ParameterSet]:
    return [
        pytest.param(language, case, id=f"{language}-{case['text']}")
        for language, kinds in SENTENCES.items()
        for case in kinds.get(kind, ())
    ]


@lru_cache
def grammar(language: str) -> Grammar:
    return Grammar(language)


def understood(language: str, text: str) -> Command:
    command = grammar(language).understand(text, ROOMS)
    assert command is not None, text
    return command


@pytest.mark.parametrize(("language", "case"), sentences("timers"))
def test_a_timer_is_set(language: str, case: dict[str, Any]) -> None:
    command = understood(language, case["text"])
    assert command.intent is Intent.START_TIMER
    expected = (case["seconds"], case.get("name"), case.get("place"))
    assert (command.duration.total_seconds, command.timer.name, command.timer.place) == expected


@pytest.mark.parametrize(("language", "case"), sentences("changes"))
def test_a_timer_is_changed(language: str, case: dict[str, Any]) -> None:
    command = understood(language, case["text"])
    expected = (case["intent"], case.get("seconds", 0), case.get("name"))
    assert (command.intent, command.duration.total_seconds, command.timer.name) == expected


@pytest.mark.parametrize(
    ("language", "meant"), [(language, meant) for language, kinds in TIMERS.items() for meant in kinds]
)
def test_timers_are_understood_as_people_speak_of_them(language: str, meant: str | int) -> None:
    seconds, *words = str(meant).casefold().split()
    for text in TIMERS[language][meant].split(" / "):
        command = grammar(language).understand(text, ROOMS)
        if meant == "none":
            assert command is None, text
        elif seconds.isdigit():
            assert command is not None, text
            found = [command.duration.total_seconds, (command.timer.name or "").casefold(), command.timer.place]
            place = "kitchen" if "kitchen" in words else None
            name = "".join(word for word in words if word != "kitchen")
            assert (command.intent, found) == (Intent.START_TIMER, [int(seconds), name, place]), text
        else:
            assert command is not None, text
            assert command.intent == meant, text


@pytest.mark.parametrize("language", [language for language in SENTENCES if "words" in SENTENCES[language]])
def test_what_else_is_a_command_and_what_is_none(language: str) -> None:
    for intent, texts in SENTENCES[language]["words"].items():
        for text in texts:
            assert understood(language, text).intent == intent, text
    for text in SENTENCES[language]["no_commands"]:
        assert grammar(language).understand(text, ROOMS) is None, text


STOP_WORDS: dict[str, list[str]] = read_yaml("satellite.skills", "stop_words.yaml") | {
    "de": ["stopp", "halt"],
    "en": ["stop", "enough"],
    "es": ["para", "basta"],
    "fr": ["stop", "arrête"],
    "it": ["basta", "stop"],
    "nl": ["stop", "hou op"],
    "pt": ["para", "chega"],
    "pt-BR": ["pare", "chega"],
}


@pytest.mark.parametrize("language", sorted(home_assistant_intents.get_languages()))
def test_stop_is_a_word_in_every_language(language: str) -> None:
    compiled = Grammar(language)
    for word in STOP_WORDS[language]:
        for written in (word, f"{word.capitalize()}.", f"{word}!", f"{word}।", f"{word}。", f"{word}۔", f"{word}։"):
            command = compiled.understand(written)
            assert command is not None, written
            assert command.intent is Intent.STOP, written


@pytest.mark.parametrize(
    ("language", "text"), [("de", "Wie lange dauert der Film?"), ("fr", "Combien de temps pour cuire un œuf ?")]
)
def test_what_is_about_a_timer_only_if_there_is_one_of_that_name(language: str, text: str) -> None:
    assert not understood(language, text).mentions_timer


def test_whatever_is_said_is_judged_soon() -> None:
    assert grammar("en").understand("set a timer for five minutes and " * 6 + "stop") is None
    confused = ("my my pizza please hour minute hours called hour for me five one another " * 3)[:160]
    began = time.process_time()
    assert grammar("en").understand(confused, ROOMS) is None
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("code", "known"),
    [
        ("en", "en"),
        ("en-GB", "en"),
        ("fr_FR", "fr"),
        ("pt-br", "pt-BR"),
        ("zh", "zh-CN"),
        ("no", "nb"),
        ("nn-NO", "nb"),
        ("iw", "he"),
        ("zh-Hant", "zh-TW"),
        ("zh-MO", "zh-HK"),
        ("yue", "zh-HK"),
        ("tlh", None),
    ],
)
def test_languages_are_known_by_many_codes(code: str, known: str | None) -> None:
    assert known_language(code) == known


@pytest.mark.parametrize(
    "language",
    [
        language if language in ("ar", "de", "en", "zh-CN") else pytest.param(language, marks=pytest.mark.slow)
        for language in sorted(home_assistant_intents.get_languages())
    ],
)
def test_every_language_compiles_and_answers(language: str) -> None:
    answers = Responses(Grammar(language))
    now = datetime(2026, 11, 23, 17, 5)  # local time, as the daemon's
    timer = Timer("1", "kitchen", Duration(minutes=5), 300.0, 300, "pizza", "Kitchen", language)
    said = [
        answers.time(now),
        answers.date(now),
        answers.started(timer),
        answers.status([(timer, 250.0)]),
        answers.status([]),
        answers.changed(Intent.INCREASE_TIMER, Duration(minutes=1), timer, 310.0),
        answers.done(Intent.PAUSE_TIMER),
        answers.cancelled(2, None),
        answers.cancelled(1, "Kitchen"),
        answers.error("timer_not_found"),
        answers.error("no_timer_support"),
    ]
    assert all(text and "TODO" not in text and "{" not in text for text in said), said


async def test_grammars_are_compiled_off_the_loop_and_few_are_kept() -> None:
    grammars = Grammars(2)
    waiting = asyncio.create_task(grammars.get("en"))
    await asyncio.sleep(0)
    assert grammars.languages == []  # it is not done here and now
    waiting.cancel()
    first, second = await asyncio.gather(grammars.get("en"), grammars.get("en-GB"))
    assert first is second is not None
    assert await grammars.get("tlh") is None
    for language in ("is", "en", "et"):
        await grammars.get(language)
    assert grammars.languages == ["en", "et"]
    assert await grammars.get("en") is first
    await grammars.close()
