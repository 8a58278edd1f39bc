"""The settings of the rooms: the satellites that the daemon connects to, and how it converses there."""

from typing import Literal

from pydantic import Field

from satellite.config.base import DiskPath, Language, MediaUrl, Name, Seconds, Settings, WyomingUri


class RoomSettings(Settings):
    """How the daemon converses in a room."""

    name: Name
    """Name of the room, which the chat model also receives."""

    area: str | None = None
    """Name of the area in Home Assistant; null is the name of the room."""

    wake_words: tuple[str, ...] | None = None
    """Wake words of a satellite that streams continuously; null takes `wake.words`."""

    voice: str | None = None
    """Voice of the answers; null takes `tts.voice`. Answers in another of `languages` have a voice that speaks it."""

    language: Language = None
    """Language spoken in the room, such as en; null takes `languages` or `stt.language`."""

    persona: str | None = None
    """System prompt for this room; null takes `chat.system_prompt`."""

    lead_in_seconds: float = Field(0, ge=0, le=3)
    """Silence before sound after 5 s without any, in seconds, for a speaker that wakes up slowly (Bluetooth, HDMI)."""

    sounds: bool = False
    """Play a short sound when the room listens, when the command is over, and when nothing was understood."""

    follow_up: Literal["questions", "always", "never"] = "questions"
    """Listen again without the wake word: after an answer that is a question, after every answer, or never."""


class WyomingRoomSettings(RoomSettings):
    """A Wyoming satellite that the daemon connects to."""

    uri: WyomingUri
    """Address of the satellite, such as tcp://192.168.1.20:10700."""


class HubSettings(Settings):
    """Conversations with the rooms."""

    send_ahead_seconds: float = Field(0.5, ge=0.1, le=10)
    """How far sound is sent ahead of playback, in seconds."""

    follow_up_seconds: Seconds = 6.0
    """Time to wait for a follow-up without the wake word, in seconds."""

    arbitration_seconds: float = Field(0.3, ge=0, le=2)
    """Time within which rooms that hear the same wake word compete, in seconds; the one that hears it best answers."""

    media_directory: DiskPath | None = None
    """Folder of the sound files that rooms play by name, such as doorbell.mp3; null plays no files."""

    stations: dict[Name, MediaUrl] = Field(default_factory=dict, max_length=500)
    """Radio stations and other streams by the names that people say, such as {jazz: "https://radio.example/jazz.mp3"}."""

    announcement_sound: str | None = None
    """File in `media_directory` that is played before announcements in place of the chime; an empty text plays none."""
