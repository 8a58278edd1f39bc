"""What a hosted provider says of the requests and tokens that are left, as Groq and OpenAI write it."""

import email.utils
import re
import time
from collections.abc import Mapping

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Return the delay that a Retry-After header asks for, as a number of seconds or as a date."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def exhausted_seconds(headers: Mapping[str, str], tokens: int) -> float | None:
    """Return when a request of so many tokens may be made again; None when it may be now.

    By `x-ratelimit-remaining-requests` and `-tokens`, and the `-reset-` of each, such as `2m59.56s`.
    """
    waits = [
        _seconds(headers.get(f"x-ratelimit-reset-{kind}"))
        for kind, needed in (("requests", 1), ("tokens", tokens))
        if _number(headers.get(f"x-ratelimit-remaining-{kind}"), needed) < needed
    ]
    return max((wait for wait in waits if wait is not None), default=None)


def _number(text: str | None, default: int) -> float:
    try:
        return default if text is None else float(text)
    except ValueError:
        return default


def _seconds(text: str | None) -> float | None:
    """Return a duration as Go writes it, in seconds; a bare number is seconds too."""
    if text is None:
        return None
    if not _DURATION.fullmatch(text):
        number = _number(text, -1)
        return number if number >= 0 else None
    return sum(float(amount) * _UNITS[unit] for amount, unit in _PART.findall(text))
