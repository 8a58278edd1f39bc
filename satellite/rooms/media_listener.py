"""The server that devices fetch sound from: a few paths of its own, each open to one machine and for a short time."""

import asyncio
import logging
import secrets
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from satellite.audio.pcm import AudioFormat
from satellite.errors import CannotListen
from satellite.net.binding import EVERYWHERE, bound, host_and_port
from satellite.net.link_local import is_link_local, on_link
from satellite.rooms.media import Container
from satellite.rooms.media_stream import EncodedStream, open_encoder
from satellite.tasks import begin_task, end_tasks
from satellite.wire.server import AllowedNetworks

_LOGGER = logging.getLogger(__name__)

_EXPIRES_SECONDS = 120.0
"""How long a sound may wait to be fetched: its address is handed out before a command is spoken."""

_AGAIN_SECONDS = 1.0
"""How long a player whose connection broke may take to ask again."""

_HOUSE = AllowedNetworks()

_MOST_PATHS = 512
_MOST_CONNECTIONS = 128
_MOST_OF_ONE = 64
"""Connections of one machine: no other may be kept out by it."""

_REQUEST_SECONDS = 5.0
_REQUEST_BYTES = 8192
_READ_SECONDS = 10.0
"""How long a player may leave what it was sent: longer than it buffers."""


class _Connection(NamedTuple):
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


@dataclass(eq=False, slots=True)
class _Published:
    peer: str | None
    """Who may fetch it; None for every machine of the house."""

    stream: EncodedStream | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)
    owner: str | None = None
    """The room that the files are for."""

    reader: _Connection | None = None
    """Who fetches the stream, or did so last."""

    expiry: asyncio.TimerHandle | None = None


class MediaListener:
    """Implements `MediaServer`; listens at an address of this machine once a device there has something to fetch."""

    def __init__(self, port: int) -> None:
        """Listen at `port` of each address, 0 for any free one."""
        self._port = port
        self._listening: dict[str, tuple[asyncio.Server, int]] = {}
        self._opening = asyncio.Lock()
        self._paths: dict[str, _Published] = {}
        self._connections: dict[asyncio.Task[None], str] = {}

    async def publish(
        self, layout: AudioFormat, container: Container, peer: str, *, host: str | None = None, anybody: bool = False
    ) -> EncodedStream:
        """See `MediaServer.publish`."""
        base, token = await self._base_url(peer, host), secrets.token_urlsafe(16)
        encoder = await asyncio.to_thread(open_encoder, layout, container)
        stream = EncodedStream(layout, container, encoder, f"{base}/{token}.{container}")
        published = _Published(None if anybody else peer, stream)
        published.expiry = asyncio.get_running_loop().call_later(_EXPIRES_SECONDS, self._expire, token)
        self._add(token, published)
        return stream

    async def publish_files(self, files: Mapping[str, bytes], peer: str, *, owner: str, host: str | None = None) -> str:
        """See `MediaServer.publish_files`."""
        base, token = await self._base_url(peer, host), secrets.token_urlsafe(16)
        for old in [old for old, one in self._paths.items() if one.owner == owner]:
            del self._paths[old]
        self._add(token, _Published(peer, files=files, owner=owner))
        return f"{base}/{token}"

    async def close(self) -> None:
        """Stop listening and cut off who fetches; may be called twice."""
        listening, self._listening = self._listening, {}
        for server, _ in listening.values():
            server.close()
        for token in list(self._paths):
            self._expire(token)
        await end_tasks(*self._connections)

    async def _base_url(self, peer: str, host: str | None) -> str:
        async with self._opening:
            here = local_address(peer)
            everywhere = EVERYWHERE[":" in here]
            if not host and (here == everywhere or is_link_local(here)):
                raise CannotListen(f"it is not known at which address {peer} reaches this machine{_cure(peer)}")
            at = everywhere if host or everywhere in self._listening else here
            if at not in self._listening:
                await self._listen(at)
            return f"http://{host_and_port(host or here, self._listening[at][1])}"

    async def _listen(self, at: str) -> None:
        if self._port and at in EVERYWHERE:  # one port cannot be bound beside it; who fetches there already goes on
            for address in [one for one in self._listening if EVERYWHERE[":" in one] == at]:
                self._listening.pop(address)[0].close()
        sockets = await bound([at], self._port)
        server = await asyncio.start_server(self._accept, sock=sockets[0], limit=_REQUEST_BYTES)
        self._listening[at] = server, sockets[0].getsockname()[1]

    def _add(self, token: str, published: _Published) -> None:
        while len(self._paths) >= _MOST_PATHS:
            # A device that begins one turn after the other must not cost what others listen to.
            over = (old for old, one in self._paths.items() if one.stream is not None and one.stream.over.is_set())
            self._expire(next(over, None) or next(iter(self._paths)))
        self._paths[token] = published

    def _expire(self, token: str) -> None:
        if (published := self._paths.pop(token, None)) is not None:
            if published.expiry is not None:
                published.expiry.cancel()
            if published.stream is not None:
                published.stream.abort()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer, peers = str((writer.get_extra_info("peername") or ("?",))[0]), list(self._connections.values())
        if len(peers) >= _MOST_CONNECTIONS or peers.count(peer) >= _MOST_OF_ONE:
            writer.transport.abort()
            return
        task = begin_task(self._serve(reader, writer, peer), "media")
        self._connections[task] = peer
        task.add_done_callback(self._connections.pop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: str) -> None:
        try:
            # OSError, not only ConnectionError: a device without power is a host that cannot be reached.
            with suppress(OSError, CannotListen, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                async with asyncio.timeout(_REQUEST_SECONDS):
                    head = await reader.readuntil(b"\r\n\r\n")
                request = head.split(b"\r\n", 1)[0].decode("latin-1")
                await self._answer(request, peer, _Connection(reader, writer))
        finally:
            writer.transport.abort()

    async def _answer(self, request: str, peer: str, connection: _Connection) -> None:
        writer = connection.writer
        method, _, rest = request.partition(" ")
        path, _, version = rest.partition(" ")
        token, _, name = path.removeprefix("/").partition("/")
        token = token.partition(".")[0] if not name else token
        published = self._paths.get(token)
        found = published is not None and _may_fetch(peer, published) and method in ("GET", "HEAD")
        if published is not None and found and published.stream is not None and not name:
            chunked = version != "HTTP/1.0"
            writer.write(_head(published.stream.media_type, chunked=chunked))
            if method == "GET":
                await self._send_stream(token, published, published.stream, connection, chunked=chunked)
        elif published is not None and found and name in published.files:
            content = published.files[name]
            writer.write(_head("application/octet-stream", length=len(content)))
            writer.write(content if method == "GET" else b"")
        else:
            _LOGGER.debug("media: a request of %s for nothing that is open to it", peer)
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await _drained(writer)
        writer.close()
        async with asyncio.timeout(_READ_SECONDS):
            await writer.wait_closed()

    async def _send_stream(
        self, token: str, published: _Published, stream: EncodedStream, connection: _Connection, *, chunked: bool
    ) -> None:
        published.reader = connection
        if published.expiry is not None:
            published.expiry.cancel()
        stream.fetched.set()
        # A player that hangs up is noticed at once: what it is sent then would be missing when it asks again.
        gone = begin_task(_hung_up(connection.reader), "media hangs up")
        writer = connection.writer
        try:
            async for data in stream.pieces(lambda: published.reader is connection and not gone.done()):
                writer.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
                await _drained(writer)
            writer.write(b"0\r\n\r\n" if chunked else b"")
        finally:
            await end_tasks(gone)
            if stream.over.is_set():
                self._expire(token)
            elif published.reader is connection:  # the player may ask again
                published.expiry = asyncio.get_running_loop().call_later(_AGAIN_SECONDS, self._expire, token)


async def _hung_up(reader: asyncio.StreamReader) -> None:
    with suppress(OSError):
        await reader.read(1)


async def _drained(writer: asyncio.StreamWriter) -> None:
    async with asyncio.timeout(_READ_SECONDS):
        await writer.drain()


def _head(media_type: str, *, chunked: bool = False, length: int | None = None) -> bytes:
    size = f"Content-Length: {length}\r\n" if length is not None else "Transfer-Encoding: chunked\r\n" * chunked
    return (
        f"HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\n{size}Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    ).encode()


def local_address(peer: str) -> str:
    """Return the address of this machine at which `peer`, an IP address, reaches it; sends nothing.

    It is `0.0.0.0` or `::` where that is not known. Raises `CannotListen` where the process may open no more sockets.
    """
    if is_link_local(peer):
        link = on_link(peer)
        return EVERYWHERE[True] if link is None else str(link.ip)
    try:
        probe = socket.socket(socket.AF_INET6 if ":" in peer else socket.AF_INET, socket.SOCK_DGRAM)
    except OSError as error:
        raise CannotListen(f"the address at which {peer} reaches this machine cannot be found: {error}") from error
    with probe:
        try:
            probe.connect((peer, 9))
        except OSError:
            return EVERYWHERE[":" in peer]
        return str(probe.getsockname()[0])


def _cure(peer: str) -> str:
    cure = "media_host names one that it can use"
    return (
        f": no other address of this machine is on the link of this link-local one; {cure}"
        if is_link_local(peer)
        else f": {cure}"
    )


def _may_fetch(peer: str, published: _Published) -> bool:
    if published.peer is None:
        return _HOUSE.permits(peer)
    known = _plain(published.peer)
    if is_link_local(published.peer) and (link := on_link(published.peer)) is not None and _plain(peer) in link.network:
        return True  # the device's other addresses are not known
    # A device that runs on this machine, reached at 127.0.1.1 by the machine's name, fetches from 127.0.0.1.
    return _plain(peer) == known or (known.is_loopback and _plain(peer) == _plain(local_address(published.peer)))


def _plain(text: str) -> IPv4Address | IPv6Address:
    parsed = ip_address(text.partition("%")[0])
    return parsed.ipv4_mapped or parsed if isinstance(parsed, IPv6Address) else parsed
