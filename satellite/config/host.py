"""The settings of the host's own room: its microphone, its speaker, and serving both to Home Assistant."""

from typing import Any, Self

from pydantic import Field, model_validator

from satellite.config.base import DiskPath, Name, Port, Settings
from satellite.config.rooms import Place


class Sound(Settings):
    """Where sound comes from or goes to: a device, or a file or a program that stands for one; all null is off.

    A name alone, as in `microphone: USB`, is that of a device.
    """

    device: str | None = None
    """Part of a device's name, or its number, as `satellite rooms devices` lists them; `default` is the system's."""

    file: DiskPath | None = None
    """Sound file (.wav, .mp3, .ogg, ...), raw 16-bit mono audio, or a named pipe with it, in place of a device."""

    command: tuple[str, ...] = ()
    """Program with raw 16-bit mono audio at its standard output or input, in place of a device."""

    rate: int | None = Field(None, ge=4_000, le=192_000)
    """Samples a second of raw audio; null is 16000 of a microphone, 22050 of a speaker."""

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
        """Whether there is one."""
        return bool(self.device or self.file or self.command)

    @property
    def words(self) -> str:
        """What it is called in messages."""
        if self.command:
            return self.command[0]
        return str(self.file or self.device or "none")


class HostRoom(Place):
    """The host's own room, which there is once `microphone` is given."""

    name: Name = "host"
    """What people call the room; the chat model is told it."""


class HomeAssistantSatellite(Settings):
    """The host's own room as a satellite of Home Assistant: while that is connected, it drives the room."""

    enabled: bool = False
    """Serve it; `microphone` must be given."""

    port: Port = 10700
    """Port to add in Home Assistant, which also discovers it."""

    name: str | None = None
    """Name of the satellite in Home Assistant; null takes `host_room.name`."""

    area: str | None = None
    """Name of its area in Home Assistant; null takes `host_room.area`."""

    awake_wav: DiskPath | None = None
    """Sound file played when it begins to listen; meanwhile, and 0.5 s longer, the microphone is muted."""

    done_wav: DiskPath | None = None
    """Sound file played when the command has been understood."""
