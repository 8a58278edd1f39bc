"""Who goes first with Ollama: a question. Whatever else is under way gives way to it."""

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from satellite.engines.protocols import Message
from satellite.tasks import begin_task, end_tasks

T = TypeVar("T")


class TurnBegan(Exception):
    """A question came, and nothing else is to be done meanwhile."""


class GiveWay:
    """Knows when a question is being answered, and cuts short what may then not go on."""

    def __init__(self) -> None:
        self.used_at = time.monotonic()
        """When the last question was done with, or one was last expected."""

        self.answered_at = float("-inf")
        """When the last question was done with."""

        self.turns = 0
        """Questions that are being answered, or wait."""

        self._free = asyncio.Event()
        self._free.set()
        self._task: asyncio.Task[Any] | None = None
        self._reading: Sequence[Message] = ()
        self._untouchable_at = 0.0

    @property
    def is_busy(self) -> bool:
        """Whether a question is being answered."""
        return self.turns > 0

    @property
    def idle_seconds(self) -> float:
        """How long ago there was a question, or one was expected."""
        return 0.0 if self.turns else time.monotonic() - self.used_at

    @contextmanager
    def turn(self, messages: Sequence[Message]) -> Iterator[None]:
        """Have the way free while the question at the end of `messages` is being answered."""
        reads_for_it = self._reading and begins(messages, self._reading)
        if self._task is not None and not reads_for_it and time.monotonic() < self._untouchable_at:
            self._task.cancel()
        self.turns += 1
        self._free.clear()
        try:
            yield
        finally:
            self.turns -= 1
            self.used_at = self.answered_at = time.monotonic()
            if not self.turns:
                self._free.set()

    async def free(self) -> None:
        """Wait until no question is being answered."""
        await self._free.wait()

    async def unless_asked(
        self,
        call: Callable[[], Coroutine[Any, Any, T]],
        *,
        reading: Sequence[Message] = (),
        within_seconds: float = math.inf,
    ) -> T:
        """Await `call`; raises `TurnBegan` if a question is there, or comes within so many seconds: that cuts it short.

        Not a question that begins with what the call is `reading`: it would have to wait for the same work.
        """
        if self.is_busy:
            raise TurnBegan
        self._task = task = begin_task(call(), "keep-alive")
        self._reading, self._untouchable_at = reading, time.monotonic() + within_seconds
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            await end_tasks(task)
            raise
        finally:
            self._task = None
        if task.cancelled():
            raise TurnBegan
        return task.result()


def begins(messages: Sequence[Message], beginning: Sequence[Message]) -> bool:
    """Tell whether `messages` begin with `beginning`."""
    return list(messages[: len(beginning)]) == list(beginning)
