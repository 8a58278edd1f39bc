"""One thread an engine: a bounded queue in front of it, and one seam where foreign errors become ours."""

import asyncio
import concurrent.futures
import logging
import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from satellite.errors import STAGE_ERRORS, Stage, StageError

_LOGGER = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


class Worker:
    """Runs blocking calls of one engine in one thread, first come first served.

    `queue_size` calls may wait; a further one fails at once with `<stage>-busy`. A call whose caller was
    cancelled before it began never runs; one that is running ends by itself and its result is dropped.
    """

    def __init__(self, stage: Stage, *, name: str | None = None, queue_size: int = 16) -> None:
        self.stage = stage
        self._queue_size = queue_size
        self._pending = 0
        self._executor = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix=name or stage.value)
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
        answer: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()

        def settle(outcome: Any = None, failure: BaseException | None = None) -> None:
            self._pending -= 1
            if not answer.done():
                answer.set_result((outcome, failure))

        def tell(*told: Any) -> None:
            # One way back to the loop a call: it costs as much as a small network does.
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, *told)

        def job() -> None:
            self.busy_since = time.monotonic()
            try:
                told: tuple[Any, ...] = (call(*args, **kwargs),)
            except BaseException as failure:  # noqa: BLE001  # it is raised where it is awaited
                told = (None, failure)
            self.busy_since = None
            self.completed += 1
            tell(*told)

        self._pending += 1
        try:
            queued = self._executor.submit(job)
        except RuntimeError as refused:  # the executor was shut down
            self._pending -= 1
            raise error(f"{self.stage} is shutting down", kind="not-ready") from refused
        queued.add_done_callback(lambda it: tell(None, asyncio.CancelledError()) if it.cancelled() else None)
        try:
            outcome, failure = await answer
        except asyncio.CancelledError:
            queued.cancel()  # unless it has begun
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
