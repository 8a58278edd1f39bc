"""How often a hosted model may be asked, and the headers in which Groq tells what is left."""

import math
import time

from tests.doubles.http import Refusal


class Limits:
    """So many requests in so many seconds, coming back evenly."""

    def __init__(self, requests: int, seconds: float) -> None:
        self._requests = requests
        self._per_second = requests / seconds
        self._level = float(requests)
        self._at = time.monotonic()

    def _left(self) -> float:
        now = time.monotonic()
        self._level = min(self._requests, self._level + (now - self._at) * self._per_second)
        self._at = now
        return self._level

    def take(self) -> None:
        """Take a request; raises `Refusal` when none is left."""
        if (missing := 1 - self._left()) > 0:
            seconds = missing / self._per_second
            message = f"Rate limit reached on requests. Please try again in {duration(seconds)}."
            refusal = Refusal(429, message, "rate_limit_exceeded")
            refusal.headers = {"retry-after": str(math.ceil(seconds))}
            raise refusal
        self._level -= 1

    def headers(self) -> dict[str, str]:
        """Return what every reply tells."""
        left = self._left()
        return {
            "x-ratelimit-limit-requests": str(self._requests),
            "x-ratelimit-remaining-requests": str(int(left)),
            "x-ratelimit-reset-requests": duration((self._requests - left) / self._per_second),
        }


def duration(seconds: float) -> str:
    """Return a duration as Go writes it: "2m59.56s", "7.66s", "120ms"."""
    milliseconds = round(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    hundredths = round(seconds * 100)
    minutes, rest = divmod(hundredths, 6000)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours}h" if hours else ""
    text += f"{minutes}m" if hours or minutes else ""
    return f"{text}{rest / 100:g}s"
