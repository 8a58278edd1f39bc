"""One thread an engine: a bounded queue in front of it, and one seam where foreign errors become ours."""

import asyncio
import concurrent.futures
import logging
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

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

        def timed() -> R:
            self.busy_since = time.monotonic()
            try:
                return call(*args, **kwargs)
            finally:
                self.busy_since = None
                self.completed += 1

        self._pending += 1
        try:
            future = self._executor.submit(timed)
        except RuntimeError as refused:  # the executor was shut down
            self._pending -= 1
            raise error(f"{self.stage} is shutting down", kind="not-ready") from refused
        future.add_done_callback(self._finished(asyncio.get_running_loop()))
        try:
            return await asyncio.wrap_future(future)
        except (StageError, asyncio.CancelledError):
            raise
        except Exception as foreign:  # the engine seam: a library may raise anything
            _LOGGER.debug("%s engine failed", self.stage, exc_info=True)
            raise error(f"{self.stage} failed: {foreign}") from foreign

    def _finished(self, loop: asyncio.AbstractEventLoop) -> Callable[[object], None]:
        """Count the call as done on the loop's thread, also when its caller has gone."""

        def count() -> None:
            self._pending -= 1

        def callback(_: object) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(count)

        return callback

    def close(self) -> None:
        """Let the running call end by itself and drop those waiting; may be called twice."""
        self._executor.shutdown(wait=False, cancel_futures=True)
