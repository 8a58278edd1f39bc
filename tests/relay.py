"""A piece of network between a client and a server of this machine, which can be cut."""

import asyncio
import socket
import ssl
import struct
from typing import Self

from satellite.tasks import end_tasks, first_of

_CHUNK_BYTES = 65_536


class Relay:
    """Passes bytes on to a port; `async with` for as long as it is there."""

    def __init__(self, target: int, tls: ssl.SSLContext | None = None) -> None:
        """Lead to the port `target`; clients are served with `tls`."""
        self.target = target
        self._tls = tls
        self.port = 0  # where it is reached
        self.connections = 0  # connections that were ever made
        self._passes = asyncio.Event()
        self._passes.set()
        self._refuses = False
        self._server: asyncio.Server | None = None
        self._links: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Listen, on the same port as before."""
        self._server = await asyncio.start_server(self._link, "127.0.0.1", self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Be there no more, as when the server has gone: connections are refused."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        await end_tasks(*self._links)

    def cut(self) -> None:
        """Pass nothing on any more, without a word to either side, as a pulled cable does."""
        self._passes.clear()

    def reset(self) -> None:
        """Break every connection, and each new one at once."""
        self._refuses = True
        for writer in self._links.values():
            _break(writer)

    def mend(self) -> None:
        self._refuses = False
        self._passes.set()

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._refuses:
            _break(writer)
            return
        task = asyncio.current_task()
        assert task is not None
        self._links[task] = writer
        sides = [writer]
        try:
            back, onward = await asyncio.open_connection("127.0.0.1", self.target)
            sides.append(onward)
            await first_of("relay", self._pass(reader, onward), self._pass(back, writer))
        except (OSError, asyncio.CancelledError):
            pass  # asyncio 3.11 logs it as an error when a connection's task ends cancelled
        finally:
            del self._links[task]
            for side in sides:
                side.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while content := await reader.read(_CHUNK_BYTES):
            await self._passes.wait()
            writer.write(content)
            await writer.drain()
        await self._passes.wait()


def _break(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
