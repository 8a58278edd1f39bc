"""Listening for Wyoming clients: which may connect, how many, and the task of each connection."""

import asyncio
import contextlib
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Sequence

from satellite.errors import ProtocolError
from satellite.net.binding import bound
from satellite.tasks import begin_task, end_tasks
from satellite.wire.connection import Connection, MemoryBudget, Timeouts

_LOGGER = logging.getLogger(__name__)

_POLITE_SECONDS = 3.0
"""How long clients may take to read what was written before the server closes."""

Handler = Callable[[Connection], Awaitable[None]]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_HOME = [
    ipaddress.ip_network(network)
    for network in (
        *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
        *("::1/128", "fc00::/7", "fe80::/10"),
    )
]
"""Loopback, private (RFC 1918, RFC 4193) and link-local networks; `is_private` means more, such as 203.0.113.0/24."""


class AllowedNetworks:
    """The networks that clients may connect from: loopback, private, link-local, and those named in `allow`."""

    def __init__(self, allow: Sequence[str] = ()) -> None:
        self._allow: list[Network] = [ipaddress.ip_network(network, strict=False) for network in allow]

    def permits(self, host: str) -> bool:
        """Return whether a peer with this address may connect."""
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in network for network in (*_HOME, *self._allow))


class Server:
    """All listening sockets of the daemon and the connections that came through them."""

    def __init__(self, allowed: AllowedNetworks, timeouts: Timeouts, *, max_connections: int) -> None:
        self._allowed = allowed
        self._timeouts = timeouts
        self._max_connections = max_connections
        self._budget = MemoryBudget()
        self._listeners: list[asyncio.Server] = []
        self._connections: dict[Connection, asyncio.Task[None]] = {}
        self._evicted: set[asyncio.Task[None]] = set()
        self._refused: set[str] = set()

    async def listen(self, hosts: str | Sequence[str], port: int, handler: Handler) -> int:
        """Serve `handler` at one host or several (port 0 picks a free one); return the port. Raises `CannotListen`."""

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._accept(reader, writer, handler)

        sockets = await bound([hosts] if isinstance(hosts, str) else hosts, port)
        for listening in sockets:
            self._listeners.append(await asyncio.start_server(accept, sock=listening, backlog=1024))
        return int(sockets[0].getsockname()[1])

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler) -> None:
        host = (writer.get_extra_info("peername") or ("?",))[0]
        # aborted before anything is read: Wyoming has no authentication
        if not self._allowed.permits(host):
            first = host not in self._refused
            if len(self._refused) < 1000:
                self._refused.add(host)
            _LOGGER.log(
                logging.WARNING if first else logging.DEBUG,
                "refused %s: not loopback or private; name it in wyoming.allow to let it in",
                host,
            )
            writer.transport.abort()
            return
        if len(self._connections) >= self._max_connections:
            # The newcomer is admitted: clients that vanished without a word would otherwise keep everyone out.
            self._evict()
        connection = Connection(reader, writer, self._timeouts, self._budget)
        task = begin_task(self._serve(connection, handler), f"wyoming {connection.peer}")
        self._connections[connection] = task

    def _evict(self) -> None:
        idlest = min(self._connections, key=lambda connection: connection.last_active_at)
        _LOGGER.warning("%d connections are open: closing the idlest, %s", len(self._connections), idlest.peer)
        task = self._connections.pop(idlest)
        self._evicted.add(task)  # the event loop keeps only weak references to tasks
        task.add_done_callback(self._evicted.discard)
        task.cancel()
        idlest.abort()

    async def _serve(self, connection: Connection, handler: Handler) -> None:
        try:
            await handler(connection)
        except ProtocolError as error:
            _LOGGER.warning(
                "%s: [%s] %s; connection closed", connection.peer, error.code, error, extra={"code": error.code}
            )
        except ConnectionError:
            _LOGGER.debug("%s: gone", connection.peer)
        except Exception:  # the boundary of a connection: its failure must not affect the others
            _LOGGER.exception("%s: unexpected failure; connection closed", connection.peer)
        finally:
            self._connections.pop(connection, None)
            await connection.close()

    async def close(self) -> None:
        """Stop listening, cancel every connection's handler and wait for them; may be called twice."""
        for listener in self._listeners:
            listener.close()
        # Copied, since handlers remove their connections while they end.
        open_ = dict(self._connections)
        tasks = [*open_.values(), *self._evicted]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_POLITE_SECONDS)
        for connection in open_:
            connection.abort()
        await end_tasks(*tasks)
        # Last: since Python 3.12 `wait_closed` waits for the connections as well.
        for listener in self._listeners:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._timeouts.write_seconds):
                    await listener.wait_closed()
        self._listeners.clear()
