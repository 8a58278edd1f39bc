"""What the words of a command say of its end."""

import pytest

from satellite.pipeline.completeness import Completeness, completeness

COMPLETE = [
    "Turn on the lights in the kitchen.",
    "Close the kitchen windows.",
    "Set the bed light to warm white.",
    "Set brightness to 50%.",
    "Set a timer for 30 seconds.",
    "Set a timer for one hour and eight minutes.",
    "Create a timer for 5.5 minutes.",
    "Is the garage door open?",
    "Turn the lights on.",
    "Next track.",
    "What's the outdoor temperature?",
    "What's the weather like in Paris?",
    "What is the capital of France?",
    "What time is it?",
    "Nevermind.",
    "Never mind",
    "Set a timer for five and a half minutes.",
]
SENTENCES = [
    "Turn on the lights.",
    "Set a timer for one hour.",
    "What's the temperature?",
    "Run party time",
    "Stop it.",
]
INCOMPLETE = [
    "Turn on the",
    "Turn on",
    "Turn on the lights in...",
    "Open the blinds,",
    "Set the bed light",
    "Turn the standing light in the office",
    "Set a timer for",
    "Set a timer for 10.",
    "Is the garage door?",
    "What is the capital of",
    "What's the weather in the?",
    "Lights",
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *((text, Completeness.COMPLETE) for text in COMPLETE),
        *((text, Completeness.SENTENCE) for text in SENTENCES),
        *((text, Completeness.INCOMPLETE) for text in INCOMPLETE),
    ],
)
def test_english(text: str, expected: Completeness) -> None:
    assert completeness(text, "en") is expected
    assert completeness(text, "en-GB") is expected


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("Allume la lumière dans la cuisine.", "fr", Completeness.COMPLETE),
        ("Allume la lumière.", "fr", Completeness.SENTENCE),
        ("Laisse tomber.", "fr", Completeness.COMPLETE),
        ("Wie spät ist es?", "de", Completeness.COMPLETE),
        ("Allume la", "fr", Completeness.INCOMPLETE),
        ("Mets un minuteur de 5", "fr", Completeness.INCOMPLETE),
        ("Mach das Licht in der Küche an.", "de", Completeness.COMPLETE),
        ("Stell einen Timer auf 10", "de", Completeness.INCOMPLETE),
        ("Enciende la luz de la", "es", Completeness.INCOMPLETE),
        ("Enciende la luz.", "es", Completeness.SENTENCE),
        ("Doe het licht aan in de", "nl", Completeness.INCOMPLETE),
        ("Sytytä valot.", "fi", Completeness.UNKNOWN),
        ("Sytytä valot ja...", "fi", Completeness.INCOMPLETE),
        ("Turn on the lights.", None, Completeness.UNKNOWN),
        ("", "en", Completeness.UNKNOWN),
    ],
)
def test_other_languages(text: str, language: str | None, expected: Completeness) -> None:
    assert completeness(text, language) is expected


def test_a_known_command_is_complete_whatever_its_words() -> None:
    assert completeness("What time is it?", "en", is_command=True) is Completeness.COMPLETE
    assert completeness("Stop", "en", is_command=True) is Completeness.SENTENCE
    assert completeness("Turn off the", "en", is_command=True) is Completeness.COMPLETE
    assert completeness("Stop...", "en", is_command=True) is Completeness.INCOMPLETE


def test_a_long_text_is_judged_by_its_end() -> None:
    assert completeness(", " * 100_000 + "turn on the", "en") is Completeness.INCOMPLETE
    assert completeness("a word " * 100_000 + "turn on the lights in the kitchen", "en") is Completeness.COMPLETE
    assert completeness("," * 1_000_000, "en") is Completeness.INCOMPLETE
