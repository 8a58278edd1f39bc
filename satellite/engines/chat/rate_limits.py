"""What a hosted provider says of the requests and tokens that are left, as Groq and OpenAI write it."""

import email.utils
import math
import re
import time
from collections.abc import Mapping

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "µs": 1e-6, "us": 1e-6, "ns": 1e-9}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|µs|us|ns|h|m|s)")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Return the delay that a Retry-After header asks for, as a number of seconds or as a date."""
    value = headers.get("retry-after")
    if value is None:
        return None
    seconds = _number(value)
    if seconds is not None:
        return max(0.0, seconds)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def exhausted_seconds(headers: Mapping[str, str], tokens: int) -> float | None:
    """Return when a request of so many tokens may be made again; None when it may be now.

    By `x-ratelimit-remaining-requests` and `-tokens`, and the `-reset-` of each, such as `2m59.56s`.
    """
    waits = []
    for kind, needed in (("requests", 1), ("tokens", tokens)):
        remaining = _number(headers.get(f"x-ratelimit-remaining-{kind}"))
        wait = _seconds(headers.get(f"x-ratelimit-reset-{kind}"))
        if remaining is not None and remaining < needed and wait is not None:
            waits.append(wait)
    return max(waits, default=None)


def _number(text: str | None) -> float | None:
    """Return the finite number that `text` is, if it is one."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _seconds(text: str | None) -> float | None:
    """Return a duration as Go writes it, in seconds; a bare number is seconds too."""
    if text is None or not _DURATION.fullmatch(text):
        number = _number(text)
        return number if number is not None and number >= 0 else None
    return sum(float(amount) * _UNITS[unit] for amount, unit in _PART.findall(text))
