"""Announcing the daemon by zeroconf, so that Home Assistant offers it without anyone typing an address.

`wyoming.zeroconf` announces one IPv4 address, 0.0.0.0 when the server listens everywhere (which Home Assistant
drops), under the MAC as its name, and never takes it back. Here: the interfaces' own addresses as they come, change and
go, a name that lasts and is this daemon's alone, and a goodbye at the end.
"""

import asyncio
import hashlib
import ipaddress
import logging
import re
import socket
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ifaddr
from zeroconf import Error as ZeroconfError
from zeroconf import InterfaceChoice, IPVersion, ServiceInfo
from zeroconf.asyncio import AsyncZeroconf

from satellite.net.binding import EVERYWHERE

_LOGGER = logging.getLogger(__name__)

_TYPE = "_wyoming._tcp.local."
_MACHINE_ID = Path("/etc/machine-id")
_HOST_NAME = re.compile(r"[A-Za-z0-9-]+")

_CHECK_SECONDS = 10.0
"""How often the machine's addresses are checked."""

_VIRTUAL_INTERFACES = re.compile(
    r"lo\d*$|docker|br-|veth|virbr|vnet|vmnet|vboxnet|lxc|lxd|incus|podman|cni|flannel|cali|cilium|kube|nodelocaldns"
    r"|tun|tap|wg|utun|ppp|ipsec|vti|gre|sit\d|tailscale|zt|nordlynx|proton|mullvad|dummy"
)
"""Loopback, containers, virtual machines and tunnels: no other machine of the house reaches the daemon there."""


@dataclass(frozen=True, slots=True)
class Interface:
    """One address of a network interface."""

    name: str
    address: str


@dataclass(frozen=True, slots=True)
class AnnouncedAddresses:
    """The addresses of the daemon at one moment."""

    addresses: tuple[str, ...]
    """The addresses to announce."""

    through: tuple[str, ...]
    """This machine's IPv4 addresses of the interfaces to announce on; when empty, all with IPv6."""


def identity(directory: Path, machine_id: Path = _MACHINE_ID) -> str:
    """Return a permanent identity of this machine; where systemd has none, it is created and kept in `directory`.

    The machine's ID is confidential (machine-id(5)): only a hash of it may leave the machine. In images of systems and
    containers it is missing or empty.
    """
    try:
        if re.fullmatch(r"[0-9a-f]{32}", machine := machine_id.read_text(encoding="ascii").strip()):
            return machine
    except (OSError, ValueError):
        pass  # use a file of our own
    file = directory / "identity"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not (file.exists() and file.read_text(encoding="ascii").strip()):
            file.write_text(f"{uuid.uuid4().hex}\n", encoding="ascii")
        return file.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        _LOGGER.warning(
            "the name announced by zeroconf may change with the network card: cannot write %s: %s", file, error
        )
        return f"{uuid.getnode():012x} {socket.gethostname()}"


def default_name(port: int, machine: str) -> str:
    """Return a permanent name that is unique to a machine, by its `identity`, and a port."""
    return f"satellite-{hashlib.sha256(f'satellite {machine} {port}'.encode()).hexdigest()[:12]}"


def interfaces() -> list[Interface]:
    """Return all current addresses of this machine; blocks."""
    return [
        Interface(adapter.name, ip.ip if isinstance(ip.ip, str) else ip.ip[0])
        for adapter in ifaddr.get_adapters()
        for ip in adapter.ips
    ]


def multicast_version(found: Iterable[Interface]) -> IPVersion:
    """Return how to look for devices: by IPv6 as well where an interface `found` has such an address."""
    return IPVersion.All if any(":" in one.address for one in found) else IPVersion.V4Only


def reachable(hosts: Iterable[str], found: Iterable[Interface]) -> tuple[str, ...]:
    """Return those addresses `found` on this machine at which a server that listens at `hosts` can be reached."""
    hosts = list(hosts)
    versions = {4, 6} if "::" in hosts else {4} if "0.0.0.0" in hosts else set()
    own = [one.address for one in found if not _VIRTUAL_INTERFACES.match(one.name)]
    addresses = [address for address in own if ipaddress.ip_address(address).version in versions]
    addresses += [host for host in hosts if host not in EVERYWHERE and is_ip(host)]
    return tuple(dict.fromkeys(address for address in addresses if _is_of_a_network(address)))


def current_addresses(hosts: Sequence[str], address: str | None = None) -> AnnouncedAddresses:
    """Return where a server that listens at `hosts` can be reached; `address` is announced instead. Blocks."""
    found = interfaces()
    if address is not None:
        return AnnouncedAddresses((address,), reachable(EVERYWHERE[:1], found))
    addresses = reachable([*filter(is_ip, hosts), *_resolved(hosts)], found)
    here = {one.address for one in found}
    return AnnouncedAddresses(addresses, tuple(one for one in addresses if one in here and ":" not in one))


def is_ip(host: str) -> bool:
    """Return whether a host is an IP address, not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_of_a_network(text: str) -> bool:
    address = ipaddress.ip_address(text)
    return not (address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast)


def _resolved(hosts: Iterable[str]) -> list[str]:
    found = []
    for host in hosts:
        if not is_ip(host):
            try:
                found += [str(address[0]) for *_, address in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
            except OSError:
                continue  # not resolvable yet: tried again at the next check
    return found


class Presence:
    """Announces services in the network while it runs, and follows changes of the machine's addresses."""

    def __init__(
        self,
        services: Callable[[], Mapping[str, int]],
        addresses: Callable[[], AnnouncedAddresses],
        *,
        check_seconds: float = _CHECK_SECONDS,
    ) -> None:
        """Announce what `services` returns, ports by name, at what `addresses` returns, which may block."""
        self._services = services
        self._addresses = addresses
        self._check_seconds = check_seconds
        self._announced: tuple[dict[str, int], AnnouncedAddresses] | None = None
        self._failure = ""
        self._zeroconf: AsyncZeroconf | None = None

    async def run(self) -> None:
        """Announce, and follow changes, until cancelled; then withdraw the announcement."""
        try:
            while True:
                await self.follow()
                await asyncio.sleep(self._check_seconds)
        finally:
            await self.stop()

    async def follow(self) -> None:
        """Check once, and announce what has changed."""
        wanted = dict(self._services()), await asyncio.to_thread(self._addresses)
        if wanted == self._announced:
            return
        # Withdrawn before it is announced again: caches would keep the old addresses beside the new ones.
        await self.stop()
        services, where = wanted
        if not services or not where.addresses:
            self._log_failure("no network address to announce", logging.INFO)
            return
        try:
            await self._announce(services, where)
        except (OSError, RuntimeError, ZeroconfError) as error:  # RuntimeError: an address that was just removed
            await self.stop()
            self._log_failure(str(error) or type(error).__name__, logging.WARNING)
            return
        self._announced, self._failure = wanted, ""
        _LOGGER.info("announced by zeroconf as %s at %s", ", ".join(services), ", ".join(where.addresses))

    async def stop(self) -> None:
        """Withdraw the announcement; may be called twice."""
        # Cleared first: if this fails, the next check announces again.
        self._announced = None
        zeroconf, self._zeroconf = self._zeroconf, None
        if zeroconf is not None:
            await zeroconf.async_close()  # which sends a goodbye for every service

    async def _announce(self, services: Mapping[str, int], where: AnnouncedAddresses) -> None:
        version = IPVersion.V4Only if where.through else IPVersion.V6Only
        through = list(where.through) or InterfaceChoice.All
        self._zeroconf = AsyncZeroconf(interfaces=through, ip_version=version)
        for name, port in services.items():
            await self._zeroconf.async_register_service(_info(name, port, where.addresses), allow_name_change=True)

    def _log_failure(self, failure: str, level: int) -> None:
        """Log once why nothing is announced."""
        if failure != self._failure:
            _LOGGER.log(level, "not announced by zeroconf: %s", failure)
        self._failure = failure


def _info(name: str, port: int, addresses: Iterable[str]) -> ServiceInfo:
    server = name if _HOST_NAME.fullmatch(name) else default_name(port, name)
    return ServiceInfo(
        _TYPE,
        f"{name}.{_TYPE}",
        port=port,
        addresses=[ipaddress.ip_address(address).packed for address in addresses],
        server=f"{server}.local.",
    )
