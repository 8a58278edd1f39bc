"""What the tests of the HTTP server share: a client of the one daemon, and daemons with settings of their own."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx

from satellite.config.http import HttpSettings
from satellite.http.http_service import HttpService
from satellite.http.rate_limit import RateLimit, Work
from satellite.monitoring.runs import RunHistory
from satellite.monitoring.status import Status
from tests.running_daemon import RunningDaemon
from tests.waiting import PATIENCE_SECONDS


def client(daemon: RunningDaemon, **more: Any) -> httpx.Client:
    """Return a client of the daemon's HTTP server."""
    return httpx.Client(base_url=f"http://127.0.0.1:{daemon.port('http')}", timeout=PATIENCE_SECONDS, **more)


@contextmanager
def serving(daemon: RunningDaemon, status: Status | None = None, **settings: Any) -> Iterator[httpx.Client]:
    """Serve the daemon's parts once more, with settings, and perhaps a state, of its own."""
    parts = daemon.daemon
    http = HttpSettings.model_validate(settings)
    runs = RunHistory(parts.bus, kept=http.runs_kept, transcripts=http.keep_transcripts)
    context = replace(
        parts._http._context,
        settings=http,
        status=status or parts._status,
        runs=runs,
        rate=RateLimit(http.requests_per_minute),
        work=Work(http.max_concurrent),
    )
    service = HttpService(context)

    async def start() -> int:
        runs.start(parts.background)
        return await service.start(0)

    port = daemon.call(start())
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_SECONDS) as one:
            yield one
    finally:
        daemon.call(service.stop())
        daemon.call(runs.stop())


def problem(response: httpx.Response) -> dict[str, Any]:
    """Return the body of an error, which has the one shape."""
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == response.status_code
    assert body["type"] == f"urn:satellite:error:{body['code']}"
    assert body["title"]
    assert body["detail"]
    return body
