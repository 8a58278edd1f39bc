"""The device of a room, as a conversation sees it: what it can do, where sound goes, and what is shown."""

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
from satellite.rooms.elsewhere import Speakers
from satellite.rooms.media import MediaServer
from satellite.rooms.playback import SoundOutput
from satellite.skills.timers.scheduler import TimerScheduler
from satellite.skills.timers.timers import TimerEvent


@dataclass(frozen=True, slots=True)
class RoomContext:
    """The parts of the daemon that all rooms share."""

    stages: Stages
    bus: RunBus
    arbiter: Arbiter
    scheduler: TimerScheduler | None = None
    """The timers, which ring in the rooms where they were set; None disables them."""

    media: MediaServer | None = None
    """Where devices fetch sound that they are given an address of; None where no device does."""

    speakers: Speakers | None = None
    """Where rooms are heard that do not use their own speakers; None where none is."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a room can do beside hearing."""

    speaker: bool = True
    """It plays answers, announcements and rings. Without one, a run ends with the text of the answer."""

    announces: bool = True
    """What it plays may belong to no answer: announcements, questions, rings, calls, media."""

    timers: bool = False
    """It shows timers."""

    rings: bool = False
    """It rings by itself for timers that have ended, with a sound of its own."""

    speech_interrupts: bool = False
    """Any speech during an answer is the next command, since the microphone does not hear the answer (the echo is
    cancelled). Otherwise only the wake word interrupts, or a word such as "stop"."""

    cancels_echo: bool = False
    """Its microphone does not hear its loudspeaker, so that neither does who is called."""

    listens_again: bool = False
    """It opens its microphone by itself after an answer that asks something."""

    @property
    def sounds(self) -> bool:
        """Whether it plays what belongs to no answer."""
        return self.speaker and self.announces


@dataclass(slots=True)
class RoomModes:
    """What was set for a room; it outlives the connection to its device."""

    muted: bool = False
    """Whether nothing is heard there."""

    volume: float | None = None
    """From 0 to 1; None leaves it as it is."""

    listen_only: bool = False
    """Whether commands are done there, and nothing sounds."""


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

    @property
    def media_output(self) -> SoundOutput | None:
        """Return where media goes if the device itself mixes it with what is said; None has it mixed here."""

    async def show(self, step: RunEvent, activity: Activity) -> None:
        """Show a step of a run, such as the transcript or an error, and what the room is doing from now on."""

    async def show_timer(self, event: TimerEvent) -> None:
        """Show what has happened to a timer of the room; it rings by `output`."""

    async def interrupted(self, wake_word: str | None) -> None:
        """An answer was interrupted: the next command follows at once, in the same audio."""

    async def stop_listening(self) -> None:
        """The run is over, whether or not a step has said so: close the microphone until the next one begins."""

    async def open_microphone(self) -> None:
        """Begin to stream without a wake word, and say so by `Conversation.begin`, as after a button.

        One that streams all the time does nothing. Raises `SatelliteError` (`room-cannot-start`) where that is
        impossible.
        """

    async def set_muted(self, muted: bool) -> None:
        """Show that nothing is heard any more, or again, and mute the microphone itself where that can be.

        What it still sends is ignored.
        """

    async def set_volume(self, volume: float) -> bool:
        """Set the loudness, from 0 to 1; return False for a device without one, whose sound is scaled instead."""

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
