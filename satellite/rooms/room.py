"""A room, however it is reached: what the daemon keeps going, and what a conversation needs of the device in it."""

import logging
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from satellite.audio.pcm import AudioFormat
from satellite.config.rooms import RoomSettings
from satellite.events import RunEvent
from satellite.rooms.playback import Making, SoundOutput

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


class Activity(StrEnum):
    """What a room is doing, for its device to show and for the status."""

    IDLE = "idle"
    WAITING = "waiting for the wake word"
    LISTENING = "listening"
    THINKING = "thinking"
    SPEAKING = "speaking"


@dataclass(frozen=True, slots=True)
class RoomStatus:
    """The state of one room."""

    room: str
    uri: str
    area: str | None
    state: LinkState
    words: str
    """The state as a sentence."""

    doing: str
    """An `Activity`, or which other program drives the room; empty while it is not connected."""

    since_seconds: float
    """How long it has been in `state`."""

    reconnections: int


class Reachability:
    """Whether a room can be reached, with each change of it logged once: the base of a `Room`."""

    def __init__(self, room: RoomSettings, words: str) -> None:
        """Begin with `words` for the time until the room was reached, or could not be."""
        self.room = room
        self.state = LinkState.CONNECTING
        self.words = words
        self.since = time.monotonic()
        self.reconnections = 0
        """How often the room was reached again after it had gone."""

    def become(self, state: LinkState, words: str) -> None:
        """Change to a state, described by `words`."""
        known = state is self.state
        self.state, self.words = state, words
        if not known:
            self.since = time.monotonic()
            level = logging.INFO if state is LinkState.CONNECTED else logging.WARNING
            _LOGGER.log(level, "room %s", words, extra={"room": self.room.name})


class Room(Protocol):
    """A room that the hub keeps going."""

    @property
    def room(self) -> RoomSettings:
        """Return what is configured for it."""

    async def run(self) -> None:
        """Keep it going until cancelled."""

    async def announce(self, source: AudioFormat, pcm: bytes, more: Making | None = None) -> None:
        """Play `pcm` in the room, then `more`. Raises `SatelliteError` when that cannot be."""

    def status(self) -> RoomStatus:
        """Return its present state."""


class Device(Protocol):
    """The microphone, the speaker and the display of a room while a conversation is held there.

    The device hands the conversation its microphone's audio (`Conversation.hear`), says when a run begins
    (`Conversation.begin`), because of a button or a wake word of its own or because it streams all the time, and when
    its audio is over (`Conversation.end_audio`). What comes back is here.
    """

    @property
    def output(self) -> SoundOutput:
        """Return where sound goes, at the pace at which it is heard."""

    @property
    def interrupted_by_speech(self) -> bool:
        """Return whether any speech during an answer is the next command, as where the speaker's echo is cancelled.

        Otherwise only the wake word interrupts, or a word such as "stop".
        """

    async def show(self, step: RunEvent, activity: Activity) -> None:
        """Show a step of a run, such as the transcript or an error, and what the room is doing from now on."""

    async def interrupted(self, wake_word: str | None) -> None:
        """Somebody has interrupted an answer: the next command follows at once, in the same audio."""

    async def stop_listening(self) -> None:
        """The run is over, whether or not a step has said so: close the microphone until the next one begins."""

    def called(self) -> None:
        """Somebody has begun to speak with the room: what rings there is to be silent."""

    def fail(self) -> None:
        """The conversation cannot go on; its device is to be connected again."""
