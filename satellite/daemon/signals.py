"""Signals, handled by a thread of their own, so that the process always ends in time.

The event loop may be blocked by a call, a task may swallow its cancellation, an engine's thread may never return. So
nothing here needs the event loop to run.
"""

import asyncio
import faulthandler
import logging
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

_LOGGER = logging.getLogger(__name__)

STOP_SECONDS = 10.0
"""How long an orderly stop may take before the process is ended."""

_LAST_SECONDS = 1.0
"""How much later the interpreter itself ends the process, in case logging hangs too."""

_ENDING = frozenset({signal.SIGTERM, signal.SIGINT})


class Signals:
    """Handles SIGTERM, SIGINT and SIGHUP; to be made in the main thread, with a running event loop."""

    def __init__(
        self, stop: Callable[[], None], reload: Callable[[], None], *, stop_seconds: float = STOP_SECONDS
    ) -> None:
        """Call `stop` or `reload` on the loop.

        A process that has not ended `stop_seconds` after the first signal to stop exits with status 1; a second signal
        ends it at once.
        """
        self._stop = stop
        self._reload = reload
        self._stop_seconds = stop_seconds
        self._loop = asyncio.get_running_loop()
        self._ends_at: float | None = None
        # Python runs handlers in the main thread, which may be blocked. The wakeup descriptor is written at once, by
        # the C handler, whatever the main thread does.
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        for number in (*_ENDING, signal.SIGHUP):
            signal.signal(number, _ignore)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        threading.Thread(target=self._follow, args=(reading,), name="signals", daemon=True).start()

    def _follow(self, reading: int) -> None:
        while True:
            left = None if self._ends_at is None else max(0.0, self._ends_at - time.monotonic())
            if not select.select([reading], [], [], left)[0]:
                self._exit()
            for number in os.read(reading, 64):
                self._received(number)

    def _received(self, number: int) -> None:
        if number == signal.SIGHUP:
            self._call(self._reload)
        elif number in _ENDING and self._ends_at is None:
            self._ends_at = time.monotonic() + self._stop_seconds
            faulthandler.dump_traceback_later(self._stop_seconds + _LAST_SECONDS, exit=True)
            self._call(self._stop)
        elif number in _ENDING:
            _LOGGER.warning("second signal: exiting at once")
            _kill_children()
            os._exit(128 + number)

    def _call(self, callback: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the event loop is closed already: the process is ending
            self._loop.call_soon_threadsafe(callback)

    def _exit(self) -> None:
        """End the process, and log what has kept it from ending."""
        _LOGGER.error(
            "stopping took longer than %g s; exiting anyway:\n%s", self._stop_seconds, "\n".join(_pending(self._loop))
        )
        _kill_children()
        os._exit(1)


def _pending(loop: asyncio.AbstractEventLoop) -> Iterator[str]:
    """Yield the stacks of the main thread, and of the tasks that have not ended."""
    main = threading.main_thread()
    frame = sys._current_frames().get(main.ident or 0)
    yield "the main thread:\n" + "".join(traceback.format_stack(frame)[-6:])
    for task in asyncio.all_tasks(loop):
        where = "".join(line for one in task.get_stack(limit=3) for line in traceback.format_stack(one, limit=1))
        yield f"task {task.get_name()}:\n{where}"


def _kill_children() -> None:
    """Kill the programs that the daemon has started; where the kernel does not list them, their pipes break instead."""
    for children in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            for child in children.read_text().split():
                with suppress(ProcessLookupError):
                    os.killpg(int(child), signal.SIGKILL)
                os.kill(int(child), signal.SIGKILL)


def _ignore(_number: int, _frame: object) -> None:
    """Keep Python from ending the process; the thread handles the signal."""
