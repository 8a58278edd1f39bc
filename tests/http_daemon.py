"""What the tests of the HTTP server share: servers with settings of their own, and what is asked of every answer."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from satellite.config.http import HttpSettings
from satellite.http.http_service import HttpService
from satellite.http.rate_limit import RateLimit, Work
from satellite.monitoring.runs import RunHistory
from satellite.monitoring.status import Status
from satellite.net.tls_certificate import ServerCertificate
from tests.running_daemon import RunningDaemon
from tests.waiting import PATIENCE_SECONDS

QUESTION = "What is the capital of France?"
TIME = {"text": "What time is it?"}
"""A question that needs no model."""

TOKEN = "a-token-of-the-house"
RIGHT = {"Authorization": f"Bearer {TOKEN}"}
JSON = {"Accept": "application/json"}


def client(port: int) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_SECONDS)


@contextmanager
def serving(
    daemon: RunningDaemon, status: Status | None = None, certificate: ServerCertificate | None = None, **settings: Any
) -> Iterator[httpx.Client]:
    """Serve the daemon's parts once more, with settings, and perhaps a state or a certificate, of its own."""
    parts = daemon.daemon
    http = HttpSettings.model_validate(settings)
    runs = RunHistory(parts.bus, kept=http.runs_kept, transcripts=http.keep_transcripts)
    context = replace(
        parts._http._context,
        settings=http,
        status=status or parts._status,
        runs=runs,
        certificate=certificate,
        rate=RateLimit(http.requests_per_minute),
        work=Work(http.max_concurrent),
    )
    service = HttpService(context)

    async def start() -> int:
        runs.start(parts.background)
        return await service.start(0)

    port = daemon.call(start())
    try:
        with client(port) as one:
            yield one
    finally:
        daemon.call(service.stop())
        daemon.call(runs.stop())


def ws(http: httpx.Client) -> str:
    """Return the address of `/ws` of the server that `http` asks."""
    return f"ws://127.0.0.1:{http.base_url.port}/ws"


def last_run(http: httpx.Client) -> dict[str, Any]:
    """Return the newest run; empty before there is one."""
    runs: list[dict[str, Any]] = http.get("/runs", params={"limit": 1}).json()["runs"]
    return runs[0] if runs else {}


def problem(response: httpx.Response) -> dict[str, Any]:
    """Return the body of an error, which has the one shape."""
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == response.status_code
    assert body["type"] == f"urn:satellite:error:{body['code']}"
    assert body["title"]
    assert body["detail"]
    return body


def refusal(response: httpx.Response) -> tuple[int, str]:
    body = problem(response)
    return body["status"], body["code"]


def samples(exposition: str) -> dict[tuple[str, ...], float]:
    """Return the values of metrics by name, without `satellite_`, and the values of their labels in order."""
    return {
        (sample.name.removeprefix("satellite_"), *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
    }
