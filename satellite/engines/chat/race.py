"""One question to several providers, started one after the other: the first that speaks wins."""

import asyncio
import time
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence

from satellite.engines.protocols import ChatDelta, ChatModel, Message, Sampling
from satellite.errors import ChatError, ChatUnavailable
from satellite.tasks import begin_task, end_tasks

Started = tuple[ChatModel, AsyncGenerator[ChatDelta, None], ChatDelta]


class Race:
    """Asks `models` in order: the next one when one fails, or when none has spoken for `patience_seconds`.

    A model that `waits_for` others is asked only once all of them have failed or are down.
    """

    def __init__(
        self,
        models: Sequence[ChatModel],
        messages: Sequence[Message],
        sampling: Sampling,
        patience_seconds: float,
        *,
        waits_for: Mapping[ChatModel, Collection[ChatModel]],
    ) -> None:
        self.failures: list[tuple[ChatModel, ChatError]] = []
        self._waits_for = waits_for
        self._waiting = list(models)
        self._messages = messages
        self._sampling = sampling
        self._patience_seconds = patience_seconds
        self._runners: dict[asyncio.Task[ChatDelta], tuple[ChatModel, AsyncGenerator[ChatDelta, None]]] = {}
        self._asked_at: dict[ChatModel, float] = {}

    @property
    def running(self) -> list[ChatModel]:
        """Models that were asked and have neither spoken nor failed."""
        return [model for model, _ in self._runners.values()]

    def silences(self) -> dict[ChatModel, str]:
        """Return for how long each model that was asked has been silent, for people."""
        now = time.monotonic()
        return {model: f"no word after {now - at:.1f} s" for model, at in self._asked_at.items()}

    async def first(self) -> Started | None:
        """Return the model that spoke first, the rest of its answer and its first delta; None when all have failed."""
        while True:
            if (model := self._next()) is not None:
                self._waiting.remove(model)
                self._ask(model)
            if not self._runners:
                return None
            # Woken again while models wait: one they wait for may be found to be down without failing this question.
            patience = self._patience_seconds if self._waiting else None
            done, _ = await asyncio.wait(self._runners, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            # In the order of preference, if two speak in the same iteration of the event loop.
            for task in sorted(done, key=list(self._runners).index):
                model, deltas = self._runners.pop(task)
                try:
                    return model, deltas, task.result()
                except ChatError as error:
                    self.failures.append((model, error))

    async def stop(self) -> None:
        """Stop all models that are still running."""
        runners, self._runners = self._runners, {}
        await end_tasks(*runners)  # first: a generator cannot be closed while a task is inside it
        for _, deltas in runners.values():
            await deltas.aclose()

    def _next(self) -> ChatModel | None:
        """Return the model that may be asked now."""
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
    """Return whether a model is no longer worth waiting for, for example because it takes too long to load."""
    health = model.health
    return not (health.up or health.is_late)


async def _first(deltas: AsyncGenerator[ChatDelta, None]) -> ChatDelta:
    delta = await anext(deltas, None)
    if delta is None:
        raise ChatUnavailable("no answer", kind="empty")
    return delta
