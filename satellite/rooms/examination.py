"""Asks devices on the network whether they can become rooms."""

import asyncio
from collections.abc import Iterable, Sequence

from satellite.errors import SatelliteError
from satellite.rooms.candidates import Candidate, CandidateState, named_in
from satellite.rooms.esphome.provisioning import examine_esphome
from satellite.wire import client
from satellite.wire.browsing import DeviceKind, FoundDevice

_DESCRIBE_SECONDS = 5.0


async def examine(devices: Sequence[FoundDevice], uris: Iterable[str], keys: Sequence[str]) -> list[Candidate]:
    """Return the state of each of the `devices`, in order; those that `uris` names are not disturbed.

    `keys` are keys in base64 that an ESPHome device may have.
    """
    uris = list(uris)

    async def one(device: FoundDevice) -> Candidate:
        if named_in(uris, device):
            return Candidate(device, CandidateState.OURS, "is a room already: satellite rooms")
        if device.kind is DeviceKind.WYOMING:
            return await _examine_wyoming(device)
        return await examine_esphome(device, keys)

    return await asyncio.gather(*map(one, devices))


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
    return Candidate(device, CandidateState.FREE, f"answers as {info.satellite.name}")
