"""Home Assistant compiles a language at its first sentence, which takes seconds: here it is done in advance."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from uuid import uuid4

from satellite.errors import ChatError
from satellite.skills.home_assistant.api import Api
from satellite.tasks import begin_task, end_tasks

_LOGGER = logging.getLogger(__name__)

_SENTENCE = "xyzzy"
"""Means nothing in any language: Home Assistant compiles the language, understands nothing, and does nothing."""

_SECONDS = 60.0
_LANGUAGES = 6
"""How many are compiled in advance: those that were spoken last, then those of the household."""


class CompiledLanguages:
    """Which languages are compiled, as far as is known, and the task that has others compiled."""

    def __init__(self, api: Api, expected: Callable[[], Sequence[str]]) -> None:
        """`expected` returns the languages of the household, such as `fr`."""
        self._api = api
        self._expected = expected
        self._spoken: OrderedDict[str, None] = OrderedDict()
        self._compiled: set[str] = set()
        self._warming_up: asyncio.Task[None] | None = None

    def has(self, language: str | None) -> bool:
        """Return whether a sentence in `language` has been answered; None is the server's own language."""
        return (language or "") in self._compiled

    def answered(self, language: str | None) -> None:
        """Record that a sentence in `language` has been answered."""
        self._compiled.add(language or "")
        if language:
            self._spoken[language] = None
            self._spoken.move_to_end(language)
            while len(self._spoken) > _LANGUAGES:
                self._spoken.popitem(last=False)

    def forget(self) -> None:
        """Take none for compiled: another process may have taken the server's place."""
        self._compiled.clear()

    def warm_up(self) -> None:
        """Begin to have every language compiled that is likely to be spoken."""
        if self._warming_up is None or self._warming_up.done():
            self._warming_up = begin_task(self._warm_up(), "home_assistant warm-up")

    async def close(self) -> None:
        """End the task; may be called twice."""
        if self._warming_up is not None:
            await end_tasks(self._warming_up)

    async def _warm_up(self) -> None:
        # One after the other: compiling keeps Home Assistant busy, and those spoken last are wanted first.
        for language in list(dict.fromkeys([*reversed(self._spoken), *self._expected()]))[:_LANGUAGES]:
            try:
                async with asyncio.timeout(_SECONDS):
                    await self._api.converse(_SENTENCE, language, uuid4().hex, asyncio.Event())
            except (ChatError, TimeoutError) as error:
                _LOGGER.debug("home_assistant: %s was not warmed up: %s", language, error)
                return
            self._compiled.add(language)
