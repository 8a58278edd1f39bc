"""The connection to one ESPHome device, kept by aioesphomeapi: what comes and goes, and why.

Only this package imports aioesphomeapi, and only `room.py` is imported where no ESPHome room is configured.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from aioesphomeapi.client import APIClient
from aioesphomeapi.core import (
    APIConnectionError,
    HandshakeAPIError,
    InvalidEncryptionKeyAPIError,
    ProtocolAPIError,
)
from aioesphomeapi.host_resolver import async_resolve_host
from aioesphomeapi.reconnect_logic import ReconnectLogic
from aioesphomeapi.zeroconf import ZeroconfManager

from satellite import __version__
from satellite.errors import DaemonUnreachable
from satellite.tasks import attempt

_KEEP_ALIVE_SECONDS = 5.0
"""Between two pings; a device that has not answered for 4.5 times as long is lost. Home Assistant pings every 20 s."""

_GOODBYE_SECONDS = 1.0


class DeviceSession:
    """One connection, from the moment at which the device has accepted it."""

    def __init__(self, address: str) -> None:
        self.address = address
        """IP address of the device."""

        self.lost = asyncio.Event()


class EsphomeConnection:
    """Keeps a device connected inside `async with`, again and again."""

    def __init__(
        self, host: str, port: int, key: str, accept: Callable[[ReconnectLogic], Callable[[], None]] | None = None
    ) -> None:
        """Connect to `host`, encrypted where there is a `key`, or be dialled by the device where it may (`accept`)."""
        self.client = APIClient(
            host,
            port,
            client_info=f"satellite {__version__}",
            keepalive=_KEEP_ALIVE_SECONDS,
            noise_psk=key or None,
            outgoing_connection_target=accept is not None,
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
        if self._refuse is not None:
            self._refuse()
        await attempt(self._leave(), "leave an ESPHome device", _GOODBYE_SECONDS)
        self.client.force_disconnect()
        await self._logic.stop()

    async def next(self) -> DeviceSession | Exception:
        """Return the next connection, or why an attempt has failed; others follow until `async with` ends."""
        return await self._changes.get()

    async def _leave(self) -> None:
        with suppress(APIConnectionError):
            await self.client.disconnect()

    async def _connected(self) -> None:
        self._session = DeviceSession(self.client.connected_address or self.client.address)
        await self._changes.put(self._session)

    async def _disconnected(self, _expected: bool) -> None:
        if self._session is not None:
            self._session.lost.set()


async def addresses(host: str, port: int) -> list[str]:
    """Return the IP addresses of a device, by mDNS where its name ends with .local; raises `DaemonUnreachable`."""
    manager = ZeroconfManager()
    try:
        return [one.sockaddr.address for one in await async_resolve_host([host], port, manager)]
    except APIConnectionError as error:
        raise DaemonUnreachable(f"{host} is unknown in the network") from error
    finally:
        await manager.async_close()


def is_wrong_key(error: Exception) -> bool:
    """Return whether a device has refused the key."""
    return isinstance(error, InvalidEncryptionKeyAPIError)


def is_misunderstanding(error: Exception) -> bool:
    """Return whether a device speaks another form of the protocol than was expected, or none."""
    return isinstance(error, HandshakeAPIError | ProtocolAPIError)
