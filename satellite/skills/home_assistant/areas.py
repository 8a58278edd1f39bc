"""Where Home Assistant finds our rooms: a device in each, so that "turn on the lights" means those of the room."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from satellite.errors import ChatError, ChatRejected

_LOGGER = logging.getLogger(__name__)

_FRESH_SECONDS = 300.0
"""How long what was found holds: devices are moved to other areas seldom."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A room to be found there, by what Home Assistant may call it."""

    area: str
    device: str = ""
    """The satellite that Home Assistant knows the room by, if there is one."""


@dataclass(frozen=True, slots=True)
class Found:
    """What stands for a room there; both empty where Home Assistant knows nothing in it."""

    device: str | None = None
    entity: str | None = None


class Finder(Protocol):
    """Looks for rooms."""

    async def find(self, places: Sequence[Wanted]) -> list[Found]:
        """Return what stands for each of `places`; raises `ChatError`."""


class Places:
    """What stands for our rooms in Home Assistant, looked for now and then."""

    def __init__(self, finder: Finder) -> None:
        self._finder = finder
        self._wanted: dict[str, Wanted] = {}
        self._found: dict[str, Found] = {}
        self._looked_at: float | None = None
        self._told = self._forbidden = False

    def want(self, places: Mapping[str, Wanted]) -> None:
        """Look for these from now on, by the names that questions give as their place."""
        self._wanted = dict(places)
        self.forget()

    def forget(self) -> None:
        """Look again soon; until then, what was found holds."""
        self._looked_at = None

    @property
    def due(self) -> bool:
        """Whether it is time to look."""
        stale = self._looked_at is None or time.monotonic() - self._looked_at >= _FRESH_SECONDS
        return bool(self._wanted) and stale and not self._forbidden

    def of(self, place: str) -> Found:
        """Return what stands for a place."""
        return self._found.get(place, Found())

    async def look(self) -> None:
        """Find them; a failure is told once, and changes nothing.

        Who is forbidden to ask never asks again: Home Assistant counts that as a wrong login, and may ban for it.
        """
        self._looked_at = time.monotonic()
        names, places = list(self._wanted), list(self._wanted.values())
        try:
            found = await self._finder.find(places)
        except ChatError as error:
            self._forbidden = isinstance(error, ChatRejected)
            why = "the token is not an administrator's" if self._forbidden else str(error)
            level = logging.DEBUG if self._told else logging.WARNING
            _LOGGER.log(level, "home_assistant: the devices in our rooms cannot be looked up: %s", why)
            self._told = True
            return
        self._told = False
        self._found = dict(zip(names, found, strict=True))
