"""A room, whatever its transport: what the hub keeps connected."""

import logging
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from satellite.config.rooms import RoomSettings
from satellite.rooms.device import Capabilities
from satellite.rooms.playback import SharedSound

_LOGGER = logging.getLogger(__name__)


class LinkState(StrEnum):
    """Whether a room can be reached."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    OFF = "off"
    HELD = "held"
    """Another server has it."""

    NO_SATELLITE = "no-satellite"
    """Something else listens there."""


@dataclass(frozen=True, slots=True)
class RoomStatus:
    """The state of one room."""

    room: str
    uri: str
    area: str | None
    state: LinkState
    message: str
    """The state as a sentence."""

    doing: str
    """An `Activity`, with the program that controls the room where that is another; empty while not connected."""

    since_seconds: float
    """How long it has been in `state`."""

    reconnections: int
    capabilities: Capabilities


class Room(Protocol):
    """A room that the hub keeps connected."""

    @property
    def settings(self) -> RoomSettings:
        """Return what is configured for it."""

    @property
    def capabilities(self) -> Capabilities:
        """Return what it can do."""

    async def run(self) -> None:
        """Keep it connected, and hold conversations there, until cancelled."""

    async def announce(self, sound: SharedSound) -> None:
        """Play a sound; returns when it has been heard. Raises `SatelliteError` or `ConnectionError` if it was not."""

    def status(self) -> RoomStatus:
        """Return its present state."""


class BaseRoom:
    """What rooms of all transports have: their settings, and whether they can be reached."""

    capabilities = Capabilities()

    def __init__(self, settings: RoomSettings, uri: str, summary: str) -> None:
        """Begin as `CONNECTING`, which `summary` describes."""
        self.settings = settings
        self.state = LinkState.CONNECTING
        self.summary = summary
        self.since = time.monotonic()
        self.reconnections = 0
        """How often the room was reached again after it had gone."""

        self._uri = uri

    def become(self, state: LinkState, summary: str, *, log: bool = True) -> None:
        """Change to a state, described by `summary`; a change of the state is logged, a new summary is not."""
        changed = state is not self.state
        self.state, self.summary = state, summary
        if changed:
            self.since = time.monotonic()
        if changed and log:  # once for each change: a satellite that is switched off is dialled for days
            level = logging.INFO if state is LinkState.CONNECTED else logging.WARNING
            _LOGGER.log(level, "room %s", summary, extra={"room": self.settings.name})

    def status(self) -> RoomStatus:
        """Return its present state."""
        return RoomStatus(
            room=self.settings.name,
            uri=self._uri,
            area=self.settings.area,
            state=self.state,
            message=self._details(),
            doing=self._doing(),
            since_seconds=round(time.monotonic() - self.since, 1),
            reconnections=self.reconnections,
            capabilities=self.capabilities,
        )

    def _details(self) -> str:
        return self.summary

    def _doing(self) -> str:
        return ""
