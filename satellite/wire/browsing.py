"""Devices for rooms that announce themselves on the network: Wyoming satellites and ESPHome devices."""

import asyncio
import socket
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum

from zeroconf import InterfaceChoice, IPVersion, ServiceStateChange
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from satellite.errors import SatelliteError, shown
from satellite.net.binding import host_and_port
from satellite.net.link_local import is_link_local
from satellite.wire.discovery import interfaces, multicast_version

_BROWSE_SECONDS = 3.0
_DETAILS_MS = 1000


class DeviceKind(StrEnum):
    """The protocol that a device speaks; the value is its name for people."""

    WYOMING = "Wyoming"
    ESPHOME = "ESPHome"


_TYPES = {"_wyoming._tcp.local.": DeviceKind.WYOMING, "_esphomelib._tcp.local.": DeviceKind.ESPHOME}
_SCHEMES = {DeviceKind.WYOMING: "tcp", DeviceKind.ESPHOME: "esphome"}


@dataclass(frozen=True, slots=True)
class FoundDevice:
    """A device as it announces itself; nothing of it is proven."""

    kind: DeviceKind
    name: str
    """Its name on the network, fit for messages."""

    addresses: tuple[str, ...]
    """Its IP addresses, at least one."""

    port: int
    mac: str = ""
    """Twelve hexadecimal digits, of an ESPHome device."""

    friendly_name: str = ""
    project: str = ""
    """What it is, such as `esphome.voice-pe`."""

    is_program: bool = False
    """Whether it says that it is a program on a computer, as linux-voice-assistant does."""

    @property
    def uri(self) -> str:
        """Return its address as a room's `uri`."""
        return device_uri(self.kind, self.addresses[0], self.port)

    def called(self, name: str, friendly_name: str = "") -> "FoundDevice":
        """Return it under the names that it gives itself, where so far only its address was known."""
        if not name or self.name not in self.addresses:
            return self
        return replace(self, name=shown(name), friendly_name=shown(friendly_name))


def device_uri(kind: DeviceKind, host: str, port: int) -> str:
    """Return the address of a device as a room's `uri`."""
    return f"{_SCHEMES[kind]}://{host_and_port(host, port)}"


async def browse(
    own_ports: Collection[int] = (),
    seconds: float = _BROWSE_SECONDS,
    through: Sequence[str] | InterfaceChoice = InterfaceChoice.All,
) -> list[FoundDevice]:
    """Return the devices that are announced within `seconds` on the interfaces `through`, sorted by name.

    Wyoming services at `own_ports` of this machine are left out: they are the daemon itself. Raises `SatelliteError`
    (`no-network`) where they cannot be looked for.
    """
    found: set[tuple[str, str]] = set()

    def note(zeroconf: object, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if state_change is ServiceStateChange.Added:
            found.add((service_type, name))

    present = await asyncio.to_thread(interfaces)
    version = multicast_version(present) if through is InterfaceChoice.All else IPVersion.V4Only
    try:
        network = AsyncZeroconf(interfaces=through, ip_version=version)
    except RuntimeError as error:  # there is no interface
        raise SatelliteError("this machine has no network to find devices in", code="no-network") from error
    except OSError as error:
        raise SatelliteError(f"devices cannot be looked for: {error}", code="no-network") from error
    try:
        browser = AsyncServiceBrowser(network.zeroconf, list(_TYPES), handlers=[note])
        await asyncio.sleep(seconds)
        await browser.async_cancel()
        infos = [AsyncServiceInfo(*one) for one in sorted(found)]
        await asyncio.gather(*(info.async_request(network.zeroconf, _DETAILS_MS) for info in infos))
    finally:
        await network.async_close()
    here = {one.address for one in present}
    devices = [_device(info) for info in infos if info.port and _addresses(info)]
    return sorted(
        (
            device
            for device in devices
            if device.kind is not DeviceKind.WYOMING or device.port not in own_ports or not here & set(device.addresses)
        ),
        key=lambda device: device.name,
    )


def _device(info: AsyncServiceInfo) -> FoundDevice:
    assert info.port
    return FoundDevice(
        kind=_TYPES[info.type],
        name=shown(info.name.removesuffix(f".{info.type}")),
        addresses=_addresses(info),
        port=info.port,
        mac=_text(info, b"mac").lower(),
        friendly_name=_text(info, b"friendly_name"),
        project=_text(info, b"project_name"),
        is_program=_text(info, b"platform").upper() == "HOST",
    )


def _addresses(info: AsyncServiceInfo) -> tuple[str, ...]:
    """Return its addresses, link-local ones, with the name of their interface, last."""
    found = []
    for address in info.parsed_scoped_addresses():
        host, _, index = address.partition("%")
        with suppress(OSError):  # the interface has gone
            found.append(f"{host}%{socket.if_indextoname(int(index))}" if index.isdecimal() else address)
    return tuple(sorted(found, key=is_link_local))


def _text(info: AsyncServiceInfo, key: bytes) -> str:
    return shown((info.properties.get(key) or b"").decode("utf-8", "replace"))
