"""Finds a device of Home Assistant's in each of our rooms, so that "turn on the lights" means those of the room."""

import logging
import time
from collections.abc import Mapping

from satellite.errors import ChatError, ChatRejected
from satellite.skills.home_assistant.api import Api, RoomQuery, RoomTarget

_LOGGER = logging.getLogger(__name__)

_FRESH_SECONDS = 300.0
"""How long a result holds: devices seldom move to another area."""


class RoomTargets:
    """Looks the rooms up now and then, and keeps the last result."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._rooms: dict[str, RoomQuery] = {}
        self._found: dict[str, RoomTarget] = {}
        self._looked_up_at: float | None = None
        self._is_reported = self._is_forbidden = False

    def configure(self, rooms: Mapping[str, RoomQuery]) -> None:
        """Look for `rooms` from now on, by the names that questions give as their place."""
        self._rooms = dict(rooms)
        self.expire()

    def expire(self) -> None:
        """Look again soon; until then the last result holds."""
        self._looked_up_at = None

    @property
    def due(self) -> bool:
        """Whether it is time to look."""
        stale = self._looked_up_at is None or time.monotonic() - self._looked_up_at >= _FRESH_SECONDS
        return bool(self._rooms) and stale and not self._is_forbidden

    def of(self, place: str) -> RoomTarget:
        """Return the device or entity of a place."""
        return self._found.get(place, RoomTarget())

    async def look_up(self) -> None:
        """Look for all rooms; a failure changes nothing, and is logged once."""
        self._looked_up_at = time.monotonic()
        names, queries = list(self._rooms), list(self._rooms.values())
        try:
            found = await self._api.find(queries)
        except ChatError as error:
            # Home Assistant counts a forbidden request as a wrong login, and may ban this machine for repeating it.
            self._is_forbidden = isinstance(error, ChatRejected)
            why = "the token is not an administrator's" if self._is_forbidden else str(error)
            level = logging.DEBUG if self._is_reported else logging.WARNING
            _LOGGER.log(level, "home_assistant: the devices in our rooms cannot be looked up: %s", why)
            self._is_reported = True
            return
        self._is_reported = False
        self._found = dict(zip(names, found, strict=True))
