"""Which choice an answer means."""

import pytest

from satellite.skills.choices import Choice, closest

CHOICES = [
    Choice("yes", ("yes", "yes please", "sure", "go ahead")),
    Choice("no", ("no", "no thanks", "not now")),
    Choice("later", ("in an hour", "later")),
    Choice("café", ("Café au lait",)),
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Yes.", "yes"),
        ("YES, please!", "yes"),
        ("Well, yes.", "yes"),
        ("Sure, go ahead.", "yes"),
        ("No, thanks.", "no"),
        ("Not now, later.", "no"),
        ("Yes or no?", None),
        ("Perhaps in an hour.", "later"),
        ("Latter.", "later"),
        ("cafe au lait", "café"),
        ("What?", None),
        ("yesterday", None),
        ("", None),
        ("...", None),
        ("no " * 100_000, "no"),
    ],
)
def test_the_closest_choice_is_meant(text: str, expected: str | None) -> None:
    assert closest(text, CHOICES) == expected


def test_nothing_is_chosen_of_nothing() -> None:
    assert closest("yes", []) is None
    assert closest("yes", [Choice("x", ("",))]) is None
