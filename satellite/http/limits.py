"""How much one client may ask for, and how much is worked on at once."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter

from satellite.http.problems import HttpError


class RateLimit:
    """So many requests in a minute for each client; the minute begins with the first."""

    def __init__(self, requests_per_minute: int) -> None:
        self._item = RateLimitItemPerMinute(requests_per_minute)
        self._limiter = FixedWindowRateLimiter(MemoryStorage())

    async def take(self, client: str) -> dict[str, str]:
        """Count a request and return the headers that tell what is left. Raises `HttpError` when nothing was."""
        allowed = await self._limiter.hit(self._item, client)
        stats = await self._limiter.get_window_stats(self._item, client)
        reset_seconds = max(0, math.ceil(stats.reset_time - time.time()))
        headers = {
            "RateLimit-Limit": str(self._item.amount),
            "RateLimit-Remaining": str(max(0, stats.remaining)),
            "RateLimit-Reset": str(reset_seconds),
            "RateLimit-Policy": f"{self._item.amount};w=60",
        }
        if not allowed:
            raise HttpError(
                f"more than {self._item.amount} requests in a minute; the next in {reset_seconds} s",
                code="http-rate-limited",
                headers=headers | {"Retry-After": str(max(1, reset_seconds))},
            )
        return headers


class Work:
    """So much is worked on at once; more is refused rather than queued."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self.under_way = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Take a place for as long as the `with` lasts. Raises `HttpError` when there is none."""
        if self.under_way >= self._at_once:
            raise HttpError(f"{self._at_once} requests are worked on already; try again later", code="http-busy")
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1
