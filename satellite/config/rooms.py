"""The settings of the rooms: the satellites that the daemon dials, and how it talks with them."""

from typing import Literal

from pydantic import Field

from satellite.config.base import Language, Name, Seconds, Settings, WyomingUri


class Place(Settings):
    """How the daemon talks in a room."""

    name: Name
    """What people call the room; the chat model is told it."""

    area: str | None = None
    """Home Assistant's name of the area, where it is another one."""

    wake_words: tuple[str, ...] | None = None
    """Wake words of a satellite that streams all the time; null takes those of `wake.words`."""

    voice: str | None = None
    """Voice of the answers; null is the default one."""

    language: Language = None
    """Language spoken here, such as en; null takes that of `stt.language`."""

    persona: str | None = None
    """What the chat model is told first in this room; null takes `chat.system_prompt`."""

    follow_up: Literal["questions", "always", "never"] = "questions"
    """Listen again without the wake word: after an answer that asks something, after each, or never."""


class Room(Place):
    """A Wyoming satellite that the daemon dials."""

    uri: WyomingUri
    """Where the satellite listens, such as tcp://192.168.1.20:10700."""


class Hub(Settings):
    """How the daemon talks with the rooms."""

    lead_seconds: float = Field(0.5, ge=0.1, le=10)
    """How far ahead of what is being heard sound is sent, seconds."""

    follow_up_seconds: Seconds = 6.0
    """How long it listens for an answer without the wake word, seconds."""

    arbitration_seconds: float = Field(0.3, ge=0, le=2)
    """Rooms that hear the same wake word within this time are one call: the one that hears it best answers."""
