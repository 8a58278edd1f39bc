"""The HTTP server in the daemon, on the event loop of everything else."""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from satellite.config.http import HttpSettings
from satellite.net.binding import bound
from satellite.system.process import affordable_connections
from satellite.tasks import Background, Supervised

_LOGGER = logging.getLogger(__name__)

_STOP_SECONDS = 2
"""How long requests in progress may take to end when the server stops."""

_FIRST_REQUEST_SECONDS = 10.0
"""How long a new connection may take to send its first request."""

_LONGEST_MESSAGE_BYTES = 256 * 1024


class HttpServer:
    """Serves an application on one port."""

    def __init__(self, settings: HttpSettings) -> None:
        self._settings = settings
        self._server: _Server | None = None
        self._sockets: list[socket.socket] = []
        self._task: Supervised | None = None

    async def listen(self, port: int) -> int:
        """Take `port` (0 for any) and return it; raises `CannotListen`."""
        self._sockets = await bound([self._settings.host], port)
        return int(self._sockets[0].getsockname()[1])

    async def start(self, build: Callable[[], ASGIApp], background: Background) -> None:
        """Serve the application that `build` returns, as a task of `background`.

        `build` takes a while; clients that connect meanwhile are answered afterwards.
        """
        assert self._sockets
        app = await asyncio.to_thread(build)
        # uvicorn logs whole URLs, with the token in them. The guard has already logged what failed in a request.
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
        config = uvicorn.Config(
            app,
            http=_protocol(affordable_connections(self._settings.max_connections)),
            ws="websockets-sansio",
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

        async def serve() -> None:
            self._server = _Server(config)
            await self._server.serve(self._sockets)

        self._task = background.run("http", serve)

    async def stop(self) -> None:
        """End every request and listen no longer; may be called twice."""
        server, self._server = self._server, None
        if server is None and self._task is not None:
            await self._task.stop()
        elif server is not None and self._task is not None:
            server.should_exit = True
            # uvicorn waits for requests to end by themselves, and a stream of events never does.
            for task in list(server.server_state.tasks):
                task.cancel()
            await asyncio.wait([self._task.task])
            # It leaves connections open that a client keeps alive.
            for connection in list(server.server_state.connections):
                connection.transport.abort()
        for listening in self._sockets:
            listening.close()
        self._sockets = []


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do not install signal handlers: the daemon has its own."""
        yield


def _protocol(max_connections: int) -> type[H11Protocol]:
    """Return uvicorn's HTTP protocol with a limit on connections; the application can abort one by `state["abort"]`."""

    class Protocol(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
            self.app_state = {**self.app_state, "abort": transport.abort}
            super().connection_made(transport)
            if len(self.connections) > max_connections:
                _LOGGER.debug("more than %d connections: the newest is closed", max_connections)
                transport.abort()
                return
            self.loop.call_later(_FIRST_REQUEST_SECONDS, self._expect_request)

        def _expect_request(self) -> None:
            if self.cycle is None and self in self.connections:
                self.transport.abort()

    return Protocol
