"""One thread an engine: a bounded queue in front of it, and one seam where foreign errors become ours."""

import asyncio
import concurrent.futures
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, ParamSpec, TypeVar, cast

from satellite.errors import STAGE_ERRORS, Stage, StageError

_LOGGER = logging.getLogger(__name__)

_TOGETHER_SECONDS = 0.002
"""How long a result may wait for the next: to wake the loop for each costs as much as a small network does."""

P = ParamSpec("P")
R = TypeVar("R")


class Worker:
    """Runs blocking calls of one engine in one thread, first come first served; for one event loop at a time.

    `queue_size` calls may wait; a further one fails at once with `<stage>-busy`. A call whose caller was
    cancelled before it began never runs; one that is running ends by itself and its result is dropped.
    """

    def __init__(self, stage: Stage, *, name: str | None = None, queue_size: int = 16) -> None:
        self.stage = stage
        self._queue_size = queue_size
        self._executor = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix=name or stage.value)
        self._lock = threading.Lock()
        self._waiting: deque[_Call] = deque()
        self._works = False  # whether the thread has a reason to look at what waits
        self._done: deque[_Call] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told = False  # whether the loop is about to look at what is done
        self._pending = 0
        self.busy_since: float | None = None
        """When the running call began (`time.monotonic()`), for whoever watches for a wedged engine."""

        self.completed = 0
        """Calls that have run to their end."""

    @property
    def pending(self) -> int:
        """Calls waiting or running."""
        return self._pending

    async def run(self, call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return `call(*args, **kwargs)` from the engine's thread; any foreign exception becomes a `StageError`."""
        error = STAGE_ERRORS[self.stage]
        if self._pending > self._queue_size:
            raise error(f"{self.stage} has {self._queue_size} requests waiting; try again later", kind="busy")
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._told = loop, False
        queued = _Call(partial(call, *args, **kwargs), loop.create_future())
        try:
            self._enqueue(queued)
        except RuntimeError as refused:  # the executor was shut down
            raise error(f"{self.stage} is shutting down", kind="not-ready") from refused
        try:
            outcome, failure = await queued.answer
        except asyncio.CancelledError:
            self._withdraw(queued)
            raise
        if failure is None:
            return cast(R, outcome)
        if isinstance(failure, StageError) or not isinstance(failure, Exception):
            raise failure
        # The engine seam: a library may raise anything.
        _LOGGER.debug("%s engine failed", self.stage, exc_info=failure)
        raise error(f"{self.stage} failed: {failure}") from failure

    def close(self) -> None:
        """Let the running call end by itself and drop those waiting; may be called twice."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            for call in self._waiting:
                call.failure = asyncio.CancelledError()
            self._done += self._waiting
            self._waiting.clear()
        self._tell()

    def _enqueue(self, call: "_Call") -> None:
        with self._lock:
            if not self._works:
                self._executor.submit(self._work)
                self._works = True
            self._waiting.append(call)
        self._pending += 1

    def _withdraw(self, call: "_Call") -> None:
        """Take a call back, unless it has begun."""
        with self._lock:
            if call not in self._waiting:
                return
            self._waiting.remove(call)
        self._pending -= 1

    # In the engine's thread.

    def _work(self) -> None:
        told_at = time.monotonic()
        while (call := self._next()) is not None:
            self.busy_since = time.monotonic()
            try:
                call.outcome = call.work()
            except BaseException as failure:  # noqa: BLE001  # it is raised where it is awaited
                call.failure = failure
            self.busy_since = None
            self.completed += 1
            self._done.append(call)
            if not self._waiting or time.monotonic() - told_at >= _TOGETHER_SECONDS:
                self._tell()
                told_at = time.monotonic()

    def _next(self) -> "_Call | None":
        with self._lock:
            self._works = bool(self._waiting)
            return self._waiting.popleft() if self._waiting else None

    def _tell(self) -> None:
        if self._done and not self._told and self._loop is not None and not self._loop.is_closed():
            self._told = True
            self._loop.call_soon_threadsafe(self._answer)

    # In the loop's.

    def _answer(self) -> None:
        self._told = False  # first: what is done from now on tells again
        while self._done:
            call = self._done.popleft()
            self._pending -= 1
            if not call.answer.done():
                call.answer.set_result((call.outcome, call.failure))


class _Call:
    """What is to be run, and what it came to."""

    def __init__(self, work: Callable[[], Any], answer: "asyncio.Future[tuple[Any, BaseException | None]]") -> None:
        self.work = work
        self.answer = answer
        self.outcome: Any = None
        self.failure: BaseException | None = None
