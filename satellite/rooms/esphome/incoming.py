"""Devices that dial the daemon (`api: outgoing_connection:` in their YAML): accepted by address and key.

A device says its MAC address, which proves nothing; the key that its room has does.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aioesphomeapi.outgoing_connection import OutgoingConnectionServer
    from aioesphomeapi.reconnect_logic import ReconnectLogic


class IncomingDevices:
    """Listens while there are rooms whose devices may dial; others are refused, and logged once an hour each."""

    def __init__(self, port: int, host: str | None = None) -> None:
        """Listen at `port`, 0 for any free one, of `host`; None is every address."""
        self._port = port
        self._host = host
        self._server: OutgoingConnectionServer | None = None

    @property
    def port(self) -> int:
        """The port that it listens at; 0 before it has listened at a free one."""
        return self._port if self._server is None else self._server.port

    def accept(self, mac: str, logic: "ReconnectLogic") -> Callable[[], None]:
        """Hand `logic` the connections of the device `mac`, 12 hexadecimal digits; return what ends that.

        A port that is taken is logged, and tried again. Raises `ValueError` where another room accepts the device.
        """
        if self._server is None:
            # Imported late: most households have no such device.
            from aioesphomeapi.outgoing_connection import OutgoingConnectionServer

            self._server = OutgoingConnectionServer(self._port, self._host)
        return self._server.register(mac, logic)
