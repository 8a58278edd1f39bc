"""Several providers asked one after the other, and all of them still running: who speaks first is heard."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence

from satellite.engines import ChatDelta, ChatModel, Message, Sampling
from satellite.errors import ChatError, ChatUnavailable

Started = tuple[ChatModel, AsyncGenerator[ChatDelta, None], ChatDelta]


class Race:
    """One question to `models`: the next one is asked when one fails, or none has a word for `patience_seconds`."""

    def __init__(
        self, models: Sequence[ChatModel], messages: Sequence[Message], sampling: Sampling, patience_seconds: float
    ) -> None:
        self.failures: list[tuple[ChatModel, ChatError]] = []
        self._waiting = list(models)
        self._messages = messages
        self._sampling = sampling
        self._patience_seconds = patience_seconds
        self._runners: dict[asyncio.Task[ChatDelta], tuple[ChatModel, AsyncGenerator[ChatDelta, None]]] = {}
        self._asked_at: dict[str, float] = {}

    @property
    def running(self) -> list[ChatModel]:
        """Who was asked and has neither spoken nor failed."""
        return [model for model, _ in self._runners.values()]

    def waits(self) -> dict[str, str]:
        """Return how long those who were asked have been silent, in words, by their names."""
        now = time.monotonic()
        return {provider: f"no word after {now - at:.1f} s" for provider, at in self._asked_at.items()}

    async def first(self) -> Started | None:
        """Return who spoke first, the rest of its answer, and its first delta; None when all have failed."""
        while self._waiting or self._runners:
            if self._waiting:
                self._ask(self._waiting.pop(0))
            patience = self._patience_seconds if self._waiting else None
            done, _ = await asyncio.wait(self._runners, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(done, key=list(self._runners).index):
                model, deltas = self._runners.pop(task)
                try:
                    return model, deltas, task.result()
                except ChatError as error:
                    self.failures.append((model, error))
        return None

    async def stop(self) -> None:
        """Stop everybody who is still running."""
        runners, self._runners = self._runners, {}
        for task in runners:
            task.cancel()
        await asyncio.gather(*runners, return_exceptions=True)
        for _, deltas in runners.values():
            await deltas.aclose()

    def _ask(self, model: ChatModel) -> None:
        deltas = model.stream(self._messages, self._sampling)
        self._asked_at[model.provider] = time.monotonic()
        self._runners[asyncio.create_task(_first(deltas), name=f"ask {model.provider}")] = (model, deltas)


async def _first(deltas: AsyncGenerator[ChatDelta, None]) -> ChatDelta:
    """Return the first delta; raises `ChatError` when there is none."""
    delta = await anext(deltas, None)
    if delta is None:
        raise ChatUnavailable("no answer", kind="empty")
    return delta
