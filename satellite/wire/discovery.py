"""Announcing the daemon by zeroconf, so that Home Assistant offers it without anyone typing an address.

`wyoming.zeroconf` announces one IPv4 address, 0.0.0.0 when the server listens everywhere (which Home Assistant
drops), under the MAC as its name, and never takes it back. Here: the interfaces' own addresses, a name that lasts
and is this daemon's alone, and a goodbye at the end.
"""

import asyncio
import hashlib
import ipaddress
import logging
import uuid
from pathlib import Path

import ifaddr
from zeroconf import Error as ZeroconfError
from zeroconf import InterfaceChoice, IPVersion, ServiceInfo, ServiceStateChange
from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

_LOGGER = logging.getLogger(__name__)

_TYPE = "_wyoming._tcp.local."
_MACHINE_ID = Path("/etc/machine-id")
_VIRTUAL_INTERFACES = ("docker", "br-", "veth", "virbr", "lo")


def default_name(port: int) -> str:
    """Return a name that is unique to this machine and port and the same after every start.

    The machine's id is secret by systemd's rules (machine-id(5)), so only a hash of it leaves the machine.
    """
    try:
        machine = _MACHINE_ID.read_text(encoding="ascii").strip()
    except OSError:
        machine = f"{uuid.getnode():012x}"
    return f"satellite-{hashlib.sha256(f'satellite {machine} {port}'.encode()).hexdigest()[:12]}"


def own_addresses(host: str) -> list[str]:
    """Return the addresses at which a server that listens at `host` can be reached from the network."""
    if host not in ("", "0.0.0.0", "::"):
        return [] if ipaddress.ip_address(host).is_loopback else [host]
    found = []
    for adapter in ifaddr.get_adapters():
        if adapter.name.startswith(_VIRTUAL_INTERFACES):
            continue
        for ip in adapter.ips:
            if not isinstance(ip.ip, str):
                continue  # IPv6 comes as a tuple; "0.0.0.0" does not listen there
            address = ipaddress.ip_address(ip.ip)
            if not (address.is_loopback or address.is_link_local or address.is_unspecified):
                found.append(ip.ip)
    return found


class Announcement:
    """One announced service; `stop` takes it back."""

    def __init__(self, name: str, port: int, addresses: list[str], interfaces: list[str] | None = None) -> None:
        """Announce `addresses`, over the network interfaces that have the addresses `interfaces` (None: all)."""
        self._service = ServiceInfo(
            _TYPE,
            f"{name}.{_TYPE}",
            port=port,
            addresses=[ipaddress.ip_address(address).packed for address in addresses],
            server=f"{name}.local.",
        )
        self._addresses = addresses
        self._interfaces = interfaces
        self._zeroconf: AsyncZeroconf | None = None

    async def start(self) -> bool:
        """Announce; return False, with a line in the log, where the network does not allow it."""
        if not self._addresses:
            _LOGGER.info("not announced by zeroconf: no network address to announce")
            return False
        try:
            self._zeroconf = AsyncZeroconf(
                interfaces=self._interfaces or InterfaceChoice.All, ip_version=IPVersion.V4Only
            )
            await self._zeroconf.async_register_service(self._service, allow_name_change=True)
        except (OSError, ZeroconfError) as error:
            _LOGGER.warning("not announced by zeroconf: %s", error or type(error).__name__)
            await self.stop()
            return False
        _LOGGER.info("announced by zeroconf as %s at %s", self._service.name, ", ".join(self._addresses))
        return True

    async def stop(self) -> None:
        """Take the announcement back; may be called twice."""
        zeroconf, self._zeroconf = self._zeroconf, None
        if zeroconf is None:
            return
        try:
            await zeroconf.async_unregister_all_services()
        finally:
            await zeroconf.async_close()


async def discover(seconds: float = 3.0) -> list[dict[str, str]]:
    """Return the Wyoming services that announce themselves within `seconds`: `room` (their name) and `uri`."""
    found: set[str] = set()

    def note(zeroconf: object, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if state_change is ServiceStateChange.Added:
            found.add(name)

    network = AsyncZeroconf(ip_version=IPVersion.V4Only)
    try:
        browser = AsyncServiceBrowser(network.zeroconf, _TYPE, handlers=[note])
        await asyncio.sleep(seconds)
        await browser.async_cancel()
        infos = [await network.async_get_service_info(_TYPE, name, timeout=1000) for name in sorted(found)]
    finally:
        await network.async_close()
    return [
        {"room": info.name.removesuffix(f".{_TYPE}"), "uri": f"tcp://{info.parsed_addresses()[0]}:{info.port}"}
        for info in infos
        if info is not None and info.parsed_addresses()
    ]
