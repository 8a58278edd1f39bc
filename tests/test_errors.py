"""What peers choose, as it stands in messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satellite.config.settings import nearest
from satellite.errors import shown


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ("kitchen", "kitchen"),
        ("Küche, 台所", "Küche, 台所"),
        ("", ""),
        ("two\nlines\x1b[31m", r"two\nlines\x1b[31m"),
        ("\u202etxt", r"\u202etxt"),
        ("\ud800", r"\ud800"),
        ("n" * 80, "n" * 80),
        ("n" * 81, "n" * 80 + "…"),
        (ValueError("bad"), "bad"),
    ],
)
def test_what_a_peer_chose_is_shown_in_short(sent: object, told: str) -> None:
    assert shown(sent) == told


@given(st.text(max_size=300))
def test_whatever_is_shown_can_be_printed_and_encoded(text: str) -> None:
    assert shown(text).isprintable()
    assert len(shown(text).encode()) < 1_000


def test_a_long_name_is_compared_in_short() -> None:
    assert nearest("kichen", {"kitchen", "office"}) == "did you mean 'kitchen'?"
    assert nearest("kitchen" * 1_000_000, {"kitchen", "office"}) == "expected one of kitchen, office"
