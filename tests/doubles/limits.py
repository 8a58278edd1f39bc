"""How much may be asked of a hosted model, and the headers in which Groq tells what is left."""

import math
import time
from dataclasses import dataclass

from tests.doubles.http import Refusal


class Bucket:
    """So many in so many seconds, coming back evenly."""

    def __init__(self, capacity: int, window_seconds: float) -> None:
        self.capacity = capacity
        self._per_second = capacity / window_seconds
        self._level = float(capacity)
        self._at = time.monotonic()

    @property
    def left(self) -> float:
        """What may be taken now; below nought when more was taken than there was."""
        now = time.monotonic()
        self._level = min(self.capacity, self._level + (now - self._at) * self._per_second)
        self._at = now
        return self._level

    def take(self, amount: float) -> None:
        """Take some."""
        self._level = self.left - amount

    def seconds_until(self, amount: float) -> float:
        """Return how long it takes until `amount` may be taken."""
        return max(0.0, min(amount, self.capacity) - self.left) / self._per_second


@dataclass
class Limits:
    """An organisation's limits, by default those of Groq's free plan."""

    requests: int = 14_400
    requests_seconds: float = 86_400.0
    tokens: int = 6_000
    tokens_seconds: float = 60.0

    def __post_init__(self) -> None:
        self._requests = Bucket(self.requests, self.requests_seconds)
        self._tokens = Bucket(self.tokens, self.tokens_seconds)

    def take(self, tokens: int, model: str) -> None:
        """Take a request with a conversation of so many tokens; raises `Refusal` when there is not enough left."""
        seconds = max(self._requests.seconds_until(1), self._tokens.seconds_until(tokens))
        if seconds > 0:
            kind = "requests" if self._requests.seconds_until(1) else "tokens"
            message = f"Rate limit reached for model `{model}` on {kind}. Please try again in {duration(seconds)}."
            refusal = Refusal(429, message, "rate_limit_exceeded")
            refusal.headers = {"retry-after": str(math.ceil(seconds))}
            raise refusal
        self._requests.take(1)
        self._tokens.take(tokens)

    def spend(self, tokens: int) -> None:
        """Take what an answer had."""
        self._tokens.take(tokens)

    def headers(self) -> dict[str, str]:
        """Return what every reply tells."""
        headers = {}
        for name, bucket in (("requests", self._requests), ("tokens", self._tokens)):
            headers[f"x-ratelimit-limit-{name}"] = str(bucket.capacity)
            headers[f"x-ratelimit-remaining-{name}"] = str(max(0, int(bucket.left)))
            headers[f"x-ratelimit-reset-{name}"] = duration(bucket.seconds_until(bucket.capacity))
        return headers


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
