"""uvicorn, with limits on its connections, without signal handlers, and able to end in time."""

import asyncio
import logging
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import uvicorn
from starlette.types import ASGIApp

from satellite.config.http import HttpSettings
from satellite.http.uvicorn_protocols import FIRST_REQUEST_SECONDS, WebSocketProtocol, http_protocol
from satellite.system.process import affordable_connections

_STOP_SECONDS = 2
"""How long requests in progress may take to end when the server stops."""

_LONGEST_MESSAGE_BYTES = 256 * 1024


class UvicornServer(uvicorn.Server):
    """Serves an application; the daemon starts it, and ends it by `end`."""

    def __init__(self, app: ASGIApp, settings: HttpSettings, tls: ssl.SSLContext | None) -> None:
        """Serve HTTPS with `tls`, or plain HTTP if that is None."""
        # uvicorn logs whole URLs, with the token in them. The guard has already logged what failed in a request.
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
        self._tls = tls
        self._protocol = http_protocol(affordable_connections(settings.max_connections))
        super().__init__(
            uvicorn.Config(
                app,
                http=self._protocol,
                ws=WebSocketProtocol,
                loop="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                ws_max_size=_LONGEST_MESSAGE_BYTES,
                ws_per_message_deflate=False,  # PCM hardly compresses, and text would be delayed
                timeout_keep_alive=30,
                timeout_graceful_shutdown=_STOP_SECONDS,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve at `sockets`; uvicorn's own would let each client take a minute for the handshake."""
        protocol = partial(self._protocol, self.config, self.server_state, self.lifespan.state)
        handshake_seconds = None if self._tls is None else FIRST_REQUEST_SECONDS
        loop = asyncio.get_running_loop()
        self.servers = [
            await loop.create_server(
                protocol, sock=one, ssl=self._tls, ssl_handshake_timeout=handshake_seconds, backlog=self.config.backlog
            )
            for one in sockets or ()
        ]
        self.started = True

    async def end(self, serving: asyncio.Task[None]) -> None:
        """End every request, and wait until `serving`, the task of `serve`, has ended."""
        self.should_exit = True
        # uvicorn waits for requests to end by themselves, and a stream of events never does.
        for task in list(self.server_state.tasks):
            task.cancel()
        await asyncio.wait([serving])
        # It leaves connections open that a client keeps alive.
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do not install signal handlers: the daemon has its own."""
        yield
