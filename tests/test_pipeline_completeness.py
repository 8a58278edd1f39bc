"""What the words of a command say of its end."""

import pytest
import yaml

from satellite.pipeline.completeness import Completeness, completeness
from tests.running_daemon import DATA

COMMANDS = yaml.safe_load((DATA / "sentences" / "completeness.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("language", [*COMMANDS, "en-GB"])
def test_how_complete_commands_are_by_their_words(language: str) -> None:
    commands = COMMANDS[language.partition("-")[0]]
    judged = {text: completeness(text, language) for texts in commands.values() for text in texts}
    assert judged == {text: kind for kind, texts in commands.items() for text in texts}


@pytest.mark.parametrize(("text", "language"), [("Turn on the lights.", None), ("", "en")])
def test_what_is_not_known_says_nothing(text: str, language: str | None) -> None:
    assert completeness(text, language) is Completeness.UNKNOWN


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What time is it?", Completeness.COMPLETE),
        ("Stop", Completeness.SENTENCE),
        ("Turn off the", Completeness.COMPLETE),
        ("Stop...", Completeness.INCOMPLETE),
    ],
)
def test_a_known_command_is_complete_whatever_its_words(text: str, expected: Completeness) -> None:
    assert completeness(text, "en", is_command=True) is expected


def test_a_long_text_is_judged_by_its_end() -> None:
    assert completeness(", " * 100_000 + "turn on the", "en") is Completeness.INCOMPLETE
    assert completeness("a word " * 100_000 + "turn on the lights in the kitchen", "en") is Completeness.COMPLETE
    assert completeness("," * 1_000_000, "en") is Completeness.INCOMPLETE
