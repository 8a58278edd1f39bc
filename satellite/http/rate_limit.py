"""Limits: requests of one client in a minute, and requests in progress at once."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, IPv6Network, ip_address

from satellite.http.error_codes import HttpError

_WINDOW_SECONDS = 60

_PER_WRONG_TOKEN = 10
"""One request with a wrong token is allowed for this many allowed requests."""


class RateLimit:
    """A fixed number of requests a minute for each client; the minute begins with the client's first request.

    Requests with a wrong token are counted apart, so that a stranger behind the household's proxy cannot lock it out.
    """

    def __init__(self, requests_per_minute: int) -> None:
        self._requests = _Window(requests_per_minute, "requests")
        self._refused = _Window(max(1, requests_per_minute // _PER_WRONG_TOKEN), "requests without the right token")

    def take(self, client: str) -> dict[str, str]:
        """Count a request and return the headers that say what is left. Raises `HttpError` when nothing was."""
        return self._requests.count(rate_key(client))

    def refuse(self, client: str) -> None:
        """Count a request with a wrong token. Raises `HttpError` when there have been too many."""
        self._refused.count(rate_key(client))


class _Window:
    """Requests of each client within its current minute."""

    def __init__(self, limit: int, what: str) -> None:
        self._limit = limit
        self._what = what
        self._clients: dict[str, tuple[float, int]] = {}  # when the minute began, and the requests since
        self._swept_at = time.monotonic()

    def count(self, key: str) -> dict[str, str]:
        now = time.monotonic()
        if now - self._swept_at >= _WINDOW_SECONDS:  # otherwise each new address would stay in memory for ever
            self._clients = {key: one for key, one in self._clients.items() if now - one[0] < _WINDOW_SECONDS}
            self._swept_at = now
        began, counted = self._clients.get(key, (now, 0))
        if now - began >= _WINDOW_SECONDS:
            began, counted = now, 0
        self._clients[key] = began, counted + 1
        reset_seconds = math.ceil(began + _WINDOW_SECONDS - now)
        headers = {
            "RateLimit-Limit": str(self._limit),
            "RateLimit-Remaining": str(max(0, self._limit - counted - 1)),
            "RateLimit-Reset": str(reset_seconds),
            "RateLimit-Policy": f"{self._limit};w={_WINDOW_SECONDS}",
        }
        if counted >= self._limit:
            raise HttpError(
                f"more than {self._limit} {self._what} in a minute; the next in {reset_seconds} s",
                code="http-rate-limited",
                headers=headers | {"Retry-After": str(reset_seconds)},
            )
        return headers


def rate_key(address: str) -> str:
    """Return what counts as one client: of IPv6 the /64, since one host may use all its addresses."""
    try:
        known = ip_address(address)
    except ValueError:
        return address
    return str(IPv6Network((int(known) >> 64 << 64, 64))) if isinstance(known, IPv6Address) else address


class Work:
    """Requests in progress; more than the limit are refused, not queued."""

    def __init__(self, at_once: int, refusal: str = "") -> None:
        """Refuse more than `at_once`, for the reason `refusal` if it is given."""
        self._at_once = at_once
        self._refusal = refusal or f"{at_once} requests are worked on already; try again later"
        self.under_way = 0

    def enter(self) -> Callable[[], None]:
        """Enter; return what leaves again. Raises `HttpError` at the limit."""
        if self.under_way >= self._at_once:
            raise HttpError(self._refusal, code="http-busy")
        self.under_way += 1

        def leave() -> None:
            self.under_way -= 1

        return leave

    @contextmanager
    def one(self) -> Iterator[None]:
        """Enter for the duration of the `with`. Raises `HttpError` at the limit."""
        leave = self.enter()
        try:
            yield
        finally:
            leave()
