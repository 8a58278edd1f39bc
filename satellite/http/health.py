"""`/healthz`, `/readyz` and `/metrics`: for those who watch over the machine."""

from typing import Any

from fastapi import APIRouter
from starlette.responses import PlainTextResponse, Response

from satellite.http.context import Context
from satellite.http.http_errors import HttpError
from satellite.http.problems import responses
from satellite.monitoring import metrics
from satellite.monitoring.run_metrics import RunMetrics
from satellite.monitoring.status import as_json
from satellite.pipeline.audio_queue import AudioInbox

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def routes(context: Context, run_metrics: RunMetrics) -> APIRouter:
    """Return the endpoints."""
    router = APIRouter(tags=["health"])

    @router.get("/healthz", summary="Is it alive?", responses=responses())
    async def healthz() -> dict[str, bool]:
        """Return at once, as long as the daemon lives."""
        return {"alive": True}

    @router.get("/readyz", summary="Is it ready?", responses=responses())
    async def readyz() -> dict[str, Any]:
        """Return the stages once every one works, and what else needs attention; until then 503, and why."""
        stages = context.status.stages()
        lacking = [stage for stage in stages if stage.state not in ("ready", "idle")]
        if lacking or not context.status.ready:
            reasons = "; ".join(f"{stage.stage}: {stage.summary or stage.state}" for stage in lacking)
            raise HttpError(reasons or "the stages are being warmed up", code="not-ready")
        return {
            "ready": True,
            "state": context.status.state,
            "attention": [as_json(one) for one in context.status.attention()],
            "stages": [as_json(stage) for stage in stages],
        }

    @router.get(
        "/metrics",
        summary="Metrics for Prometheus",
        response_class=PlainTextResponse,
        responses={200: {"content": {"text/plain": {}}}, **responses()},
    )
    async def metrics_() -> Response:
        """Return the daemon's state and the times of its runs in Prometheus' text format."""
        status = await context.status.now()
        state = metrics.exposition(status, context.queues(), AudioInbox.dropped_in_all_seconds)
        return Response(state + run_metrics.exposition(), media_type=_METRICS_TYPE)

    return router
