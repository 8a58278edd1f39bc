"""One Wyoming connection, accepted or dialled, with a timeout on every wait."""

import asyncio
import contextlib
import ipaddress
import logging
import os
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from wyoming.event import Event, Eventable

from satellite.errors import DaemonUnreachable, ProtocolError
from satellite.wire.framing import EventParser, encode

_LOGGER = logging.getLogger(__name__)

_READ_BYTES = 64 * 1024
_WRITE_BUFFER_BYTES = 256 * 1024
_SMALL_EVENT_BYTES = 64 * 1024

_YIELD_EVENTS = 4
"""Events that are yielded in a row before the event loop gets to others: one read may hold thousands of tiny ones."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Bounds on waiting for the peer, seconds."""

    read_seconds: float = 10.0
    """For the rest of an event, after its first byte."""

    write_seconds: float = 10.0
    """For the peer to read what we write."""

    idle_seconds: float | None = None
    """For the next event; None waits for ever."""


class MemoryBudget:
    """Bytes that all connections together may hold in half-received large events."""

    def __init__(self, limit_bytes: int = 128 * 1024 * 1024) -> None:
        self._left = limit_bytes

    def take(self, wanted_bytes: int) -> None:
        """Reserve memory, or raise `ProtocolError` with the code `protocol-overload`."""
        if wanted_bytes > self._left:
            raise ProtocolError("too much audio is being received at once", code="protocol-overload")
        self._left -= wanted_bytes

    def give(self, bytes_: int) -> None:
        """Return memory."""
        self._left += bytes_


class Connection:
    """Reads and writes events over one socket. Iterate it for events; it ends when the peer closes."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        timeouts: Timeouts,
        budget: MemoryBudget | None = None,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._timeouts = timeouts
        self._budget = budget or MemoryBudget()
        self._lock = asyncio.Lock()
        self.last_event_at = time.monotonic()
        """When the peer last completed an event, by `time.monotonic()`."""

        self.last_active_at = self.last_event_at
        """When the peer last completed an event or took one of ours; decides which connection is the idlest."""

        self.event_bytes = 0
        """Size on the wire of the event that was yielded last."""

        self.was_reset = False
        """Whether it was reset or aborted; a peer that has only closed its own half can still be answered."""

        self.peer = _peer_name(writer)
        # `drain` waits beyond this: enough for a clause of sound, little enough to notice a client that does not read.
        writer.transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)
        raw = writer.get_extra_info("socket")
        if raw is not None and raw.family in (socket.AF_INET, socket.AF_INET6):
            # Small events such as `pong` must not wait for more data; keep-alive finds peers that lost their power.
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    @property
    def is_local(self) -> bool:
        """Whether the peer is on this machine."""
        peer, own = self._writer.get_extra_info("peername"), self._writer.get_extra_info("sockname")
        if not isinstance(peer, tuple):
            return False
        if own is not None and peer[0] == own[0]:  # the daemon listens at an address of the network alone
            return True
        address = ipaddress.ip_address(peer[0].partition("%")[0])
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return (mapped or address).is_loopback

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Yield events. Raises `ProtocolError` for garbage, a stalled event or an event cut short."""
        parser = EventParser()
        reserved = 0
        began: float | None = None
        try:
            while data := await self._read(began):
                for count, event in enumerate(parser.feed(data), 1):
                    self.last_event_at = self.last_active_at = time.monotonic()
                    began = None
                    self.event_bytes = parser.event_bytes
                    yield event
                    if count % _YIELD_EVENTS == 0:
                        await asyncio.sleep(0)
                # Returned before it is taken again: what this event has received already must not count twice.
                self._budget.give(reserved)
                # Small events are not counted: they are bounded by the number of connections.
                reserved = parser.owed_bytes if parser.owed_bytes > _SMALL_EVENT_BYTES else 0
                try:
                    self._budget.take(reserved)
                except ProtocolError:
                    reserved = 0
                    raise
                if not parser.mid_event:
                    began = None
                elif began is None:
                    began = time.monotonic()
            if parser.mid_event:
                raise ProtocolError("connection closed in the middle of an event")
        finally:
            self._budget.give(reserved)

    async def _read(self, began: float | None) -> bytes:
        """Return the next bytes, b"" at the end; an event whose first byte came at `began` must complete in time."""
        if began is None:
            timeout = self._timeouts.idle_seconds
        else:
            timeout = max(0.0, began + self._timeouts.read_seconds - time.monotonic())
        try:
            async with asyncio.timeout(timeout):
                return await self._reader.read(_READ_BYTES)
        except TimeoutError as error:
            what = "no event came in time" if began is None else "an event was not completed in time"
            raise ProtocolError(what, code="protocol-timeout") from error
        except OSError:  # reset by the peer, which is an end like any other
            self.was_reset = True
            return b""

    async def send(self, *events: Event | Eventable) -> None:
        """Write `events`; returns when the peer has taken enough of them.

        Raises `ProtocolError` when it does not read in time, `ConnectionError` when it has gone.
        """
        data = b"".join(encode(event if isinstance(event, Event) else event.event()) for event in events)
        try:
            # The lock keeps events of the reader (`pong`) from being written into the middle of others; waiting for it
            # counts as waiting for the peer.
            async with asyncio.timeout(self._timeouts.write_seconds), self._lock:
                self._writer.write(data)
                await self._writer.drain()
                self.last_active_at = time.monotonic()
        except TimeoutError as error:
            # Some of the event may have been written, so that nothing can follow it.
            self.abort()
            raise ProtocolError("the client does not read", code="protocol-timeout") from error
        except OSError as error:
            raise ConnectionError("the client has gone") from error

    def abort(self) -> None:
        """Cut the connection now and drop what was not sent."""
        self.was_reset = True
        self._writer.transport.abort()

    async def close(self) -> None:
        """Send what is written, then close, within the write timeout; may be called twice."""
        self._writer.close()
        with contextlib.suppress(OSError):
            try:
                async with asyncio.timeout(self._timeouts.write_seconds):
                    await self._writer.wait_closed()
            except TimeoutError:
                self.abort()


def _peer_name(writer: asyncio.StreamWriter) -> str:
    name = writer.get_extra_info("peername")
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else "local socket"


def _reason(error: Exception) -> str:
    """Return why a connection failed, without the error numbers and addresses that asyncio adds."""
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__


async def dial(uri: str, timeouts: Timeouts | None = None, *, connect_seconds: float = 5.0) -> Connection:
    """Connect to `tcp://host:port` or `unix:///path`; raises `DaemonUnreachable`."""
    try:
        parts = urlsplit(uri)
        async with asyncio.timeout(connect_seconds):
            if parts.scheme == "unix":
                reader, writer = await asyncio.open_unix_connection(parts.path)
            elif parts.scheme == "tcp" and parts.hostname and parts.port:
                reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            else:
                raise DaemonUnreachable(f"{uri} is not a valid address; expected tcp://host:port or unix:///path")
    except (OSError, ValueError) as error:
        raise DaemonUnreachable(f"nothing answers at {uri}: {_reason(error)}") from error
    return Connection(reader, writer, timeouts or Timeouts(idle_seconds=60.0))
