"""What keeping a model warm costs."""

import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from satellite.engines.chat.metered import Metered

T = TypeVar("T")

_HOUR_SECONDS = 3600.0


class Cost:
    """Counts requests by kind, our CPU time, and how long the server was at them."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.cpu_seconds = 0.0
        self.server_seconds = 0.0
        self._began = time.monotonic()

    async def count(self, kind: str, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Await `call`, a request of this `kind`."""
        self.requests[kind] += 1
        metered = Metered(call())
        began = time.monotonic()
        try:
            return await metered
        finally:
            self.cpu_seconds += metered.seconds
            self.server_seconds += time.monotonic() - began

    def described(self) -> dict[str, Any]:
        """Return what was spent so far, and what an hour costs at that rate; our CPU's time, and the server's."""
        hours = max(time.monotonic() - self._began, 1.0) / _HOUR_SECONDS
        return {
            "requests": dict(self.requests),
            "cpu_seconds": round(self.cpu_seconds, 3),
            "requests_per_hour": {kind: round(count / hours) for kind, count in sorted(self.requests.items())},
            "cpu_seconds_per_hour": round(self.cpu_seconds / hours, 1),
            "server_seconds_per_hour": round(self.server_seconds / hours, 1),
        }
