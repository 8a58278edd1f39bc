"""Time that passes when a test says so: a clock that is set, and an event loop whose waits take no time."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class ManualClock:
    """A clock that stands still until it is set."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        """Seconds."""

    def __call__(self) -> float:
        return self.now


class _Selector(selectors.DefaultSelector):
    """Waits for nobody: the time it should have waited is added to the clock."""

    seconds = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise AssertionError("everything waits, and nothing is to come")
        if not ready and timeout:
            self.seconds += timeout
        return ready


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """An event loop for coroutines that wait for time only, not for sockets or threads."""

    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.seconds


def run_virtually(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return what `coroutine` returns, run on a virtual clock."""
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        return runner.run(coroutine)
