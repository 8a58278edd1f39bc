"""The settings of the host's own room: its microphone, its speaker, and serving both to Home Assistant."""

from typing import Any, Self

from pydantic import ConfigDict, Field, model_validator

from satellite.config.base import DiskPath, Name, Port, Settings
from satellite.config.rooms import RoomSettings


def _or_a_name(schema: dict[str, Any]) -> None:
    """Let a JSON schema of `SoundDeviceSettings` take the name or number of a device alone."""
    section = schema.copy()
    schema.clear()
    schema |= {"anyOf": [section, {"type": ["string", "integer", "null"]}]}


class SoundDeviceSettings(Settings):
    """Source or destination of sound: a device, or a file or program in place of one; all null is off.

    A string alone, as in `microphone: USB`, is the name of a device.
    """

    model_config = ConfigDict(json_schema_extra=_or_a_name)

    device: str | None = None
    """Part of the device's name, or its number (`satellite rooms devices`); `default` is the system default."""

    file: DiskPath | None = None
    """File or named pipe in place of a device: raw 16-bit mono audio or a sound file; a speaker writes raw or WAV."""

    command: tuple[str, ...] = ()
    """Program in place of a device, with raw 16-bit mono audio on its standard output or input."""

    rate: int | None = Field(None, ge=4_000, le=192_000)
    """Sample rate of raw audio, in Hz; null is 16000 for a microphone, 22050 for a speaker."""

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        """Take a bare name or number for a device's, and nothing for none."""
        if value is None:
            return {}
        if isinstance(value, str | int) and not isinstance(value, bool):
            return {"device": str(value)}
        if isinstance(value, dict) and type(value.get("device")) is int:
            return {**value, "device": str(value["device"])}
        return value

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if sum(bool(way) for way in (self.device, self.file, self.command)) > 1:
            raise ValueError("expected one of device, file and command")
        return self

    @property
    def given(self) -> bool:
        """Whether a device, a file or a program is set."""
        return bool(self.device or self.file or self.command)

    @property
    def label(self) -> str:
        """Its name in messages."""
        if self.command:
            return self.command[0]
        return str(self.file or self.device or "none")


class HostRoomSettings(RoomSettings):
    """The host's own room, which exists if `microphone` is set."""

    name: Name = "host"
    """Name of the room, which the chat model also receives."""


class HomeAssistantSatelliteSettings(Settings):
    """The host's own room as a satellite of Home Assistant, which controls the room while it is connected."""

    enabled: bool = False
    """Serve it; needs `microphone`."""

    port: Port = 10700
    """Port to add in Home Assistant, which also discovers it by zeroconf."""

    name: str | None = None
    """Name of the satellite in Home Assistant; null takes `host_room.name`."""

    area: str | None = None
    """Name of its area in Home Assistant; null takes `host_room.area`."""

    awake_wav: DiskPath | None = None
    """Sound file played when it begins to listen; the microphone is muted until 0.5 s after it."""

    done_wav: DiskPath | None = None
    """Sound file played when the command has been transcribed."""
