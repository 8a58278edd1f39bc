"""Devices on the network that may become rooms, and what keeps one from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit

from satellite.config.rooms import EsphomeRoomSettings, RoomEntry
from satellite.wire.browsing import FoundDevice


class CandidateState(StrEnum):
    """Whether a device can become a room."""

    FREE = "free"
    NO_KEY = "no-key"
    """It is free and takes a key, which it does not have yet."""

    LOCKED = "locked"
    """It has a key that is not known here."""

    HELD = "held"
    """Another server has it."""

    UNKNOWN = "unknown"
    """A connection would take it from the server that it may have, so that it was not asked."""

    OURS = "ours"
    """The configuration names it already."""

    NO_SATELLITE = "no-satellite"
    """It is not made for conversations."""

    OFF = "off"


ADOPTABLE = (CandidateState.FREE, CandidateState.NO_KEY)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A device and whether it can become a room."""

    device: FoundDevice
    state: CandidateState
    message: str
    """The state as a sentence, with what to do where it is not free."""

    key: str = field(default="", repr=False)
    """The key, in base64, with which it was reached; empty where that took none."""

    has_wake_words: bool = True
    """Whether the device listens for wake words itself, as far as it says so."""

    dials_as: str = ""
    """The MAC address of a device that dials its server; empty of others."""


def addresses_of(rooms: Sequence[RoomEntry]) -> dict[str, str]:
    """Return the names of `rooms` by what names their devices: the `uri`, and the `mac` of those that dial."""
    dialling = [room for room in rooms if isinstance(room, EsphomeRoomSettings) and room.mac]
    return {room.uri: room.name for room in rooms} | {f"esphome:{room.mac}": room.name for room in dialling}


def room_of(device: FoundDevice, rooms: Mapping[str, str]) -> str | None:
    """Return the name of the room whose device it is; `rooms` are those of `addresses_of`."""
    known = {device.mac, *device.addresses, device.name.lower(), f"{device.name.lower()}.local"} - {""}
    for uri, name in rooms.items():
        parts = urlsplit(uri)
        host = (parts.hostname or parts.path).lower().removesuffix(".")
        same_port = device.uri.startswith(f"{parts.scheme}:") and (parts.port or device.port) == device.port
        if same_port and (host in known or host.replace(":", "").replace("-", "") in known):
            return name
    return None
