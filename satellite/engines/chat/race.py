"""Several providers asked one after the other, and all of them still running: who speaks first is heard."""

import asyncio
import time
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence

from satellite.engines.protocols import ChatDelta, ChatModel, Message, Sampling
from satellite.errors import ChatError, ChatUnavailable
from satellite.tasks import begin_task, end_tasks

Started = tuple[ChatModel, AsyncGenerator[ChatDelta, None], ChatDelta]


class Race:
    """One question to `models`: the next one is asked when one fails, or none has a word for `patience_seconds`.

    Who `waits_for` others is asked only once all of them have failed, or are found to be down.
    """

    def __init__(
        self,
        models: Sequence[ChatModel],
        messages: Sequence[Message],
        sampling: Sampling,
        patience_seconds: float,
        *,
        waits_for: Mapping[ChatModel, Collection[ChatModel]] | None = None,
    ) -> None:
        self._waits_for = waits_for or {}
        self.failures: list[tuple[ChatModel, ChatError]] = []
        self._waiting = list(models)
        self._messages = messages
        self._sampling = sampling
        self._patience_seconds = patience_seconds
        self._runners: dict[asyncio.Task[ChatDelta], tuple[ChatModel, AsyncGenerator[ChatDelta, None]]] = {}
        self._asked_at: dict[ChatModel, float] = {}

    @property
    def running(self) -> list[ChatModel]:
        """Who was asked and has neither spoken nor failed."""
        return [model for model, _ in self._runners.values()]

    def waits(self) -> dict[ChatModel, str]:
        """Return how long those who were asked have been silent, in words."""
        now = time.monotonic()
        return {model: f"no word after {now - at:.1f} s" for model, at in self._asked_at.items()}

    async def first(self) -> Started | None:
        """Return who spoke first, the rest of its answer, and its first delta; None when all have failed."""
        while True:
            if (model := self._next()) is not None:
                self._waiting.remove(model)
                self._ask(model)
            if not self._runners:
                return None
            patience = self._patience_seconds if self._waiting else None
            done, _ = await asyncio.wait(self._runners, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(done, key=list(self._runners).index):
                model, deltas = self._runners.pop(task)
                try:
                    return model, deltas, task.result()
                except ChatError as error:
                    self.failures.append((model, error))

    async def stop(self) -> None:
        """Stop everybody who is still running."""
        runners, self._runners = self._runners, {}
        await end_tasks(*runners)
        for _, deltas in runners.values():
            await deltas.aclose()

    def _next(self) -> ChatModel | None:
        """Return who may be asked now, None when that is nobody."""
        failed = [model for model, _ in self.failures]
        for model in self._waiting:
            if all(other in failed or _is_down(other) for other in self._waits_for.get(model, ())):
                return model
        return None

    def _ask(self, model: ChatModel) -> None:
        deltas = model.stream(self._messages, self._sampling)
        self._asked_at[model] = time.monotonic()
        self._runners[begin_task(_first(deltas), f"ask {model.provider}")] = (model, deltas)


def _is_down(model: ChatModel) -> bool:
    """Tell whether nobody should wait for a model any more, such as one whose loading takes too long."""
    health = model.health
    return not (health.up or health.is_late)


async def _first(deltas: AsyncGenerator[ChatDelta, None]) -> ChatDelta:
    """Return the first delta; raises `ChatError` when there is none."""
    delta = await anext(deltas, None)
    if delta is None:
        raise ChatUnavailable("no answer", kind="empty")
    return delta
