"""The owners of tasks. A background task is supervised: its failures are logged and counted, and it is restarted.

A task that ends with the function that began it belongs to that function: `begin_task`, `end_tasks`, `first_of` and
`attempt` are for those.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from satellite.backoff import Backoff
from satellite.errors import SatelliteError, in_words

_LOGGER = logging.getLogger(__name__)

_FIRST_BACKOFF_SECONDS = 0.5
_LONGEST_BACKOFF_SECONDS = 10.0
_STEADY_SECONDS = 30.0
"""A task that has run for so long after a failure counts as working again."""

_STOP_SECONDS = 5.0
"""How long a cancelled task may take to end before it is abandoned."""

_CANCELLATIONS = 2
"""How often a task is cancelled: a library may swallow the first."""

T = TypeVar("T")


class Supervised:
    """A named task that is restarted whenever it fails; made by `Background.run`."""

    def __init__(self, name: str, work: Callable[[], Awaitable[object]], owner: "Background", *, fatal: bool) -> None:
        self.name = name
        self._work = work
        self._owner = owner
        self._fatal = fatal
        self.task = begin_task(self._supervise(), name)

    @property
    def trouble(self) -> str:
        """Its latest failure; empty while it works."""
        return self._owner.trouble(self.name)

    async def stop(self, seconds: float = _STOP_SECONDS) -> None:
        """Cancel it and wait until it has ended, at most for `seconds`; may be called twice."""
        await end_tasks(self.task, seconds=seconds)

    async def _supervise(self) -> None:
        while True:
            try:
                await self._work()
                return
            except asyncio.CancelledError:
                # Raised also by code that awaits a cancelled task of its own, which is a failure like any other; only
                # `cancelling` shows whether this task is to end.
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                error: Exception = RuntimeError("it was cancelled from inside")
            except Exception as failure:  # noqa: BLE001 - the boundary of every background task
                error = failure
            if self._fatal:
                _LOGGER.critical("%s failed: the daemon ends", self.name, exc_info=error)
                self._owner.broken.set()
                return
            await asyncio.sleep(self._owner.note(self.name, error))


@dataclass(slots=True)
class _Failures:
    """The failures of one task."""

    backoff: Backoff
    count: int = 0
    words: str = ""
    """The latest; empty once it works again."""

    since: float = 0.0
    steady: asyncio.TimerHandle | None = None


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """A background task that has failed at least once."""

    task: str
    state: str
    """`failing`, or `running` once it works again."""

    message: str
    """The latest failure; empty once it works again."""

    failures: int
    since_seconds: float | None
    """How long it has been failing; None once it works again."""


class Background:
    """All supervised tasks of a daemon, and their failures."""

    def __init__(self) -> None:
        self.broken = asyncio.Event()
        """Set when a task has failed that the daemon cannot run without."""

        self._tasks: set[Supervised] = set()
        self._failures: dict[str, _Failures] = {}

    def run(self, name: str, work: Callable[[], Awaitable[object]], *, fatal: bool = False) -> Supervised:
        """Run `work` until it returns. A failure restarts it, or ends the daemon if it is `fatal`."""
        task = Supervised(name, work, self, fatal=fatal)
        self._tasks.add(task)
        task.task.add_done_callback(lambda _: self._tasks.discard(task))
        return task

    def note(self, name: str, error: Exception) -> float:
        """Count a failure of `name`, and log it if it differs from the one before; return when to retry, in seconds.

        Also for work that is no task but retried by itself. Failures are kept by name, so names must be few.
        """
        loop = asyncio.get_running_loop()
        if name not in self._failures:
            self._failures[name] = _Failures(Backoff(_FIRST_BACKOFF_SECONDS, _LONGEST_BACKOFF_SECONDS))
        known = self._failures[name]
        known.count += 1
        before, known.words = known.words, in_words(error)
        if not before:
            known.since = loop.time()
        if before == known.words:
            _LOGGER.debug("%s failed again: %s", name, known.words)
        else:
            _LOGGER.error("%s failed, and is restarted", name, exc_info=error)
        # Only a task that has not failed for a while works again: one that fails at every start would seem to.
        if known.steady is not None:
            known.steady.cancel()
        seconds = known.backoff.next()
        known.steady = loop.call_later(seconds + _STEADY_SECONDS, self._works_again, name)
        return seconds

    def trouble(self, name: str) -> str:
        """Return the latest failure of a task by its name; empty while it works."""
        known = self._failures.get(name)
        return known.words if known else ""

    def status(self) -> tuple[TaskStatus, ...]:
        """Return the state of all that have failed since the daemon began."""
        return tuple(
            TaskStatus(
                task=name,
                state="failing" if known.words else "running",
                message=known.words,
                failures=known.count,
                since_seconds=_seconds_since(known.since) if known.words else None,
            )
            for name, known in sorted(self._failures.items())
        )

    async def close(self, seconds: float = _STOP_SECONDS) -> None:
        """Stop all tasks; may be called twice."""
        await end_tasks(*(task.task for task in self._tasks), seconds=seconds)
        for known in self._failures.values():
            if known.steady is not None:
                known.steady.cancel()

    def _works_again(self, name: str) -> None:
        known = self._failures[name]
        known.words, known.steady = "", None
        known.backoff.reset()
        _LOGGER.info("%s works again", name)


def begin_task(work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
    """Begin a task that the caller owns: it has to take the result, and to end it by `end_tasks` at the latest."""
    return asyncio.create_task(work, name=name)


def done_for_thread(work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop, seconds: float) -> T:
    """Return what `work` returns on `loop`, for the calling thread, which is blocked. Raises what it raises."""
    return asyncio.run_coroutine_threadsafe(work, loop).result(seconds)


async def end_tasks(*tasks: asyncio.Task[Any], seconds: float = _STOP_SECONDS) -> None:
    """Cancel tasks, wait until they have ended, and log failures that happen while they end.

    Earlier failures are for their owners, unless the caller is being cancelled: then these are logged, too, since
    nobody takes them any more. A task that takes longer than `seconds` is abandoned, so that its owner does not hang
    with it.
    """
    ending = [task for task in tasks if not task.done()]
    left: set[asyncio.Task[Any]] = set(ending)
    # The caller may be cancelled here, too: then the tasks have been cancelled at least once.
    for _ in range(_CANCELLATIONS):
        for task in left:
            task.cancel()
        if left:
            _, left = await asyncio.wait(left, timeout=seconds / _CANCELLATIONS)
    for task in left:
        _LOGGER.error("%s does not end, and is abandoned: %s", task.get_name(), task.get_stack(limit=1))
    caller = asyncio.current_task()
    for task in tasks if caller is not None and caller.cancelling() else ending:
        if task not in left:
            log_failure(task)


def log_failure(task: asyncio.Task[Any]) -> None:
    """Log the failure of a task that has ended, if there is one, since its owner no longer needs its result."""
    error = failure_of(task)
    # These are what work that is cut off usually ends with.
    if isinstance(error, SatelliteError | ConnectionError):
        _LOGGER.debug("%s ended with: %s", task.get_name(), error)
    elif error is not None:
        _LOGGER.error("%s failed", task.get_name(), exc_info=error)


def failure_of(task: asyncio.Future[Any]) -> BaseException | None:
    """Return the exception of a task that has ended, None for one that succeeded or was cancelled.

    This retrieves it: asyncio no longer logs that it was not.
    """
    return None if task.cancelled() else task.exception()


async def attempt(work: Coroutine[Any, Any, T], name: str, seconds: float) -> T | Exception:
    """Return what `work` returns, or the exception that it fails with: `TimeoutError` when it takes longer."""
    task = begin_task(work, name)
    try:
        in_time, _ = await asyncio.wait([task], timeout=seconds)
    finally:
        await end_tasks(task)
    if task in in_time and task.cancelled():
        return RuntimeError(f"{name} was cancelled from inside")
    if not task.done() or task.cancelled():
        return TimeoutError(f"{name} took longer than {seconds:g} s")
    failure = failure_of(task)
    return failure if isinstance(failure, Exception) else task.result()


async def first_of(name: str, *works: Coroutine[Any, Any, T]) -> T:
    """Return, or raise, what the first of `works` to end does, after the others were cancelled and have ended."""
    tasks = [begin_task(work, name) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task in done).result()
    finally:
        await end_tasks(*tasks)


def _seconds_since(at: float) -> float:
    return round(asyncio.get_running_loop().time() - at, 1)
