"""Languages, which Home Assistant compiles when the first sentence in them comes: that takes it seconds."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from uuid import uuid4

from satellite.errors import ChatError
from satellite.skills.home_assistant.api import Api, Departure
from satellite.tasks import begin_task, end_tasks

_LOGGER = logging.getLogger(__name__)

_SENTENCE = "xyzzy"
"""In no language: whoever understands nothing by it has compiled the language, and does nothing."""

_SECONDS = 60.0
_LANGUAGES = 6
"""How many are warmed up: those that were spoken last, and those of the house."""


class Languages:
    """What has been compiled there, as far as it is known, and the task that has it compiled."""

    def __init__(self, api: Api, expected: Callable[[], Sequence[str]]) -> None:
        """Know of nothing yet; `expected` are the languages of the house, such as `fr`."""
        self._api = api
        self._expected = expected
        self._spoken: OrderedDict[str, None] = OrderedDict()
        self._compiled: set[str] = set()
        self._warming: asyncio.Task[None] | None = None

    def has(self, language: str | None) -> bool:
        """Return whether a sentence in `language` has been answered; in the server's own if it is None."""
        return (language or "") in self._compiled

    def answered(self, language: str | None) -> None:
        """Note that a sentence has been answered."""
        self._compiled.add(language or "")
        if language:
            self._spoken[language] = None
            self._spoken.move_to_end(language)
            while len(self._spoken) > _LANGUAGES:
                self._spoken.popitem(last=False)

    def forget(self) -> None:
        """Another process may have taken its place, which has compiled nothing yet."""
        self._compiled.clear()

    def warm_up(self) -> None:
        """Begin to have every language compiled that is likely to be spoken."""
        if self._warming is None or self._warming.done():
            self._warming = begin_task(self._warm_up(), "home_assistant warm-up")

    async def close(self) -> None:
        """End what is under way; may be called twice."""
        if self._warming is not None:
            await end_tasks(self._warming)

    async def _warm_up(self) -> None:
        for language in list(dict.fromkeys([*reversed(self._spoken), *self._expected()]))[:_LANGUAGES]:
            try:
                async with asyncio.timeout(_SECONDS):
                    await self._api.converse(_SENTENCE, language, uuid4().hex, Departure())
            except (ChatError, TimeoutError) as error:
                _LOGGER.debug("home_assistant: %s was not warmed up: %s", language, error)
                return
            self._compiled.add(language)
