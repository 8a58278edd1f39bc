"""Time that passes when a test says so: a clock that is set, and an event loop whose waits take no time."""

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

import pytest

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_DELIVERY_SECONDS = 0.001
"""For what a socket of this process has sent to another: the kernel delivers it nearly always at once."""

_WAKING_SOCKETS = 1
"""The one by which an event loop is woken."""


class ManualClock:
    """A clock that stands still until it is set."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        """Seconds."""

    def __call__(self) -> float:
        return self.now


class _Selector(selectors.DefaultSelector):
    """Waits only for threads: the time it should have waited for anything else is added to the clock."""

    seconds = 0.0
    threads = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if self.threads or len(self.get_map()) > _WAKING_SOCKETS:
            ready = super().select(_DELIVERY_SECONDS)
        if ready or self.threads:
            return ready
        if timeout is None:
            raise AssertionError("everything waits, and nothing is to come")
        self.seconds += max(timeout, 0)
        return ready


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """An event loop for coroutines that wait for time, for threads, and for sockets whose other ends are here too.

    While it runs, `time.monotonic` is its time.
    """

    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.seconds

    def run_forever(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "monotonic", self.time)
            patch.setattr(time, "monotonic_ns", lambda: round(self.time() * 1e9))
            super().run_forever()

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """Run `func` in a thread, which takes no virtual time."""
        future = super().run_in_executor(executor, func, *args)
        self._clock.threads += 1
        future.add_done_callback(self._thread_ended)
        return future

    async def subprocess_exec(self, *_: Any, **__: Any) -> Any:
        """Refuse: a program takes real time; the loop, whose time passes at once, would be closed before its end."""
        raise AssertionError("no program is started on a virtual clock")

    async def shutdown_default_executor(self, *timeout: float) -> None:
        """Wait, in a thread as well, for the threads to end."""
        self._clock.threads += 1
        await super().shutdown_default_executor(*timeout)
        self._clock.threads -= 1

    def _thread_ended(self, _: asyncio.Future[Any]) -> None:
        self._clock.threads -= 1


def run_virtually(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return what `coroutine` returns, run on a virtual clock."""
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        return runner.run(coroutine)
