"""The settings of the rooms: the satellites that the daemon connects to, and how it converses there."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import Discriminator, Field, Tag, model_validator

from satellite.config.base import (
    DiskPath,
    EsphomeUri,
    Host,
    Language,
    MacAddress,
    MediaUrl,
    Name,
    Port,
    Seconds,
    Settings,
    WyomingUri,
)

_ESPHOME_PORT = 6053


class SpeakerSettings(Settings):
    """Where the sound of a room is heard in place of its own speaker: one of `room` and `entity`."""

    room: Name | None = None
    """Another room, where it is an announcement: it waits while somebody speaks there."""

    entity: str | None = Field(None, pattern=r"^media_player\.[a-z0-9_]+$")
    """A media player of Home Assistant, such as media_player.kitchen; needs `home_assistant.url`."""

    media_host: Host | None = None
    """Address of this machine at which the player fetches sound; null is that by which Home Assistant is reached."""

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.room is None) is (self.entity is None):
            raise ValueError("expected either room or entity")
        return self


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

    speaker: SpeakerSettings | None = None
    """Where sound is heard: {room: NAME} or {entity: media_player.NAME}; null is the room's own speaker."""

    lead_in_seconds: float = Field(0, ge=0, le=3)
    """Silence before sound after 5 s without any, in seconds, for a speaker that wakes up slowly (Bluetooth, HDMI)."""

    sounds: bool = False
    """Play a short sound when the room listens, when the command is over, and when nothing was understood."""

    follow_up: Literal["questions", "always", "never"] = "questions"
    """Listen again without the wake word: after an answer that is a question, after every answer, or never."""


class WyomingRoomSettings(RoomSettings):
    """A Wyoming satellite that the daemon connects to."""

    scheme: ClassVar = "tcp"

    uri: WyomingUri
    """Address of the satellite, such as tcp://192.168.1.20:10700."""


class EsphomeRoomSettings(RoomSettings):
    """A device that speaks ESPHome's native API: Voice PE, Satellite1, ReSpeaker, linux-voice-assistant."""

    scheme: ClassVar = "esphome"

    uri: EsphomeUri
    """Address of the device, such as esphome://192.168.1.30, with :PORT where that is not 6053."""

    key_file: DiskPath | None = None
    """File with the device's encryption key, 44 characters, as in its YAML (`api: {encryption: {key: …}}`).

    Without it, systemd's credential esphome.NAME.key, where NAME is that of the room. A device that does not encrypt
    has no key.
    """

    mac: MacAddress | None = None
    """MAC address of a device that dials the daemon, at `hub.incoming_port`, when it is not dialled; it needs a key.

    It learns where from the first connection that is made to it (`api: {outgoing_connection: {}}` in its YAML).
    """

    wake_words: tuple[str, ...] | None = None
    """Wake words that the device listens for, of its own ones or of `wake.custom_directory`; null leaves its choice.

    An empty list says that it has none, such as one that begins by a button.
    """

    media_host: Host | None = None
    """Address of this machine at which the device fetches sound; null is that of the connection to the device."""

    microphone_channel: Literal[1, 2] = 1
    """Channel that is listened to, of a device that sends two; the second one is mostly without echo cancellation."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the device."""
        parts = urlsplit(self.uri)
        assert parts.hostname is not None
        return parts.hostname.replace("%25", "%"), parts.port or _ESPHOME_PORT  # as URLs write the interface


class BrowserRoomSettings(RoomSettings):
    """A browser that calls itself by this name on the page `/room`; those that are not named here get the defaults."""

    scheme: ClassVar = "browser"

    uri: Literal["browser:"] = "browser:"
    """`browser:`, since it connects by itself."""

    interrupt_by: Literal["speech", "wake_word"] = "speech"
    """What interrupts an answer: any speech, or the wake word and "stop" alone, as where a television is on."""


def _scheme(room: object) -> str:
    """Return the scheme of a room's address, which says what kind of room it is; that of Wyoming where it is wrong."""
    uri = room.get("uri") if isinstance(room, Mapping) else getattr(room, "uri", None)
    scheme = uri.partition(":")[0] if isinstance(uri, str) else ""
    return scheme if scheme in (EsphomeRoomSettings.scheme, BrowserRoomSettings.scheme) else WyomingRoomSettings.scheme


DialledRoomSettings = WyomingRoomSettings | EsphomeRoomSettings

RoomEntry = Annotated[
    Annotated[WyomingRoomSettings, Tag("tcp")]
    | Annotated[EsphomeRoomSettings, Tag("esphome")]
    | Annotated[BrowserRoomSettings, Tag("browser")],
    Discriminator(_scheme),
]
"""An entry of `rooms`; its kind is chosen by the scheme of its `uri`."""


class HubSettings(Settings):
    """Conversations with the rooms."""

    send_ahead_seconds: float = Field(0.5, ge=0.1, le=10)
    """How far sound is sent ahead of playback, in seconds."""

    follow_up_seconds: Seconds = 6.0
    """Time to wait for a follow-up without the wake word, in seconds."""

    media_port: int = Field(0, ge=0, le=65535)
    """Port at which ESPHome devices fetch sound from this machine; 0 is any free one, for which no firewall is open."""

    incoming_port: Port = 6054
    """Port at which ESPHome devices dial the daemon; it is open while a room has a `mac`. Firmware knows only 6054."""

    arbitration_seconds: float = Field(0.3, ge=0, le=2)
    """Time within which rooms that hear the same wake word compete, in seconds; the one that hears it best answers.

    Those that hear it later, but within 0.7 s, stand down. 0 lets every room answer.
    """

    call_seconds: float = Field(900.0, ge=10, le=86_400)
    """Longest duration of a call between two rooms, in seconds."""

    media_directory: DiskPath | None = None
    """Folder of the sound files that rooms play by name, such as doorbell.mp3; null plays no files."""

    stations: dict[Name, MediaUrl] = Field(default_factory=dict, max_length=500)
    """Radio stations and other streams by the names that people say, such as {jazz: "https://radio.example/jazz.mp3"}."""

    broadcast: Literal["voice", "recording"] = "voice"
    """Whose voice is heard where a room is told something: the daemon's, or that of the person who said it."""

    announcement_sound: str | None = None
    """File in `media_directory` that is played before announcements in place of the chime; an empty text plays none."""
