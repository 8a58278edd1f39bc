"""A room, whatever its transport: what the hub keeps connected."""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from satellite.config.rooms import RoomSettings
from satellite.engines.protocols import Transcription
from satellite.errors import DaemonUnreachable
from satellite.rooms.call import CallSide
from satellite.rooms.conversation import Conversation
from satellite.rooms.device import Capabilities, RoomModes
from satellite.rooms.playback import SharedSound, Sounding

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

    NO_KEY = "no-key"
    """Its encryption key is missing or wrong."""


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
    heard: bool = True
    """Whether announcements, calls and media are heard: by the room's own speaker, or elsewhere (`speaker`)."""

    muted: bool = False
    volume: float | None = None
    """From 0 to 1; None where nobody has set it."""

    listen_only: bool = False
    sounding: Sounding | None = None
    wake_words: Mapping[str, bool] = field(default_factory=dict)
    """Whether a device that detects wake words itself listens for them, by the names of those that it knows."""


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

    async def ask(self, question: SharedSound | None, *, language: str | None = None) -> Transcription:
        """Play a question, and return what was said to it; raises `SatelliteError`, see `Conversation.ask`."""

    async def play(self, media: SharedSound) -> None:
        """Play media, in place of other media; returns when it is over or was stopped."""

    async def join(self, side: CallSide) -> None:
        """Take part in a call until it is over."""

    async def start(self) -> None:
        """Listen to a command now, without a wake word."""

    async def stop(self) -> bool:
        """Silence all that sounds, and end a command or an answer; return whether there was anything."""

    async def set_muted(self, muted: bool) -> None:
        """Hear nothing any more, or again."""

    async def set_volume(self, volume: float) -> None:
        """Set how loud the room is, from 0 to 1."""

    async def set_listen_only(self, listen_only: bool) -> None:
        """Do commands without a sound from now on, or with them again."""

    def status(self) -> RoomStatus:
        """Return its present state."""


def is_heard(room: Room) -> bool:
    """Return whether what is played in a room, and is no answer, is heard, there or elsewhere."""
    return room.capabilities.sounds or room.settings.speaker is not None


def why_silent(room: Room) -> str:
    """Return why nothing `is_heard` in a room."""
    if not room.capabilities.speaker:
        return f"{room.settings.name} has no speaker"
    return f"the device in {room.settings.name} has no media player, and plays nothing but answers"


class BaseRoom(ABC):
    """What rooms of all transports have: their settings, whether they can be reached, and what can be done there.

    All of that raises `DaemonUnreachable` while the room is not connected.
    """

    capabilities = Capabilities()

    def __init__(self, settings: RoomSettings, uri: str, summary: str) -> None:
        """Begin as `CONNECTING`, which `summary` describes."""
        self.settings = settings
        self.state = LinkState.CONNECTING
        self.summary = summary
        self.since = time.monotonic()
        self.reconnections = 0
        """How often the room was reached again after it had gone."""

        self.modes = RoomModes()
        """What was set for the room, for each of its conversations."""

        self._uri = uri

    @property
    @abstractmethod
    def current(self) -> Conversation | None:
        """Return the conversation that is held there; None while the room is not connected."""

    @abstractmethod
    async def run(self) -> None:
        """Keep it connected, and hold conversations there, until cancelled."""

    def become(self, state: LinkState, summary: str, *, log: bool = True) -> None:
        """Change to a state, described by `summary` without the room's name.

        A change of the state is logged, a new summary is not.
        """
        changed = state is not self.state
        self.state, self.summary = state, summary
        if changed:
            self.since = time.monotonic()
        if changed and log:  # once for each change: a satellite that is switched off is dialled for days
            level = logging.INFO if state is LinkState.CONNECTED else logging.WARNING
            _LOGGER.log(level, "room %s: %s", self.settings.name, summary, extra={"room": self.settings.name})

    async def announce(self, sound: SharedSound) -> None:
        """See `Conversation.announce`."""
        await self._conversation.announce(sound)

    async def ask(self, question: SharedSound | None, *, language: str | None = None) -> Transcription:
        """See `Conversation.ask`."""
        return await self._conversation.ask(question, language=language)

    async def play(self, media: SharedSound) -> None:
        """See `Conversation.play`."""
        await self._conversation.play(media)

    async def join(self, side: CallSide) -> None:
        """See `Conversation.join`."""
        await self._conversation.join(side)

    async def start(self) -> None:
        """See `Conversation.start`."""
        await self._conversation.start()

    async def stop(self) -> bool:
        """See `Conversation.stop`."""
        return await self._conversation.stop()

    async def set_muted(self, muted: bool) -> None:
        """See `Conversation.set_muted`."""
        await self._conversation.set_muted(muted)

    async def set_volume(self, volume: float) -> None:
        """See `Conversation.set_volume`."""
        await self._conversation.set_volume(volume)

    async def set_listen_only(self, listen_only: bool) -> None:
        """See `Conversation.set_listen_only`."""
        await self._conversation.set_listen_only(listen_only)

    @property
    def _conversation(self) -> Conversation:
        if self.current is None:
            raise DaemonUnreachable(f"{self.settings.name}: {self.summary}", code="room-unreachable")
        return self.current

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
            heard=is_heard(self),
            muted=self.modes.muted,
            volume=self.modes.volume,
            listen_only=self.modes.listen_only,
            sounding=None if self.current is None else self.current.sounding,
        )

    def _details(self) -> str:
        return self.summary

    def _doing(self) -> str:
        return ""
