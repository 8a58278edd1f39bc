"""Listening sockets for all addresses of a host, and ports that are tried again while they cannot be opened."""

import asyncio
import errno
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import ExitStack

from satellite.backoff import Backoff
from satellite.errors import CannotListen

_LOGGER = logging.getLogger(__name__)

EVERYWHERE = ("0.0.0.0", "::")
"""Hosts that mean every address of the machine."""

_BACKLOG = 1024
_PORT_TRIES = 20
"""How often another free port is picked if it is not free on all addresses."""

_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 1.0, 10.0

_ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


async def bound(hosts: Sequence[str], port: int) -> list[socket.socket]:
    """Return sockets that listen on all of `hosts`, with the same port (0 picks a free one).

    `::` includes every IPv4 address. Raises `CannotListen`.
    """
    addresses = await asyncio.gather(*map(_addresses, hosts))
    for tries_left in reversed(range(_PORT_TRIES)):
        try:
            return _bound(hosts, addresses, port)
        except CannotListen as error:
            if port or not error.taken or not tries_left:
                raise
    raise AssertionError("unreachable")


async def _addresses(host: str) -> list[str]:
    """Return the addresses of a host; none for an unknown name."""
    if host == "::":
        return ["::", "0.0.0.0"]
    try:
        ipaddress.ip_address(host)
    except ValueError:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except OSError:
            return []
        return list(dict.fromkeys(str(address[0]) for *_, address in found))
    return [host]


def _bound(hosts: Sequence[str], addresses: Sequence[list[str]], port: int) -> list[socket.socket]:
    everywhere = {address for several in addresses for address in several if address in EVERYWHERE}
    sockets: dict[str, socket.socket] = {}
    with ExitStack() as failed:
        for host, several in zip(hosts, addresses, strict=True):
            problem: OSError | None = None
            for address in several:
                # An address cannot be bound beside the one that means all of its family.
                covered = EVERYWHERE[":" in address]
                if address in sockets or (covered in everywhere and address != covered):
                    continue
                try:
                    sockets[address] = failed.enter_context(_socket(address, port))
                except OSError as error:
                    if error.errno not in _ABSENT:
                        raise _cannot(host, port, error) from error
                    problem = error
                else:
                    # The first socket picks the port; the others must get the same one.
                    port = port or sockets[address].getsockname()[1]
            if not several:
                raise CannotListen(f"cannot listen on {host_and_port(host, port)}: unknown host name")
            if problem is not None and not sockets.keys() & set(several):
                raise _cannot(host, port, problem) from problem
        failed.pop_all()
    return list(sockets.values())


def _socket(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with ExitStack() as failed:
        # asyncio disables Nagle's algorithm, which delays an answer by 40 ms, only where the protocol is named.
        listening = failed.enter_context(socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP))
        # A restarted daemon need not wait for the old one's connections to time out.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # IPv4 gets its own socket, so that peers do not appear as ::ffff:a.b.c.d
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        where = socket.getaddrinfo(address, port, family, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[0][4]
        listening.bind(where)
        listening.listen(_BACKLOG)
        listening.setblocking(False)
        failed.pop_all()
    return listening


def _cannot(host: str, port: int, error: OSError) -> CannotListen:
    reason = (error.strerror or str(error)).lower()
    taken = error.errno == errno.EADDRINUSE
    if taken:
        reason += "; is another server running there?"
    elif error.errno == errno.EADDRNOTAVAIL:
        reason = "this machine does not have that address (yet)"
    return CannotListen(f"cannot listen on {host_and_port(host, port)}: {reason}", taken=taken)


def host_and_port(host: str, port: int | None) -> str:
    """Return `host:port`, or `[host]:port` for an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def taken(addresses: Iterable[tuple[str, int]]) -> list[str]:
    """Return why some of the addresses (host, port) cannot be listened on.

    An address that this machine does not have yet is not taken, since it may come.
    """
    return [reason for host, port in addresses if (reason := _refused(host, port))]


def _refused(host: str, port: int) -> str:
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        return ""  # the name may be known later
    for *_, address in found:
        try:
            _socket(str(address[0]), port).close()
        except OSError as error:
            if error.errno not in _ABSENT:
                return f"{host} port {port} ({error.strerror})"
    return ""


class PortOpener:
    """The daemon's ports; one that cannot be opened, such as on an address that comes later, is tried again."""

    def __init__(self) -> None:
        self.closed: dict[str, CannotListen] = {}
        """Why ports cannot be opened at the moment, by name."""

        self._open: dict[str, Callable[[], Awaitable[None]]] = {}

    async def open(self, name: str, open_: Callable[[], Awaitable[None]]) -> None:
        """Open a port by `open_`, now or later: if it raises `CannotListen`, that is logged and tried again."""
        try:
            await open_()
        except CannotListen as error:
            # Logged once for each reason, not at every attempt.
            if name not in self.closed or str(self.closed[name]) != str(error):
                _LOGGER.error("%s; trying again", error, extra={"code": error.code})
            self.closed[name], self._open[name] = error, open_
        else:
            if self.closed.pop(name, None) is not None:
                _LOGGER.info("%s: listening", name)

    async def watch(self) -> None:
        """Try again to open what is closed, until nothing is."""
        backoff = Backoff(_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS)
        while self.closed:
            await asyncio.sleep(backoff.next())
            for name in list(self.closed):
                await self.open(name, self._open[name])
