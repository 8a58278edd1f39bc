"""One thread for each engine, behind a bounded queue; the place where errors of libraries become ours."""

import asyncio
import concurrent.futures
import logging
import threading
import time
from bisect import insort
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ParamSpec, TypeVar, cast

from satellite.errors import STAGE_ERRORS, Stage, StageError

_LOGGER = logging.getLogger(__name__)

_TOGETHER_SECONDS = 0.002
"""How long a result may wait for the next of its kind: waking the loop for each costs as much as a small network."""

_MAX_BATCH = 16
"""Most calls that are run as one: those after them must not wait long."""

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_Batch = Callable[[Sequence[Any]], Sequence[object]]
"""Returns the results for several items."""


class Worker:
    """Runs blocking calls of one engine in one thread, those that are due first first; for one event loop at a time.

    `queue_size` calls may wait; a further one fails at once with `<stage>-busy`. A call that is cancelled before it
    begins never runs; one that is running cannot be stopped, and its result is dropped.
    """

    def __init__(self, stage: Stage, *, name: str | None = None, queue_size: int = 16) -> None:
        self.stage = stage
        self._queue_size = queue_size
        self._executor = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix=name or stage.value)
        self._lock = threading.Lock()
        self._waiting: deque[_Call] = deque()
        self._closed = False
        self._working = False  # whether the thread will look at the waiting calls
        self._done: deque[_Call] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._notified = False  # whether the loop will look at the finished calls
        self._pending = 0
        self.busy_since: float | None = None
        """When the running call began (`time.monotonic()`); the watchdog finds a hanging engine by it."""

        self.is_loading = False
        """Whether that call loads a model."""

        self.completed = 0
        """Calls that have run to their end."""

    @property
    def pending(self) -> int:
        """Calls waiting or running."""
        return self._pending

    async def run(self, call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return `call(*args, **kwargs)` from the engine's thread; any foreign exception becomes a `StageError`."""
        return cast(R, await self._run(partial(call, *args, **kwargs)))

    async def run_due(self, seconds: float, call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """As `run`, but due in so many `seconds`: other calls are due when they come, and those due first run first."""
        return cast(R, await self._run(partial(call, *args, **kwargs), due_seconds=seconds))

    async def load(self, call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """As `run`, for a call that loads a model: the watchdog gives it longer."""
        return cast(R, await self._run(partial(call, *args, **kwargs), loads=True))

    async def run_together(self, call: Callable[[Sequence[T]], Sequence[R]], item: T) -> R:
        """Return the result of `call` for `item`; it gets all items that wait for it at that time.

        If it fails, it is run for each item alone, so that one does not fail for another.
        """
        return cast(R, await self._run(lambda: call([item])[0], call, item))

    async def _run(
        self,
        work: Callable[[], object],
        together: _Batch | None = None,
        item: object = None,
        due_seconds: float = 0.0,
        *,
        loads: bool = False,
    ) -> object:
        error = STAGE_ERRORS[self.stage]
        if self._pending > self._queue_size:
            raise error(f"{self.stage} has {self._queue_size} requests waiting; try again later", kind="busy")
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # commands and tests use one worker in several loops, one after the other
            self._loop, self._notified = loop, False
        queued = _Call(work, loop.create_future(), together, item, time.monotonic() + max(0.0, due_seconds), loads)
        if not self._enqueue(queued):
            raise error(f"{self.stage} is shutting down", kind="not-ready")
        try:
            outcome, failure = await queued.answer
        except asyncio.CancelledError:
            self._withdraw(queued)
            raise
        if failure is None:
            return outcome
        if isinstance(failure, StageError) or not isinstance(failure, Exception):
            raise failure
        _LOGGER.debug("%s engine failed", self.stage, exc_info=failure)
        raise error(f"{self.stage} failed: {failure}") from failure

    def close(self) -> None:
        """Drop the waiting calls; the running one ends by itself. May be called twice."""
        with self._lock:
            self._closed = True
            for call in self._waiting:
                call.failure = asyncio.CancelledError()
            self._done += self._waiting
            self._waiting.clear()
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._notify()

    def _enqueue(self, call: "_Call") -> bool:
        """Queue a call; False if the worker is closed."""
        with self._lock:
            if self._closed:
                return False
            insort(self._waiting, call, key=lambda one: one.due_at)
            # Under the lock: the thread stops working under it too, and a call between the two would wait for ever.
            if not self._working:
                self._executor.submit(self._work)
                self._working = True
        self._pending += 1
        return True

    def _withdraw(self, call: "_Call") -> None:
        """Remove a call from the queue, unless it has begun."""
        with self._lock:
            if call not in self._waiting:  # running or finished: it is counted when the loop looks at it
                return
            self._waiting.remove(call)
        self._pending -= 1

    # The following methods run in the engine's thread.

    def _work(self) -> None:
        notified_at = time.monotonic()
        while calls := self._next():
            self.is_loading = calls[0].loads
            self.busy_since = time.monotonic()
            _run(calls)
            self.busy_since = None
            self.completed += len(calls)
            self._done += calls
            if not self._continues(calls[0]) or time.monotonic() - notified_at >= _TOGETHER_SECONDS:
                self._notify()
                notified_at = time.monotonic()

    def _continues(self, call: "_Call") -> bool:
        """Return whether the next call can be run with ones like `call`; any other may take long."""
        if call.together is None:
            return False
        with self._lock:
            return bool(self._waiting) and self._waiting[0].together == call.together

    def _next(self) -> "list[_Call]":
        """Return the next call, with those that can be run as one with it; none if the queue is empty."""
        with self._lock:
            self._working = bool(self._waiting)
            if not self._waiting:
                return []
            first = self._waiting.popleft()
            if first.together is None:
                return [first]
            others = [call for call in self._waiting if call.together == first.together][: _MAX_BATCH - 1]
            for call in others:
                self._waiting.remove(call)
            return [first, *others]

    def _notify(self) -> None:
        if self._done and not self._notified and self._loop is not None and not self._loop.is_closed():
            self._notified = True
            self._loop.call_soon_threadsafe(self._answer)

    # The following method runs in the event loop's thread.

    def _answer(self) -> None:
        # First: a call that ends while this runs must notify again, or nobody would look at it.
        self._notified = False
        while self._done:
            call = self._done.popleft()
            self._pending -= 1
            # The caller may have been cancelled meanwhile, or its loop may have ended.
            if not call.answer.done() and not call.answer.get_loop().is_closed():
                call.answer.set_result((call.outcome, call.failure))


@dataclass(slots=True, eq=False)
class _Call:
    """A call, and its result."""

    work: Callable[[], object]
    answer: "asyncio.Future[tuple[object, BaseException | None]]"
    together: _Batch | None
    item: object
    due_at: float
    loads: bool
    outcome: object = None
    failure: BaseException | None = None


def _run(calls: "Sequence[_Call]") -> None:
    """Run calls as one, or alone if that fails."""
    together = calls[0].together
    if together is not None and len(calls) > 1:
        outcomes, failure = _attempt(partial(together, [call.item for call in calls]))
        if outcomes is not None:
            for call, outcome in zip(calls, outcomes, strict=True):
                call.outcome = outcome
            return
        _LOGGER.debug("calls cannot be run as one", exc_info=failure)
    for call in calls:
        call.outcome, call.failure = _attempt(call.work)


def _attempt(work: Callable[[], R]) -> tuple[R | None, BaseException | None]:
    try:
        return work(), None
    except BaseException as failure:  # noqa: BLE001  # a library may raise anything; it is raised where it is awaited
        return None, failure
