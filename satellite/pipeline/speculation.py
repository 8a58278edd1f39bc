"""The rest of a run, begun in case the command is over: nothing of it leaves unless it is.

Speech that goes on makes the guess stale: it is dropped, with whatever it has found.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from satellite.events import RunEvent
from satellite.pipeline.commit_gate import Gate
from satellite.pipeline.completeness import Completeness
from satellite.pipeline.request import Emit
from satellite.tasks import begin_task, failure_of

_UNFINISHED_SECONDS = 0.3
"""How long words that lack something are left alone before the chat model is asked: most go on by then."""


class Guess:
    """Work on what was said up to `last_speech_at`; whoever makes it commits or drops it, and awaits its end."""

    def __init__(
        self,
        last_speech_at: float,
        emit: Emit,
        publish: Callable[[RunEvent], None],
        work: Callable[["Guess"], Coroutine[Any, Any, None]],
        on_ready: Callable[["Guess"], None] = lambda guess: None,
    ) -> None:
        """Begin `work`, whose steps and sound go through the guess's gate to `emit` and `publish`.

        `on_ready` is called, perhaps several times, when to commit it would be of use: it has sound, or cannot go on.
        """
        self.last_speech_at = last_speech_at
        self.gate = Gate(emit, publish, lambda: on_ready(self))
        self._task = begin_task(work(self), "guess")
        self._task.add_done_callback(lambda _: on_ready(self))

    async def worth_going_on(self, words: Completeness) -> None:
        """Wait until it is worth asking a chat model for these words: at once, unless more has to come."""
        if words is Completeness.INCOMPLETE:
            with suppress(TimeoutError):
                async with asyncio.timeout(_UNFINISHED_SECONDS):
                    await self.gate.opened()

    async def commit(self) -> None:
        """Let out what there is, and whatever comes; returns, or raises, as the work does."""
        await self.gate.drain(self._task)

    def drop(self) -> None:
        """End the work; may be called twice, and after its end."""
        self._task.cancel()

    async def ended(self) -> None:
        """Wait for the end of the work, whatever it is."""
        await asyncio.wait([self._task])
        failure_of(self._task)  # whoever commits it hears of that; of one that is dropped nobody needs to
