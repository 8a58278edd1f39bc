"""A room, whatever its transport: what the hub keeps connected, and what a conversation needs of the device in it."""

import logging
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from satellite.config.rooms import RoomSettings
from satellite.engines.protocols import VoiceChoice
from satellite.errors import Stage
from satellite.events import RunBus, RunEvent
from satellite.pipeline.request import RunRequest
from satellite.pipeline.stages import Stages
from satellite.rooms.arbitration import Arbiter
from satellite.rooms.playback import SharedSound, SoundOutput
from satellite.skills.timers.scheduler import TimerScheduler
from satellite.skills.timers.timers import TimerEvent

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RoomContext:
    """The parts of the daemon that all rooms share."""

    stages: Stages
    bus: RunBus
    arbiter: Arbiter
    scheduler: TimerScheduler | None = None
    """The timers, which ring in the rooms where they were set; None disables them."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a room can do beside hearing."""

    speaker: bool = True
    """It plays answers, announcements and rings. Without one, a run ends with the text of the answer."""

    timers: bool = False
    """It shows timers."""

    speech_interrupts: bool = False
    """Any speech during an answer is the next command, since the microphone does not hear the answer (the echo is
    cancelled). Otherwise only the wake word interrupts, or a word such as "stop"."""


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
    ERROR = "error"
    """The latest run has failed; until the next one begins."""

    MUTED = "muted"
    """Its microphone is off. Only the room itself knows: to a conversation it is silent."""


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


class Device(Protocol):
    """The microphone, the speaker and the display of a room while a conversation is held there.

    The device hands the conversation its microphone's audio (`Conversation.hear`), says when a run begins
    (`Conversation.begin`), because of a button or a wake word of its own or because it streams all the time, and when
    its audio is over (`Conversation.end_audio`). What comes back is here.
    """

    @property
    def capabilities(self) -> Capabilities:
        """Return what it can do."""

    @property
    def output(self) -> SoundOutput:
        """Return where sound goes."""

    async def show(self, step: RunEvent, activity: Activity) -> None:
        """Show a step of a run, such as the transcript or an error, and what the room is doing from now on."""

    async def show_timer(self, event: TimerEvent) -> None:
        """Show what has happened to a timer of the room; it rings by `output`."""

    async def interrupted(self, wake_word: str | None) -> None:
        """An answer was interrupted: the next command follows at once, in the same audio."""

    async def stop_listening(self) -> None:
        """The run is over, whether or not a step has said so: close the microphone until the next one begins."""

    def fail(self) -> None:
        """The conversation cannot go on: connect the device again."""


def room_request(room: RoomSettings, start: Stage, end: Stage) -> RunRequest:
    """Return the run from `start` to `end` in a room."""
    return RunRequest(
        room=room.name,
        named_room=room.name,
        start=start,
        end=end,
        wake_words=room.wake_words,
        language=room.language,
        persona=room.persona,
        voice=VoiceChoice(room.voice, room.language),
    )
