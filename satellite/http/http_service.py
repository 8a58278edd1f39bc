"""HTTP as a part of the daemon: takes its port at once, and serves as soon as its libraries are loaded."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from satellite.config.secrets import http_token
from satellite.config.settings import Config
from satellite.engines.worker import Worker
from satellite.errors import ConfigError
from satellite.events import RunBus
from satellite.models.store import Store
from satellite.monitoring.runs import Recorder
from satellite.monitoring.status import Status
from satellite.pipeline.stages import Stages
from satellite.rooms.announcements import Announcer
from satellite.rooms.hub import Hub
from satellite.system.process import imported

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from satellite.http.uvicorn_server import HttpServer
    from satellite.monitoring.run_metrics import RunMetrics

_LOGGER = logging.getLogger(__name__)


class HttpService:
    """The HTTP server of a daemon with these parts."""

    def __init__(
        self,
        config: Config,
        stages: Stages,
        bus: RunBus,
        status: Status,
        store: Store,
        hub: Hub,
        workers: Mapping[str, Worker],
        runs: Recorder,
    ) -> None:
        self._runs = runs
        self._config = config
        self._stages = stages
        self._bus = bus
        self._status = status
        self._store = store
        self._hub = hub
        self._workers = workers
        self._server: HttpServer | None = None

    async def start(self, port: int) -> int:
        """Serve on `port` (0 for any) and return it. Raises `CannotListen`, and `ConfigError` where it must not."""
        settings = self._config.http
        token = http_token(settings).find()
        if not token.value and not settings.is_local:
            raise ConfigError(f"http.host: {settings.host} can be reached from other machines, and there is no token")
        # Loading these takes some tenths of a second, in which others are to be answered.
        server: HttpServer = (await imported("satellite.http.uvicorn_server")).HttpServer(settings)
        metrics: RunMetrics = (await imported("satellite.monitoring.run_metrics")).RunMetrics()
        taken = await server.listen(port)
        self._server = server
        self._runs.on_change(metrics.note)
        await server.start(lambda: self._app(token, metrics), self._stages.background)
        _LOGGER.info("http: listening at %s:%d", settings.host, taken)
        return taken

    async def stop(self) -> None:
        """Serve no longer; may be called twice."""
        if self._server is not None:
            await self._server.stop()

    def _app(self, token: Any, metrics: "RunMetrics") -> "ASGIApp":
        from satellite.http.app import build
        from satellite.http.context import Context
        from satellite.http.rate_limit import RateLimit, Work

        context = Context(
            settings=self._config.http,
            stages=self._stages,
            bus=self._bus,
            status=self._status,
            store=self._store,
            announce=Announcer(self._hub, self._stages).announce,
            rooms=self._hub.described,
            queues=lambda: {name: worker.pending for name, worker in self._workers.items()},
            runs=self._runs,
            metrics=metrics,
            rate=RateLimit(self._config.http.requests_per_minute),
            work=Work(self._config.http.max_concurrent),
        )
        return build(context, token)
