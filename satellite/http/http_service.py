"""HTTP as a part of the daemon: takes its port at once, and serves as soon as its libraries are loaded."""

import asyncio
import logging
import socket
from typing import TYPE_CHECKING

from satellite.config.secrets import http_token
from satellite.errors import ConfigError
from satellite.http.context import Context
from satellite.net.binding import bound
from satellite.system.process import imported
from satellite.tasks import Supervised

if TYPE_CHECKING:
    from satellite.http.uvicorn_server import UvicornServer

_LOGGER = logging.getLogger(__name__)


class HttpService:
    """The HTTP server of a daemon, on the event loop of everything else."""

    def __init__(self, context: Context) -> None:
        """Serve the parts of the daemon in `context`."""
        self._context = context
        self._sockets: list[socket.socket] = []
        self._server: UvicornServer | None = None
        self._task: Supervised | None = None
        self._renewal: Supervised | None = None

    async def start(self, port: int) -> int:
        """Serve on `port` (0 for any) and return it. Raises `CannotListen`, and `ConfigError` where it must not."""
        settings = self._context.settings
        token = http_token(settings).find()
        if not token.value and not settings.is_local:
            raise ConfigError(f"http.host: {settings.host} can be reached from other machines, and there is no token")
        certificate = self._context.certificate
        if certificate is not None:
            await asyncio.to_thread(certificate.read)
        self._sockets = await bound([settings.host], port)
        # These imports, and building the application, take some tenths of a second, in which the event loop has others
        # to serve. Clients that connect meanwhile are answered afterwards.
        uvicorn_server = await imported("satellite.http.uvicorn_server")
        metrics = (await imported("satellite.monitoring.run_metrics")).RunMetrics()
        build = (await imported("satellite.http.app")).build
        app = await asyncio.to_thread(build, self._context, token, metrics)
        self._context.runs.on_change(metrics.note)

        async def serve() -> None:
            self._server = uvicorn_server.UvicornServer(app, settings, certificate and certificate.context)
            await self._server.serve(self._sockets)

        run = self._context.stages.background.run
        self._task = run("http", serve)
        if certificate is not None:
            self._renewal = run("renew the certificate", certificate.follow)
        taken = int(self._sockets[0].getsockname()[1])
        _LOGGER.info("%s: listening at %s:%d", "http" if certificate is None else "https", settings.host, taken)
        return taken

    async def stop(self) -> None:
        """End every request and listen no longer; may be called twice."""
        if self._renewal is not None:
            await self._renewal.stop()
        server, self._server = self._server, None
        if self._task is not None:
            if server is None:
                await self._task.stop()
            else:
                await server.end(self._task.task)
        for listening in self._sockets:
            listening.close()
        self._sockets = []
