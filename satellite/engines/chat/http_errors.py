"""What a chat server's HTTP answers mean: errors, rate limits, and when to ask again."""

import email.utils
import math
import re
import time
from collections.abc import Mapping

from satellite.errors import ChatError, ChatRejected, ChatUnavailable, shown

_LONGEST_REASON = 200
"""Characters of a server's explanation that are kept: some repeat the whole request."""

# Durations as Go writes them, which Groq and OpenAI put into their headers: "2m59.56s".
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "µs": 1e-6, "us": 1e-6, "ns": 1e-9}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|µs|us|ns|h|m|s)")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")


class RateLimited(ChatUnavailable):
    """The provider accepts no more requests for now."""

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message, kind="rate-limited")
        self.retry_after_seconds = retry_after_seconds
        """When it will answer again, if it said so."""


def failure(server: str, status: int, reason: str, *, retry_after_seconds: float | None = None) -> ChatError:
    """Return the error for an HTTP `status` of 400 or more, by what the caller can do about it."""
    reason = shown(reason, _LONGEST_REASON)
    message = f"{server} answered {status}: {reason}"
    if status == 429 or (status == 503 and retry_after_seconds is not None):
        return RateLimited(message, retry_after_seconds=retry_after_seconds)
    if status in (401, 403):
        return ChatRejected(message, kind="refused")
    if status == 404:
        return ChatUnavailable(message, kind="unknown-model")
    if status in (408, 504):
        return ChatUnavailable(message, kind="timeout")
    if status in (413, 400) and _is_too_long(reason):
        return ChatRejected(message, kind="too-long")
    if 400 <= status < 500:
        return ChatRejected(message)
    return ChatUnavailable(message, kind="busy" if status == 503 else "failed")


def _is_too_long(reason: str) -> bool:
    """Return whether the explanation is that the conversation exceeds the model's context, for which no code exists."""
    reason = reason.lower()
    return "context" in reason and any(word in reason for word in ("exceed", "length", "long", "large"))


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Return the delay that a Retry-After header (RFC 9110, 10.2.3) asks for, in seconds or by a date."""
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
    """Return the seconds until a request of so many tokens may be made; None when it may be now.

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
    """Return `text` as a finite number; None if it is none."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _seconds(text: str | None) -> float | None:
    """Return a duration in Go's notation in seconds; a bare number is seconds as well."""
    if text is None or not _DURATION.fullmatch(text):
        number = _number(text)
        return number if number is not None and number >= 0 else None
    return sum(float(amount) * _UNITS[unit] for amount, unit in _PART.findall(text))
