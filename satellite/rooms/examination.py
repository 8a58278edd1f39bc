"""Asks devices on the network whether they can become rooms."""

import asyncio
import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from satellite.errors import SatelliteError, shown
from satellite.rooms.candidates import Candidate, CandidateState, room_of
from satellite.rooms.esphome.provisioning import examine_esphome
from satellite.wire import client
from satellite.wire.browsing import DeviceKind, FoundDevice
from satellite.wire.discovery import is_ip

_DESCRIBE_SECONDS = 5.0
_RESOLVE_SECONDS = 2.0

_UNASKED = (
    "is a program such as linux-voice-assistant, which belongs to the latest client, so that it was not asked: "
    "satellite rooms adopt takes it from Home Assistant, if that has it, where it is chosen or named by --address"
)


async def examine(devices: Sequence[FoundDevice], rooms: Mapping[str, str], keys: Sequence[str]) -> list[Candidate]:
    """Return the state of each of the `devices`, in order; those of `rooms`, and programs, are not disturbed.

    `rooms` are those of `addresses_of`, `keys` keys in base64 that an ESPHome device may have. A device that is known
    by its address alone gets the name that it gives itself.
    """
    known = await _with_addresses(rooms)

    async def one(device: FoundDevice) -> Candidate:
        # A connection to a room that is in use would make linux-voice-assistant deaf to the server that it has.
        everywhere = replace(device, addresses=(*device.addresses, *await _addresses(device.addresses[0])))
        if (room := room_of(everywhere, known)) is not None:
            return Candidate(device, CandidateState.OURS, f"is the room {room} already: satellite rooms")
        if device.kind is DeviceKind.WYOMING:
            return await _examine_wyoming(device)
        if device.is_program:
            return Candidate(device, CandidateState.UNKNOWN, _UNASKED)
        return await examine_esphome(device, keys)

    return await asyncio.gather(*map(one, devices))


async def _with_addresses(rooms: Mapping[str, str]) -> dict[str, str]:
    """Return `rooms`, and beside those with a host's name the same ones with its addresses."""
    found = dict(rooms)
    parts = [(one, name) for one, name in ((urlsplit(uri), name) for uri, name in rooms.items()) if one.hostname]
    resolved = await asyncio.gather(*(_addresses(one.hostname or "") for one, _ in parts))
    for (one, name), addresses in zip(parts, resolved, strict=True):
        port = "" if one.port is None else f":{one.port}"
        hosts = [f"[{address}]" if ":" in address else address for address in addresses]
        found |= {f"{one.scheme}://{host}{port}": name for host in hosts}
    return found


async def _addresses(host: str) -> list[str]:
    """Return the IP addresses that a host's name stands for, as far as they are known within a moment."""
    if is_ip(host):
        return []
    try:
        async with asyncio.timeout(_RESOLVE_SECONDS):
            found = await asyncio.get_running_loop().getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError):
        return []
    return [str(address[0]) for *_, address in found]


async def _examine_wyoming(device: FoundDevice) -> Candidate:
    """Return whether a Wyoming server is a satellite; it is only asked to describe itself, which claims nothing."""
    try:
        async with asyncio.timeout(_DESCRIBE_SECONDS):
            info = await client.described(device.uri)
    except (SatelliteError, ConnectionError, TimeoutError) as error:
        reason = str(error) or f"{device.uri} does not describe itself within {_DESCRIBE_SECONDS:g} s"
        return Candidate(device, CandidateState.OFF, f"{reason}; is it switched on?")
    if info.satellite is None:
        return Candidate(device, CandidateState.NO_SATELLITE, "is a Wyoming server, but not a satellite")
    name = info.satellite.name
    return Candidate(device.called(name), CandidateState.FREE, f"answers as {shown(name)}")
