"""HTTP clients for radio: a server that begins its answer with `ICY 200 OK`, as SHOUTcast does, is understood."""

import ssl
from collections.abc import Iterable
from typing import Any

import httpcore
import httpx

_ICY, _HTTP = b"ICY ", b"HTTP/1.0 "


class _Stream(httpcore.AsyncNetworkStream):
    """A connection whose first line is made that of HTTP."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._begun = False

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = await self._stream.read(max_bytes, timeout)
        if self._begun:
            return data
        while (
            data and len(data) < len(_ICY) and _ICY.startswith(data) and (more := await self._stream.read(1, timeout))
        ):
            data += more
        self._begun = True
        return _HTTP + data.removeprefix(_ICY) if data.startswith(_ICY) else data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        return await self._stream.start_tls(ssl_context, server_hostname, timeout)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Backend(httpcore.AsyncNetworkBackend):
    def __init__(self) -> None:
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return _Stream(await self._backend.connect_tcp(host, port, timeout, local_address, socket_options))


def icy_transport(verify: ssl.SSLContext) -> httpx.AsyncHTTPTransport:
    """Return a transport for `httpx.AsyncClient` that makes a new connection for each request."""
    transport = httpx.AsyncHTTPTransport(verify=verify)
    # httpx has no parameter for httpcore's backend.
    transport._pool = httpcore.AsyncConnectionPool(
        ssl_context=verify, max_keepalive_connections=0, network_backend=_Backend()
    )
    return transport
