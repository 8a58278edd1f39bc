"""One thread an engine: a bounded queue in front of it, and one seam where foreign errors become ours."""

import asyncio
import concurrent.futures
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ParamSpec, TypeVar, cast

from satellite.errors import STAGE_ERRORS, Stage, StageError

_LOGGER = logging.getLogger(__name__)

_TOGETHER_SECONDS = 0.002
"""How long a result may wait for the next of its kind: to wake the loop for each costs as much as a small network."""

_MOST_TOGETHER = 16
"""Calls that are run as one, so that those behind them do not wait long."""

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


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
        self._closed = False
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
        return cast(R, await self._run(partial(call, *args, **kwargs)))

    async def run_together(self, call: Callable[[Sequence[T]], Sequence[R]], item: T) -> R:
        """Return what `call` makes of `item`, which it gets along with all that waits for the same by then.

        Where it fails, everybody is served alone, so that nobody pays for another.
        """
        return cast(R, await self._run(partial(_only, call, item), call, item))

    async def _run(self, work: Callable[[], Any], together: Callable[..., Any] | None = None, item: Any = None) -> Any:
        error = STAGE_ERRORS[self.stage]
        if self._pending > self._queue_size:
            raise error(f"{self.stage} has {self._queue_size} requests waiting; try again later", kind="busy")
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._told = loop, False
        queued = _Call(work, loop.create_future(), together, item)
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
        # The engine seam: a library may raise anything.
        _LOGGER.debug("%s engine failed", self.stage, exc_info=failure)
        raise error(f"{self.stage} failed: {failure}") from failure

    def close(self) -> None:
        """Let the running call end by itself and drop those waiting; may be called twice."""
        with self._lock:
            self._closed = True
            for call in self._waiting:
                call.failure = asyncio.CancelledError()
            self._done += self._waiting
            self._waiting.clear()
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._tell()

    def _enqueue(self, call: "_Call") -> bool:
        """Let a call wait for its turn; False if it is too late for that."""
        with self._lock:
            if self._closed:
                return False
            self._waiting.append(call)
            if not self._works:
                self._executor.submit(self._work)
                self._works = True
        self._pending += 1
        return True

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
        while calls := self._next():
            self.busy_since = time.monotonic()
            if len(calls) == 1 or not _run_as_one(calls):
                for call in calls:
                    call.run()
            self.busy_since = None
            self.completed += len(calls)
            self._done += calls
            if not self._goes_on(calls[0]) or time.monotonic() - told_at >= _TOGETHER_SECONDS:
                self._tell()
                told_at = time.monotonic()

    def _goes_on(self, call: "_Call") -> bool:
        """Return whether more of what is run together with `call` is next; anything else may take long."""
        if call.together is None:
            return False
        with self._lock:
            return bool(self._waiting) and self._waiting[0].together == call.together

    def _next(self) -> "list[_Call]":
        """Return the call whose turn it is, with those that can be run along with it; none if nothing waits."""
        with self._lock:
            self._works = bool(self._waiting)
            if not self._waiting:
                return []
            first = self._waiting.popleft()
            if first.together is None:
                return [first]
            others = [call for call in self._waiting if call.together == first.together][: _MOST_TOGETHER - 1]
            for call in others:
                self._waiting.remove(call)
            return [first, *others]

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
            if not call.answer.done() and not call.answer.get_loop().is_closed():
                call.answer.set_result((call.outcome, call.failure))


class _Call:
    """What is to be run, and what it came to."""

    def __init__(
        self,
        work: Callable[[], Any],
        answer: "asyncio.Future[tuple[Any, BaseException | None]]",
        together: Callable[..., Any] | None,
        item: Any,
    ) -> None:
        self.answer = answer
        self.together = together
        self.item = item
        self.outcome: Any = None
        self.failure: BaseException | None = None
        self._work = work

    def run(self) -> None:
        """Run it alone."""
        try:
            self.outcome = self._work()
        except BaseException as failure:  # noqa: BLE001  # it is raised where it is awaited
            self.failure = failure


def _run_as_one(calls: "Sequence[_Call]") -> bool:
    """Run calls of the same in one, and return whether that went well."""
    together = calls[0].together
    assert together is not None
    try:
        outcomes = together([call.item for call in calls])
    except Exception:  # whose fault it is shows when each is run alone
        _LOGGER.debug("calls cannot be run as one", exc_info=True)
        return False
    for call, outcome in zip(calls, outcomes, strict=True):
        call.outcome = outcome
    return True


def _only(call: Callable[[Sequence[T]], Sequence[R]], item: T) -> R:
    (outcome,) = call([item])
    return outcome
