"""What providers say of their limits, and what they say by mistake."""

import email.utils
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satellite.engines.chat.http_errors import exhausted_seconds, retry_after_seconds
from tests.doubles.limits import duration


def told(kind: str, remaining: str, reset: str) -> dict[str, str]:
    """Return the headers about one kind of limit."""
    return {f"x-ratelimit-remaining-{kind}": remaining, f"x-ratelimit-reset-{kind}": reset}


@settings(max_examples=25)
@given(st.floats(0, 1e6))
def test_any_duration_is_understood(seconds: float) -> None:
    assert exhausted_seconds(told("requests", "0", duration(seconds)), 1) == pytest.approx(seconds, abs=0.01)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2m59.56s", 179.56),
        ("7.66s", 7.66),
        ("120ms", 0.12),
        ("1h0m0s", 3600),
        ("0s", 0),
        ("27h46m40s", 100_000),
        ("1.5µs", 1.5e-6),
        ("1ns", 1e-9),
        ("12", 12),
        ("0.5", 0.5),
    ],
)
def test_durations_as_they_were_seen(text: str, seconds: float) -> None:
    assert exhausted_seconds(told("tokens", "3", text), 4) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("headers", "tokens", "seconds"),
    [
        ({}, 10, None),
        (told("tokens", "10", "5s"), 10, None),
        (told("tokens", "9", "5s"), 10, 5),
        (told("requests", "1", "5s"), 10, None),
        (told("requests", "0", "5s"), 10, 5),
        (told("requests", "0", "5s") | told("tokens", "0", "1m"), 10, 60),
        (told("requests", "0", "5s") | told("tokens", "500", "1m"), 10, 5),
        ({"x-ratelimit-remaining-tokens": "0"}, 10, None),
        ({"x-ratelimit-reset-tokens": "5s"}, 10, None),
        (told("tokens", "-3", "5s"), 10, 5),
    ],
)
def test_what_is_left_is_compared_with_what_is_needed(
    headers: dict[str, str], tokens: int, seconds: float | None
) -> None:
    assert exhausted_seconds(headers, tokens) == seconds


@pytest.mark.parametrize("nonsense", ["", "soon", "1s1", "s", "5 s", "nan", "inf", "1e999", "1d", "²s"])
def test_nonsense_about_what_is_left_is_nothing(nonsense: str) -> None:
    assert exhausted_seconds(told("tokens", "0", nonsense), 1) is None
    assert exhausted_seconds(told("tokens", nonsense, "5s"), 1) is None
    assert exhausted_seconds(told("tokens", "0", "-5"), 1) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("0", 0),
        ("7", 7),
        ("2.5", 2.5),
        ("-5", 0),
        ("soon", None),
        ("", None),
        ("nan", None),
        ("inf", None),
        ("1e999", None),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0),
        ("Sun, 99 Nov 1994 08:49:37 GMT", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(value: str | None, seconds: float | None) -> None:
    assert retry_after_seconds({} if value is None else {"retry-after": value}) == seconds


def test_retry_after_may_be_a_date_to_come() -> None:
    date = email.utils.formatdate(time.time() + 1000, usegmt=True)
    assert retry_after_seconds({"retry-after": date}) == pytest.approx(1000, abs=500)


@settings(max_examples=25)
@given(st.text(), st.text())
def test_no_header_breaks_anything(one: str, other: str) -> None:
    for seconds in (
        retry_after_seconds({"retry-after": one}),
        exhausted_seconds(told("tokens", one, other) | told("requests", other, one), 100),
    ):
        assert seconds is None or 0 <= seconds < float("inf")
