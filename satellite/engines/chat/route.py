"""Who answers: the first provider that begins to."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from satellite.config import Deadlines
from satellite.engines import ChatDelta, ChatModel, Message
from satellite.errors import ChatError, ChatUnavailable

_LOGGER = logging.getLogger(__name__)

_USABLE = 0.95
"""Part of the deadline for the first word that providers share; the rest is for telling why none had one."""


class RouteChat:
    """A `ChatModel` of several. After the first delta nobody else is asked: nothing is ever said twice.

    The providers share the deadline for the first word: each has an equal part of what those before it left over.
    """

    def __init__(self, models: Sequence[ChatModel], deadlines: Deadlines) -> None:
        self.provider = ", ".join(model.provider for model in models)
        self._models = models
        self._first_token_seconds = deadlines.chat_first_token_seconds * _USABLE
        self._failing: set[int] = set()

    async def stream(self, messages: Sequence[Message]) -> AsyncGenerator[ChatDelta, None]:
        """Yield one provider's answer; see `ChatModel`. Raises `ChatUnavailable`, which names all, when none begins."""
        failures: list[ChatError] = []
        end = asyncio.get_running_loop().time() + self._first_token_seconds
        for index, model in enumerate(self._models):
            left = end - asyncio.get_running_loop().time()
            async with aclosing(model.stream(messages)) as deltas:
                try:
                    first = await _first(deltas, left / (len(self._models) - index))
                except ChatError as error:
                    self._note_failure(index, error)
                    failures.append(error)
                    continue
                self._note_answer(index)
                yield first
                async for delta in deltas:
                    yield delta
                return
        reasons = "; ".join(f"{model.provider}: {error}" for model, error in zip(self._models, failures, strict=True))
        kind = failures[-1].code.removeprefix(f"{failures[-1].stage}-")
        raise ChatUnavailable(f"nobody answers: {reasons}", kind=kind) from failures[-1]

    async def close(self) -> None:
        """Close all providers; may be called twice."""
        await asyncio.gather(*(model.close() for model in self._models))

    def _note_failure(self, index: int, error: ChatError) -> None:
        level = logging.DEBUG if index in self._failing else logging.WARNING
        self._failing.add(index)
        _LOGGER.log(level, "chat: %s does not answer [%s]: %s", self._models[index].provider, error.code, error)

    def _note_answer(self, index: int) -> None:
        if index in self._failing:
            self._failing.discard(index)
            _LOGGER.info("chat: %s answers again", self._models[index].provider)


async def _first(deltas: AsyncGenerator[ChatDelta, None], seconds: float) -> ChatDelta:
    """Return the first delta; raises `ChatError` when there is none, or none in time."""
    try:
        async with asyncio.timeout(seconds):
            delta = await anext(deltas, None)
    except TimeoutError as late:
        raise ChatUnavailable(f"no word within {seconds:.3g} s", kind="timeout") from late
    if delta is None:
        raise ChatUnavailable("no answer", kind="empty")
    return delta
