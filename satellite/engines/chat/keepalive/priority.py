"""Questions go first with Ollama: requests of the keep-alive timer are cancelled for them."""

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from satellite.engines.protocols import Message, starts_with
from satellite.tasks import begin_task, end_tasks

T = TypeVar("T")


class QuestionArrived(Exception):
    """A question is being answered, and nothing else may be sent meanwhile."""


class QuestionPriority:
    """Tracks whether a question is being answered, and cancels requests that must not delay one."""

    def __init__(self) -> None:
        self.used_at = time.monotonic()
        """When the last question ended, or one was last expected."""

        self.answered_at = float("-inf")
        """When the last question ended."""

        self.questions = 0
        """Questions that are being answered, or wait."""

        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[Any] | None = None
        self._reading: Sequence[Message] = ()
        self._protected_at = 0.0

    @property
    def is_busy(self) -> bool:
        """Whether a question is being answered."""
        return self.questions > 0

    @property
    def idle_seconds(self) -> float:
        """How long ago there was a question, or one was expected."""
        return 0.0 if self.questions else time.monotonic() - self.used_at

    @contextmanager
    def question(self, messages: Sequence[Message]) -> Iterator[None]:
        """Keep other requests away while the question at the end of `messages` is being answered."""
        # A prime of this very question goes on: Ollama would have to read the same text again.
        reads_for_it = self._reading and starts_with(messages, self._reading)
        if self._task is not None and not reads_for_it and time.monotonic() < self._protected_at:
            self._task.cancel()
        self.questions += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.questions -= 1
            self.used_at = self.answered_at = time.monotonic()
            if not self.questions:
                self._idle.set()

    async def until_idle(self) -> None:
        """Wait until no question is being answered."""
        await self._idle.wait()

    async def interruptible(
        self,
        call: Callable[[], Coroutine[Any, Any, T]],
        *,
        reading: Sequence[Message] = (),
        within_seconds: float = math.inf,
    ) -> T:
        """Await `call`, unless a question is being answered or comes within so many seconds; raises `QuestionArrived`.

        A question that starts with the messages that the call is `reading` does not cancel it: that question would
        have to wait for the same work.
        """
        if self.is_busy:
            raise QuestionArrived
        self._task = task = begin_task(call(), "keep-alive")
        self._reading, self._protected_at = reading, time.monotonic() + within_seconds
        try:
            # Not `await task`: a question cancels the task, which must not look like a cancellation of the timer.
            await asyncio.wait([task])
        except asyncio.CancelledError:
            await end_tasks(task)
            raise
        finally:
            self._task = None
        if task.cancelled():
            raise QuestionArrived
        return task.result()
