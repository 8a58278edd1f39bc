"""What is a command in English, German and French, as Whisper writes it, and what is none."""

import asyncio
import time
from datetime import datetime
from functools import lru_cache

import home_assistant_intents
import pytest

from satellite.skills.grammar import Grammar
from satellite.skills.grammars import Grammars, known_language
from satellite.skills.intents import Command, Intent
from satellite.skills.responses import Responses
from satellite.skills.timers.timer import Duration, Timer

ROOMS = {"kitchen": "kitchen", "Living Room": "lounge", "Küche": "kitchen", "cuisine": "kitchen"}

START, CANCEL, CANCEL_ALL = Intent.START_TIMER, Intent.CANCEL_TIMER, Intent.CANCEL_ALL_TIMERS
MORE, LESS = Intent.INCREASE_TIMER, Intent.DECREASE_TIMER
PAUSE, RESUME, STATUS = Intent.PAUSE_TIMER, Intent.UNPAUSE_TIMER, Intent.TIMER_STATUS
TIME, DATE = Intent.CURRENT_TIME, Intent.CURRENT_DATE
STOP, NEVERMIND, REPEAT, DISMISS = Intent.STOP, Intent.NEVERMIND, Intent.REPEAT, Intent.DISMISS

TIMERS = [
    # language, words, seconds, name, place
    ("en", "Set a timer for five minutes.", 300, None, None),
    ("en", "set a timer for 5 minutes please", 300, None, None),
    ("en", "Set a 5-minute timer", 300, None, None),
    ("en", "Set a 5 minute timer.", 300, None, None),
    ("en", "Could you set a five minute timer for me?", 300, None, None),
    ("en", "Timer, 5 minutes.", 300, None, None),
    ("en", "Set a timer for twenty-five minutes.", 1500, None, None),
    ("en", "Set a timer for 1 hour and 30 minutes.", 5400, None, None),
    ("en", "Set a timer for an hour and a half.", 5400, None, None),
    ("en", "Set a timer for half an hour", 1800, None, None),
    ("en", "Set a timer for 90 seconds.", 90, None, None),
    ("en", "Set a timer for 1,800 seconds.", 1800, None, None),
    ("en", "Start a ten minute pizza timer.", 600, "pizza", None),
    ("en", "Set a pizza timer for ten minutes.", 600, "pizza", None),
    ("en", "Set a timer named soft eggs for 6 minutes.", 360, "soft eggs", None),
    ("en", "Start a timer for three minutes in the kitchen.", 180, None, "kitchen"),
    ("en", "Set a 20-minute timer in the living room.", 1200, None, "lounge"),
    ("de", "Stelle einen Timer auf fünf Minuten.", 300, None, None),
    ("de", "Stell einen 5-Minuten-Timer.", 300, None, None),
    ("de", "Kannst du bitte einen Timer auf 5 Minuten stellen?", 300, None, None),
    ("de", "Stell einen Timer auf eine Stunde und 30 Minuten.", 5400, None, None),
    ("de", "Stell einen Timer auf anderthalb Stunden.", 5400, None, None),
    ("de", "Stelle einen Timer für die Pizza auf zehn Minuten.", 600, "Pizza", None),
    ("de", "Stell einen Pizza-Timer auf zehn Minuten.", 600, "Pizza", None),
    ("de", "Stell einen Timer auf zwanzig Minuten in der Küche.", 1200, None, "kitchen"),
    ("fr", "Mets un minuteur de cinq minutes.", 300, None, None),
    ("fr", "Programme un minuteur de 5 minutes, s'il te plaît.", 300, None, None),
    ("fr", "Peux-tu mettre un minuteur de cinq minutes ?", 300, None, None),
    ("fr", "Mets un minuteur d'une heure et demie.", 5400, None, None),
    ("fr", "Mets un minuteur d'une demi-heure.", 1800, None, None),
    ("fr", "Mets un minuteur de 10 minutes pour les pâtes.", 600, "pâtes", None),
    ("en", "Set a pasta timer for 8 minutes in the kitchen.", 480, "pasta", "kitchen"),
    ("en", "Start a ten minute pizza timer in the living room.", 600, "pizza", "lounge"),
    ("en", "Remind me in ten minutes.", 600, None, None),
    ("de", "Stelle einen Nudel-Timer auf acht Minuten in der Küche.", 480, "Nudel", "kitchen"),
    ("de", "Stelle einen Timer auf acht Minuten für die Nudeln in der Küche.", 480, "Nudeln", "kitchen"),
    ("de", "Erinnere mich in zehn Minuten.", 600, None, None),
    ("fr", "Lance un minuteur pâtes de dix minutes dans la cuisine.", 600, "pâtes", "kitchen"),
    ("fr", "Lance un minuteur de dix minutes pour les pâtes dans la cuisine.", 600, "pâtes", "kitchen"),
    ("fr", "Rappelle-moi dans vingt minutes.", 1200, None, None),
]

CHANGES = [
    # language, words, what, by how many seconds, name of the timer
    ("en", "Cancel the timer.", CANCEL, 0, None),
    ("en", "Stop the pizza timer.", CANCEL, 0, "pizza"),
    ("en", "Cancel all timers.", CANCEL_ALL, 0, None),
    ("en", "Pause the timer.", PAUSE, 0, None),
    ("en", "Resume the pizza timer.", RESUME, 0, "pizza"),
    ("en", "Add five more minutes to the pizza timer.", MORE, 300, "pizza"),
    ("en", "5 more minutes.", MORE, 300, None),
    ("en", "Take 2 minutes off the timer.", LESS, 120, None),
    ("en", "How much time is left?", STATUS, 0, None),
    ("en", "How long left on the pizza timer?", STATUS, 0, "pizza"),
    ("de", "Brich den Timer ab.", CANCEL, 0, None),
    ("de", "Lösche den Pizza-Timer.", CANCEL, 0, "Pizza"),
    ("de", "Alle Timer löschen.", CANCEL_ALL, 0, None),
    ("de", "Halte den Timer an.", PAUSE, 0, None),
    ("de", "Setze den Timer fort.", RESUME, 0, None),
    ("de", "Verlängere den Timer um fünf Minuten.", MORE, 300, None),
    ("de", "Verkürze den Timer um zwei Minuten.", LESS, 120, None),
    ("de", "Wie lange läuft der Timer noch?", STATUS, 0, None),
    ("fr", "Annule le minuteur.", CANCEL, 0, None),
    ("fr", "Annule tous les minuteurs.", CANCEL_ALL, 0, None),
    ("fr", "Mets le minuteur en pause.", PAUSE, 0, None),
    ("fr", "Reprends le minuteur.", RESUME, 0, None),
    ("fr", "Ajoute 5 minutes au minuteur.", MORE, 300, None),
    ("fr", "Enlève deux minutes au minuteur.", LESS, 120, None),
    ("fr", "Combien de temps reste-t-il sur le minuteur ?", STATUS, 0, None),
]

WORDS = {
    ("en", TIME): ["What time is it?", "what's the time", "What is the time right now?", "Tell me the time."],
    ("en", DATE): ["What is the date?", "What day is it today?", "What's today's date?"],
    ("en", STOP): ["Stop.", "STOP!", "Okay, stop.", "Be quiet.", "Shut up."],
    ("en", NEVERMIND): ["Never mind.", "Nevermind", "Forget it.", "Cancel."],
    ("en", REPEAT): ["Say that again.", "Can you repeat that, please?", "What did you say?", "Pardon?"],
    ("en", DISMISS): ["Thank you.", "Thanks!", "OK."],
    ("de", TIME): ["Wie spät ist es?", "Wie viel Uhr ist es?"],
    ("de", DATE): ["Welcher Tag ist heute?", "Welches Datum haben wir heute?"],
    ("de", STOP): ["Stopp.", "Stop!", "Halt."],
    ("de", NEVERMIND): ["Vergiss es.", "Schon gut.", "Abbrechen."],
    ("de", REPEAT): ["Wiederhole das.", "Noch einmal.", "Kannst du das wiederholen?"],
    ("fr", TIME): ["Quelle heure est-il ?", "Il est quelle heure ?"],
    ("fr", DATE): ["Quel jour sommes-nous ?", "Quelle est la date d'aujourd'hui ?"],
    ("fr", STOP): ["Stop.", "Arrête."],
    ("fr", NEVERMIND): ["Laisse tomber.", "Annule."],
    ("fr", REPEAT): ["Répète, s'il te plaît.", "Peux-tu répéter ?"],
}

NO_COMMANDS = {
    "en": """What time does the sun rise?
        What time is it in New York?
        What's the time difference between Paris and London?
        What day is Christmas?
        Stop the war.
        Stop the music.
        Stop talking about politics and tell me a joke.
        Don't stop me now.
        Turn on the kitchen light.
        Turn off the lights in five minutes.
        How long does it take to boil an egg?
        How much time is left until Christmas?
        What is a timer?
        How do I set a timer?
        Who invented the kitchen timer?
        Cancel my subscription.
        Remind me to call mom in five minutes.
        Set an alarm for 7 am.
        Set the thermostat to 20 degrees.
        Add milk to the shopping list.
        Repeat after me.
        What did you say about France?
        Never mind the gap, tell me about London.
        Pause the music.
        Continue the story.
        Thank you for the music.
        Five minutes.
        How many minutes are in an hour?
        Set a timer.""",
    "de": """Wann geht die Sonne auf?
        Wie spät ist es in New York?
        Stopp die Musik.
        Mach das Licht in fünf Minuten aus.
        Wie lange muss ein Ei kochen?
        Was ist ein Timer?
        Welcher Tag ist Weihnachten?
        Erinnere mich in fünf Minuten an Mama.
        Der Timer von Siemens ist kaputt, was tun?""",
    "fr": """À quelle heure se lève le soleil ?
        Quelle heure est-il à New York ?
        Arrête la musique.
        Quel jour est Noël ?
        C'est quoi un minuteur ?
        Rappelle-moi dans cinq minutes d'appeler maman.
        Répète après moi.""",
}


@lru_cache
def grammar(language: str) -> Grammar:
    """Return a compiled grammar."""
    return Grammar(language)


def understood(language: str, text: str) -> Command:
    """Return the command in `text`."""
    command = grammar(language).understand(text, ROOMS)
    assert command is not None, text
    return command


@pytest.mark.parametrize(("language", "text", "seconds", "name", "place"), TIMERS)
def test_a_timer_is_set(language: str, text: str, seconds: int, name: str | None, place: str | None) -> None:
    """With its length, its name and its room, however they are written."""
    command = understood(language, text)
    assert command.intent is START
    assert (command.duration.total_seconds, command.timer.name, command.timer.place) == (seconds, name, place)


@pytest.mark.parametrize(("language", "text", "intent", "seconds", "name"), CHANGES)
def test_a_timer_is_changed(language: str, text: str, intent: Intent, seconds: int, name: str | None) -> None:
    """Whichever is meant, by as much as was said."""
    command = understood(language, text)
    assert (command.intent, command.duration.total_seconds, command.timer.name) == (intent, seconds, name)


@pytest.mark.parametrize(("language", "intent"), WORDS)
def test_what_else_is_a_command(language: str, intent: Intent) -> None:
    """The time, the date, and what is said to a voice that speaks."""
    for text in WORDS[language, intent]:
        assert understood(language, text).intent is intent, text


@pytest.mark.parametrize("language", NO_COMMANDS)
def test_what_is_no_command(language: str) -> None:
    """What only sounds like one is left to others."""
    found = {
        text.strip(): command
        for text in NO_COMMANDS[language].splitlines()
        if (command := grammar(language).understand(text.strip(), ROOMS)) is not None
    }
    assert found == {}


@pytest.mark.parametrize(
    ("language", "text"), [("de", "Wie lange dauert der Film?"), ("fr", "Combien de temps pour cuire un œuf ?")]
)
def test_what_is_about_a_timer_only_if_there_is_one_of_that_name(language: str, text: str) -> None:
    """It does not speak of a timer, which the responder has to know."""
    assert not understood(language, text).mentions_timer


def test_whatever_is_said_is_judged_soon() -> None:
    """What is too long is no command, and the longest that is judged takes no time to speak of."""
    assert grammar("en").understand("set a timer for five minutes and " * 6 + "stop") is None
    confused = ("my my pizza please hour minute hours called hour for me five one another " * 3)[:160]
    began = time.process_time()
    assert grammar("en").understand(confused, ROOMS) is None
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("code", "known"),
    [("en", "en"), ("en-GB", "en"), ("fr_FR", "fr"), ("pt-br", "pt-BR"), ("zh", "zh-CN"), ("no", "nb"), ("tlh", None)],
)
def test_languages_are_known_by_many_codes(code: str, known: str | None) -> None:
    """Whisper's, Home Assistant's and those of voices."""
    assert known_language(code) == known


@pytest.mark.parametrize(
    "language",
    [
        language if language in ("ar", "de", "en", "zh-CN") else pytest.param(language, marks=pytest.mark.slow)
        for language in sorted(home_assistant_intents.get_languages())
    ],
)
def test_every_language_compiles_and_answers(language: str) -> None:
    """Also where Home Assistant has no sentence of its own: then the English one is said."""
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
    """In a thread, once for all who wait, also when one of them gives up; the one unused longest goes."""
    grammars = Grammars()
    waiting = asyncio.create_task(grammars.get("en"))
    await asyncio.sleep(0)
    assert grammars.languages == []  # it is not done here and now
    waiting.cancel()
    first, second = await asyncio.gather(grammars.get("en"), grammars.get("en-GB"))
    assert first is second is not None
    assert await grammars.get("tlh") is None
    for language in ("da", "sv", "nb", "fi", "is", "en", "et"):
        await grammars.get(language)
    assert grammars.languages == ["sv", "nb", "fi", "is", "en", "et"]
    assert await grammars.get("en") is first
    await grammars.close()
