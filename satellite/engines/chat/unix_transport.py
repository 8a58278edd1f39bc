"""HTTP over a Unix socket by asyncio's own streams.

httpcore's way to it, anyio (4.16, `UNIXSocketStream._wait_until_readable`), lets the event loop call a future's
`set_result` once the socket is readable. An answer that is cancelled as its next bytes arrive then leaves a traceback
in the log, since that future is cancelled already.
"""

import asyncio
import socket
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import httpcore
import httpx

from satellite.errors import in_words

_RETRY_SECONDS = 0.01


class _Stream(httpcore.AsyncNetworkStream):
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            async with asyncio.timeout(timeout):
                return await self._reader.read(max_bytes)
        except TimeoutError as error:
            raise httpcore.ReadTimeout from error
        except OSError as error:
            raise httpcore.ReadError(in_words(error)) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        try:
            async with asyncio.timeout(timeout):
                self._writer.write(buffer)
                await self._writer.drain()
        except TimeoutError as error:
            raise httpcore.WriteTimeout from error
        except OSError as error:
            raise httpcore.WriteError(in_words(error)) from error

    async def aclose(self) -> None:
        self._writer.close()


class _Backend(httpcore.AsyncNetworkBackend):
    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None
    ) -> httpcore.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                return _Stream(*await asyncio.open_unix_connection(sock=await _connected(path)))
        except TimeoutError as error:
            raise httpcore.ConnectTimeout from error
        except OSError as error:
            raise httpcore.ConnectError(in_words(error)) from error


async def _connected(path: str) -> socket.socket:
    """Return a socket that is connected to `path`.

    Where as many connections wait as the server lets wait, Linux refuses another with EAGAIN (unix(7)), and tells
    nobody when there is room again. asyncio takes that for a connection under way, and would wait for ever.
    """
    with ExitStack() as unless_connected:
        connection = unless_connected.enter_context(socket.socket(socket.AF_UNIX))
        connection.setblocking(False)
        while True:
            try:
                connection.connect(path)
            except BlockingIOError:
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                unless_connected.pop_all()
                return connection


def unix_transport(path: Path) -> httpx.AsyncHTTPTransport:
    """Return a transport for `httpx.AsyncClient` that makes a new connection to `path` for each request."""
    transport = httpx.AsyncHTTPTransport(verify=False)  # no TLS here, and reading all certificates takes long
    # httpx has no parameter for httpcore's backend.
    transport._pool = httpcore.AsyncConnectionPool(
        uds=str(path), max_keepalive_connections=0, network_backend=_Backend()
    )
    return transport
