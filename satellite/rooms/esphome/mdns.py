"""mDNS, by which devices are found again at another address: one set of sockets for all rooms that need it."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from satellite.tasks import attempt

if TYPE_CHECKING:
    from zeroconf.asyncio import AsyncZeroconf

    from satellite.wire.discovery import Interface

_CLOSE_SECONDS = 2.0

_LOGGER = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Sockets:
    zeroconf: "AsyncZeroconf"
    addresses: "frozenset[Interface]"
    """Those of this machine for which they were opened: interfaces that came later are not heard."""

    users: int = 0


class SharedMdns:
    """Opened with the first user and closed with the last; after the interfaces have changed, new ones are."""

    def __init__(self) -> None:
        self._sockets: _Sockets | None = None
        self._opening = asyncio.Lock()

    @asynccontextmanager
    async def used(self, host: str) -> "AsyncIterator[AsyncZeroconf | None]":
        """Give the sockets for the length of the `with`; None where `host` needs none, or there is no network."""
        name = host.removesuffix(".")
        sockets = None
        if ":" not in name and (name.endswith(".local") or "." not in name):
            async with self._opening:
                sockets = await self._open()
        if sockets is None:
            yield None
            return
        sockets.users += 1
        try:
            yield sockets.zeroconf
        finally:
            sockets.users -= 1
            if not sockets.users:
                if self._sockets is sockets:
                    self._sockets = None
                # In a task of its own: in one that is cancelled, the library takes a wait that it has ended for that.
                await attempt(sockets.zeroconf.async_close(), "close mDNS", _CLOSE_SECONDS)

    async def _open(self) -> _Sockets | None:
        from zeroconf.asyncio import AsyncZeroconf  # imported late: rooms at an IP address need none

        from satellite.wire.discovery import interfaces, multicast_version

        present = frozenset(await asyncio.to_thread(interfaces))
        if self._sockets is None or self._sockets.addresses != present:
            try:
                self._sockets = _Sockets(AsyncZeroconf(ip_version=multicast_version(present)), present)
            except OSError as error:
                _LOGGER.debug("mDNS cannot be used: %s", error)
                return None
        return self._sockets
