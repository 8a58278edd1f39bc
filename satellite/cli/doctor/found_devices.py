"""A check of the network: devices that could be rooms, and that no configuration names."""

from collections.abc import Iterable, Sequence

from satellite.cli.doctor import unit
from satellite.cli.doctor.findings import Finding, Target, note
from satellite.config.settings import Config
from satellite.rooms.candidates import addresses_of, room_of
from satellite.wire.browsing import FoundDevice, browse


async def _devices(target: Target) -> Sequence[Finding]:
    config = target.config
    if not config.zeroconf.enabled:
        return []
    return unnamed(config, await browse([port for port, _ in config.ports.values()]))


def unnamed(config: Config, found: Iterable[FoundDevice]) -> list[Finding]:
    """Return a note about those of the devices that no room of `config` names."""
    rooms = addresses_of(config.rooms)
    new = [f"{one.friendly_name or one.name} at {one.uri}" for one in found if room_of(one, rooms) is None]
    if not new:
        return []
    seen = f"{', '.join(new)}: found on the network, and no room of the configuration"
    return [note("devices", seen, unit.command("rooms adopt"))]


CHECKS = {"devices": _devices}
