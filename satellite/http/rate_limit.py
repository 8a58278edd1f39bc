"""How much one client may ask for, and how much is worked on at once."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter

from satellite.http.forwarded import rate_key
from satellite.http.problems import HttpError

_WRONG_SHARE = 10
"""Of so many requests that are allowed, one may have a wrong token."""


class RateLimit:
    """So many requests in a minute for each client; the minute begins with the first.

    What is refused for its token is counted on its own: a stranger behind the proxy of a house uses up nothing of it.
    """

    def __init__(self, requests_per_minute: int) -> None:
        self._item = RateLimitItemPerMinute(requests_per_minute)
        self._wrong = RateLimitItemPerMinute(max(1, requests_per_minute // _WRONG_SHARE), namespace="wrong")
        self._limiter = FixedWindowRateLimiter(MemoryStorage())

    async def take(self, client: str) -> dict[str, str]:
        """Count a request and return the headers that tell what is left. Raises `HttpError` when nothing was."""
        return await self._take(self._item, client, "requests")

    async def refuse(self, client: str) -> None:
        """Count a request that is refused for its token. Raises `HttpError` when there have been too many."""
        await self._take(self._wrong, client, "requests without the right token")

    async def _take(self, item: RateLimitItem, client: str, what: str) -> dict[str, str]:
        key = rate_key(client)
        allowed = await self._limiter.hit(item, key)
        stats = await self._limiter.get_window_stats(item, key)
        reset_seconds = max(0, math.ceil(stats.reset_time - time.time()))
        headers = {
            "RateLimit-Limit": str(item.amount),
            "RateLimit-Remaining": str(max(0, stats.remaining)),
            "RateLimit-Reset": str(reset_seconds),
            "RateLimit-Policy": f"{item.amount};w=60",
        }
        if not allowed:
            raise HttpError(
                f"more than {item.amount} {what} in a minute; the next in {reset_seconds} s",
                code="http-rate-limited",
                headers=headers | {"Retry-After": str(max(1, reset_seconds))},
            )
        return headers


class Work:
    """So much goes on at once; more is refused rather than queued."""

    def __init__(self, at_once: int, refusal: str = "") -> None:
        """Refuse what is more than `at_once`, with a reason of its own if `refusal` is one."""
        self._at_once = at_once
        self._refusal = refusal or f"{at_once} requests are worked on already; try again later"
        self.under_way = 0

    def enter(self) -> Callable[[], None]:
        """Take a place; return what gives it back. Raises `HttpError` when there is none."""
        if self.under_way >= self._at_once:
            raise HttpError(self._refusal, code="http-busy")
        self.under_way += 1

        def leave() -> None:
            self.under_way -= 1

        return leave

    @contextmanager
    def one(self) -> Iterator[None]:
        """Take a place for as long as the `with` lasts. Raises `HttpError` when there is none."""
        leave = self.enter()
        try:
            yield
        finally:
            leave()
