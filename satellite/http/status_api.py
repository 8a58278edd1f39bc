"""The state of the daemon and its rooms, for people and for monitoring; and announcements in the rooms."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Annotated

import segno
from fastapi import APIRouter, Query, Request
from starlette.responses import PlainTextResponse, Response

from satellite.events import Subscription
from satellite.http.context import Context
from satellite.http.dependencies import Parts
from satellite.http.error_codes import HttpError
from satellite.http.json_route import JsonRoute
from satellite.http.problems import responses
from satellite.http.replies import EVENT_SCHEMA, EVENT_STREAM, Streamed, json_response, sse
from satellite.http.schemas import Announced, AnnounceRequest, Model, Models, Rooms, Runs
from satellite.models import catalogue
from satellite.models.spec import Kind
from satellite.monitoring import metrics
from satellite.monitoring.run_metrics import RunMetrics
from satellite.monitoring.runs import RunRecord
from satellite.monitoring.status import as_json
from satellite.pipeline.audio_queue import AudioInbox

_STATUS_SECONDS = 1.0
_UNCHANGED_SECONDS = 15.0
"""How often an unchanged state is sent, so that the client notices a broken connection."""

_UNREAD = 256
"""Events that may wait for a watcher before it is dropped."""

_ALWAYS_CHANGING = ("uptime_seconds", "since_seconds", "requests")

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


health = APIRouter(tags=["health"])
house = APIRouter(tags=["house"], route_class=JsonRoute)


@health.get("/healthz", summary="Is it alive?", responses=responses())
async def healthz() -> dict[str, bool]:
    """Return at once, as long as the daemon lives."""
    return {"alive": True}


@health.get("/readyz", summary="Is it ready?", responses=responses())
async def readyz(context: Parts) -> dict[str, object]:
    """Return the stages once every one works, and what else needs attention; until then 503, and why."""
    stages = context.status.stages()
    lacking = [stage for stage in stages if stage.state not in ("ready", "idle")]
    if lacking or not context.status.ready:
        reasons = "; ".join(f"{stage.stage}: {stage.message or stage.state}" for stage in lacking)
        raise HttpError(reasons or "the stages are being warmed up", code="not-ready")
    return {
        "ready": True,
        "state": context.status.state,
        "attention": [as_json(one) for one in context.status.attention()],
        "stages": [as_json(stage) for stage in stages],
    }


@health.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/plain": {}}}, **responses()},
)
async def metrics_(request: Request, context: Parts) -> Response:
    """Return the daemon's state and the times of its runs in Prometheus' text format."""
    runs: RunMetrics = request.app.state.run_metrics
    state = metrics.exposition(await context.status.now(), context.queues(), AudioInbox.dropped_in_all_seconds)
    return Response(state + runs.exposition(), media_type=_METRICS_TYPE)


@house.get("/status", summary="How everything is", responses=responses())
async def status(context: Parts) -> dict[str, object]:
    """Return the state of every stage, provider, room and GPU, as `satellite status --json` prints it."""
    return as_json(await context.status.now())


@house.get("/rooms", summary="The rooms", responses=responses(), response_model=Rooms)
async def rooms(context: Parts) -> Response:
    """Return every room, and what it is doing."""
    return json_response({"rooms": [as_json(room) for room in context.status.rooms()]})


@house.get("/certificate", summary="The certificate of HTTPS", responses=responses(404))
async def certificate(request: Request, context: Parts) -> dict[str, object]:
    """Return the certificate, and as `qr` an image of a QR code: the address of `/room` with the fingerprint."""
    found = None if context.certificate is None else context.certificate.status()
    if found is None:
        raise HttpError("this is plain HTTP; see http.tls in the configuration", code="no-certificate")
    address = found.url(request.headers["host"])
    return {**as_json(found), "address": address, "qr": segno.make(address).svg_data_uri(border=2, light="white")}


@house.get("/models", summary="The models", responses=responses(), response_model=Models)
async def models(context: Parts) -> Response:
    """Return the models that are known, whether they are here, and whether they are in use."""
    found = await asyncio.to_thread(_models, context)  # it looks into the folders of models
    return json_response(found.model_dump())


@house.get("/runs", summary="The latest runs", responses=responses(), response_model=Runs)
async def runs(context: Parts, limit: Annotated[int, Query(ge=1, le=10_000)] = 50) -> Response:
    """Return the latest runs with the times of their stages, the newest first."""
    return json_response({"runs": [run.as_json() for run in context.runs.latest(limit)]})


@house.post("/announce", summary="Say something in rooms", responses=responses(502, 504), response_model=Announced)
async def announce(announcement: AnnounceRequest, context: Parts) -> Response:
    """Say a text in rooms, after a chime; returns once it has been heard, with the rooms that failed.

    Where no room heard it, that is an error (502), whose `failed` says why.
    """
    result = await context.announcer.announce(announcement.model_dump(exclude_unset=True))
    if not result["heard"]:
        reasons = "; ".join(f"{room}: {reason}" for room, reason in result["failed"].items())
        raise HttpError(f"no room heard it: {reasons}", code="announce-failed", failed=result["failed"])
    return json_response(result)


@house.get(
    "/events",
    summary="What happens, as it happens",
    responses={200: {"content": {EVENT_STREAM: EVENT_SCHEMA}}, **responses()},
    response_class=Streamed,
)
async def events(context: Parts) -> Response:
    """Stream server-sent events: `status` with what `/status` returns, and `run` with a run of `/runs`.

    The state comes at once and whenever it has changed, a run when it begins, changes its stage or ends.
    """
    response = Streamed(_events(context), media_type=EVENT_STREAM)
    # Not in the generator: where a response fails before its first event, the generator's `finally` never runs.
    response.on_end = context.watchers.enter()
    return response


async def _events(context: Context) -> AsyncGenerator[bytes, None]:
    changed: Subscription[RunRecord] = Subscription(_UNREAD)
    loop = asyncio.get_running_loop()
    unsubscribe = context.runs.on_change(changed.offer)
    sent: object = None
    sent_at = 0.0
    try:
        while not changed.overflowed:
            state = as_json(await context.status.now())
            if (steady := _steady(state)) != sent or loop.time() - sent_at >= _UNCHANGED_SECONDS:
                sent, sent_at = steady, loop.time()
                yield sse("status", state)
            # Runs are sent at once; the state is compared every second, since nothing reports its changes.
            until = loop.time() + _STATUS_SECONDS
            while (run := await _next(changed, until)) is not None:
                yield sse("run", run.as_json())
    finally:
        unsubscribe()


async def _next(changed: Subscription[RunRecord], until: float) -> RunRecord | None:
    """Return the next run that changed, None if none did in time or too many wait."""
    try:
        async with asyncio.timeout_at(until):
            return await changed.next()
    except TimeoutError:
        return None


def _steady(value: object) -> object:
    """Return `value` without the figures that change all the time."""
    if isinstance(value, dict):
        return {name: _steady(one) for name, one in value.items() if name not in _ALWAYS_CHANGING}
    return [_steady(one) for one in value] if isinstance(value, list) else value


def _models(context: Context) -> Models:
    engines, config = context.stages.engines, context.config
    speakers = {voice.name: voice.speakers for voice in engines.synthesizer.engine.voices}
    words = [word for slot in engines.wake for word in slot.engine.words]
    wake = [
        Model(name=word.name, languages=list(word.languages), installed=True, in_use=word.name in config.wake.words)
        for word in words
    ]
    return Models(
        wake=wake,
        stt=_models_of(context, Kind.STT, {engines.transcriber.engine.model}),
        chat=_models_of(context, Kind.CHAT, {provider.model for provider in context.status.chat().providers}),
        tts=_models_of(context, Kind.TTS, {config.tts.voice}, speakers),
    )


def _models_of(
    context: Context, kind: Kind, in_use: set[str], speakers: Mapping[str, Sequence[str]] | None = None
) -> list[Model]:
    """Return the known models of a kind, those in the store, and those in use."""
    known = {name: catalogue.find(kind, name).languages for name in catalogue.names(kind)}
    installed = {spec.name for spec in context.store.installed(kind)}
    if kind is Kind.CHAT:
        installed |= in_use  # a provider's model is on its server, not in our store
    return [
        Model(
            name=name,
            languages=list(known.get(name, ())),
            installed=name in installed,
            in_use=name in in_use,
            speakers=list((speakers or {}).get(name, ())),
        )
        for name in sorted(known.keys() | in_use | installed)
    ]
