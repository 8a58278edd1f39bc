"""The connection to one ESPHome device, kept by aioesphomeapi: what comes and goes, and why.

Only this package imports aioesphomeapi, and only `room.py` is imported where no ESPHome room is configured.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from aioesphomeapi.client import APIClient
from aioesphomeapi.core import (
    APIConnectionError,
    HandshakeAPIError,
    InvalidEncryptionKeyAPIError,
    ProtocolAPIError,
)
from aioesphomeapi.host_resolver import IPv6Sockaddr, async_resolve_host
from aioesphomeapi.reconnect_logic import ReconnectLogic
from aioesphomeapi.zeroconf import ZeroconfManager

from satellite import __version__
from satellite.errors import DaemonUnreachable
from satellite.net.link_local import is_link_local
from satellite.tasks import attempt

if TYPE_CHECKING:
    from zeroconf.asyncio import AsyncZeroconf

_KEEP_ALIVE_SECONDS = 5.0
"""Between two pings; a device that has not answered for 4.5 times as long is lost. Home Assistant pings every 20 s."""

_GOODBYE_SECONDS = 1.0
_RESOLVE_SECONDS = 3.0


def _is_news(record: logging.LogRecord) -> bool:
    """Return False for what the library logs as an error: that a device was gone before it could be let go."""
    return "disconnect request" not in str(record.msg)


logging.getLogger("aioesphomeapi.connection").addFilter(_is_news)


class DeviceSession:
    """One connection, from the moment at which the device has accepted it."""

    def __init__(self, address: str) -> None:
        self.address = address
        """IP address of the device, by which it reaches this machine as well, where one is known."""

        self.lost = asyncio.Event()
        self.served = asyncio.Event()
        """To be set when nobody uses it any more: only then is the device dialled again."""


class EsphomeConnection:
    """Keeps a device connected inside `async with`, again and again."""

    def __init__(
        self,
        host: str,
        port: int,
        key: str,
        accept: Callable[[ReconnectLogic], Callable[[], None]] | None = None,
        mdns: "AsyncZeroconf | None" = None,
    ) -> None:
        """Connect to `host`, encrypted where there is a `key`, or be dialled by the device where it may (`accept`).

        Names are found by `mdns`, by sockets of its own without.
        """
        self._where = host, port, mdns
        self.client = APIClient(
            host,
            port,
            client_info=f"satellite {__version__}",
            keepalive=_KEEP_ALIVE_SECONDS,
            noise_psk=key or None,
            outgoing_connection_target=accept is not None,
            zeroconf_instance=mdns,
        )
        self._accept = accept
        self._refuse: Callable[[], None] | None = None
        self._changes: asyncio.Queue[DeviceSession | Exception] = asyncio.Queue()
        self._session: DeviceSession | None = None
        self._logic = ReconnectLogic(
            client=self.client,
            on_connect=self._connected,
            on_disconnect=self._disconnected,
            on_connect_error=self._changes.put,
        )

    async def __aenter__(self) -> Self:
        """Begin to connect."""
        await self._logic.start()
        if self._accept is not None:
            self._refuse = self._accept(self._logic)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let the device go."""
        # First: an attempt that is cancelled is no error in its log, one that is disconnected is.
        self._logic.stop_callback()
        if self._refuse is not None:
            self._refuse()
        if self._session is not None:
            self._session.served.set()
        try:
            await attempt(self._leave(), "leave an ESPHome device", _GOODBYE_SECONDS)
        finally:  # also when it is cancelled: nobody else would ever stop what connects again and again
            self.client.force_disconnect()
            await self._logic.stop()

    async def next(self) -> DeviceSession | Exception:
        """Return the next connection, or why an attempt has failed; others follow until `async with` ends."""
        return await self._changes.get()

    async def _leave(self) -> None:
        with suppress(APIConnectionError):
            await self.client.disconnect()

    async def _connected(self) -> None:
        address = self.client.connected_address or self.client.address
        if is_link_local(address):
            address = await self._usable(address)
        self._session = DeviceSession(address)
        await self._changes.put(self._session)

    async def _usable(self, address: str) -> str:
        """Return another address of a device whose link-local one is `address`; otherwise that, with its interface."""
        with suppress(DaemonUnreachable, TimeoutError):
            async with asyncio.timeout(_RESOLVE_SECONDS):
                known = await addresses(*self._where)
            return next((one for one in known if not is_link_local(one) or one.startswith(f"{address}%")), address)
        return address

    async def _disconnected(self, _expected: bool) -> None:
        if self._session is not None:
            self._session.lost.set()
            # The library dials as soon as this returns, without any backoff.
            await self._session.served.wait()


async def addresses(host: str, port: int, mdns: "AsyncZeroconf | None" = None) -> list[str]:
    """Return the IP addresses of a device, by mDNS where its name ends with .local; raises `DaemonUnreachable`.

    IPv4 comes first, since all devices have it, and link-local ones last, with the number of their interface: mDNS does
    not name it, so that they count only where there is nothing else.
    """
    manager = ZeroconfManager(mdns)
    try:
        found = [one.sockaddr for one in await async_resolve_host([host], port, manager)]
    except (APIConnectionError, OSError) as error:  # the latter where there is no such interface
        raise DaemonUnreachable(f"{host} is unknown in the network") from error
    finally:
        await manager.async_close()
    known = [
        one.address + (f"%{one.scope_id}" if isinstance(one, IPv6Sockaddr) and one.scope_id else "") for one in found
    ]
    usable = [one for one in known if "%" in one or not is_link_local(one)]
    return sorted(usable or known, key=lambda one: (is_link_local(one), ":" in one))


def is_wrong_key(error: Exception) -> bool:
    """Return whether a device has refused the key."""
    return isinstance(error, InvalidEncryptionKeyAPIError)


def is_misunderstanding(error: Exception) -> bool:
    """Return whether a device speaks another form of the protocol than was expected, or none."""
    return isinstance(error, HandshakeAPIError | ProtocolAPIError)
