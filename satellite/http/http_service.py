"""HTTP as a part of the daemon: takes its port at once, and serves as soon as its libraries are loaded."""

import logging
from functools import partial
from typing import TYPE_CHECKING

from satellite.config.secrets import http_token
from satellite.errors import ConfigError
from satellite.http.context import Context
from satellite.system.process import imported

if TYPE_CHECKING:
    from satellite.http.uvicorn_server import HttpServer

_LOGGER = logging.getLogger(__name__)


class HttpService:
    """The HTTP server of a daemon."""

    def __init__(self, context: Context) -> None:
        """Serve the parts of the daemon in `context`."""
        self._context = context
        self._server: HttpServer | None = None

    async def start(self, port: int) -> int:
        """Serve on `port` (0 for any) and return it. Raises `CannotListen`, and `ConfigError` where it must not."""
        settings = self._context.settings
        token = http_token(settings).find()
        if not token.value and not settings.is_local:
            raise ConfigError(f"http.host: {settings.host} can be reached from other machines, and there is no token")
        # These imports take some tenths of a second, in which the event loop has others to serve.
        server: HttpServer = (await imported("satellite.http.uvicorn_server")).HttpServer(settings)
        metrics = (await imported("satellite.monitoring.run_metrics")).RunMetrics()
        taken = await server.listen(port)
        self._server = server
        app = await imported("satellite.http.app")
        self._context.runs.on_change(metrics.note)
        await server.start(partial(app.build, self._context, token, metrics), self._context.stages.background)
        _LOGGER.info("http: listening at %s:%d", settings.host, taken)
        return taken

    async def stop(self) -> None:
        """Serve no longer; may be called twice."""
        if self._server is not None:
            await self._server.stop()
