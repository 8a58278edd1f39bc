"""`/status`, `/rooms`, `/models`, `/runs`, `/announce` and `/events`: the house at a glance."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from satellite.errors import TextToSpeechError
from satellite.http.chat_api import check_length, json_response
from satellite.http.context import Context
from satellite.http.http_errors import HttpError
from satellite.http.problems import responses
from satellite.http.rate_limit import Work
from satellite.http.schemas import Announced, AnnounceRequest, Models, Rooms, Runs
from satellite.http.streaming import EVENT_SCHEMA, EVENT_STREAM, Streamed, sse
from satellite.models import catalogue
from satellite.models.spec import Kind
from satellite.monitoring.runs import RunRecord
from satellite.monitoring.status import as_json

_STATUS_SECONDS = 1.0
_AT_LEAST_SECONDS = 15.0
"""How often the state is told though nothing has changed: a connection that has broken shows."""

_WATCHERS = 64
"""Clients that may watch at once."""

_UNREAD = 256
"""Events that may wait for a watcher before it is dropped."""

_ALWAYS_CHANGING = ("uptime_seconds", "since_seconds", "requests")


def routes(context: Context) -> APIRouter:
    """Return the endpoints."""
    router = APIRouter(tags=["house"])
    watching = Work(_WATCHERS, f"{_WATCHERS} clients are watching already")

    @router.get("/status", summary="How everything is", responses=responses())
    async def status() -> dict[str, Any]:
        """Return the state of every stage, provider, room and GPU, as `satellite status --json` prints it."""
        return as_json(await context.status.now())

    @router.get("/rooms", summary="The rooms", responses=responses(), response_model=Rooms)
    async def rooms() -> Response:
        """Return every room, and what it is doing."""
        return json_response({"rooms": [as_json(room) for room in context.rooms()]})

    @router.get("/models", summary="The models", responses=responses(), response_model=Models)
    async def models() -> Response:
        """Return the models that are known, whether they are here, and whether they are in use."""
        return json_response(await asyncio.to_thread(_models, context))

    @router.get("/runs", summary="The latest runs", responses=responses(), response_model=Runs)
    async def runs(limit: Annotated[int, Query(ge=1, le=10_000)] = 50) -> Response:
        """Return the latest runs with the times of their stages, the newest first."""
        return json_response({"runs": [run.described() for run in context.runs.latest(limit)]})

    @router.post("/announce", summary="Say something in rooms", responses=responses(502, 504), response_model=Announced)
    async def announce(announcement: AnnounceRequest) -> Response:
        """Say a text in rooms, behind a chime; returns once it has been heard, with the rooms that failed.

        Where no room heard it, that is an error (502), which tells why in `failed`.
        """
        check_length(context, announcement.text, TextToSpeechError)
        told = await context.announce(announcement.model_dump(exclude_unset=True))
        if not told["heard"]:
            why = "; ".join(f"{room}: {reason}" for room, reason in told["failed"].items())
            raise HttpError(f"no room heard it: {why}", code="announce-failed", failed=told["failed"])
        return json_response(told)

    @router.get(
        "/events",
        summary="What happens, as it happens",
        responses={200: {"content": {EVENT_STREAM: EVENT_SCHEMA}}, **responses()},
        response_class=Streamed,
    )
    async def events() -> Response:
        """Stream server-sent events: `status` with what `/status` returns, and `run` with a run of `/runs`.

        The state comes at once and whenever it has changed, a run when it begins, changes its stage or ends.
        """
        response = Streamed(_events(context), media_type=EVENT_STREAM)
        response.on_end = watching.enter()
        return response

    return router


async def _events(context: Context) -> AsyncGenerator[bytes, None]:
    changed: asyncio.Queue[RunRecord] = asyncio.Queue(_UNREAD)
    overflowed = False

    def note(run: RunRecord) -> None:
        nonlocal overflowed
        try:
            changed.put_nowait(run)
        except asyncio.QueueFull:
            overflowed = True

    loop = asyncio.get_running_loop()
    forget = context.runs.on_change(note)
    told: Any = None
    told_at = 0.0
    try:
        while not overflowed:
            state = as_json(await context.status.now())
            if (steady := _steady(state)) != told or loop.time() - told_at >= _AT_LEAST_SECONDS:
                told, told_at = steady, loop.time()
                yield sse("status", state)
            until = loop.time() + _STATUS_SECONDS
            while not overflowed and (run := await _next(changed, until)) is not None:
                yield sse("run", run.described())
    finally:
        forget()


async def _next(changed: asyncio.Queue[RunRecord], until: float) -> RunRecord | None:
    """Return the next run that changed, None when there was none in time."""
    try:
        async with asyncio.timeout_at(until):
            return await changed.get()
    except TimeoutError:
        return None


def _steady(value: Any) -> Any:
    """Return `value` without what changes all the time."""
    if isinstance(value, dict):
        return {name: _steady(one) for name, one in value.items() if name not in _ALWAYS_CHANGING}
    return [_steady(one) for one in value] if isinstance(value, list) else value


def _models(context: Context) -> dict[str, list[dict[str, Any]]]:
    engines = context.stages.engines
    speakers = {voice.name: list(voice.speakers) for voice in engines.synthesizer.engine.voices}
    words = [word for slot in engines.wake for word in slot.engine.words]
    in_use = {
        Kind.STT: {engines.transcriber.engine.model},
        Kind.TTS: {context.config.tts.voice},
        Kind.CHAT: {provider.model for provider in context.chat().providers},
    }
    installed = {kind: {spec.name for spec in context.store.installed(kind)} for kind in in_use}
    told: dict[str, list[dict[str, Any]]] = {
        "wake": [
            _model(word.name, word.languages, installed=True, in_use=word.name in context.config.wake.words)
            for word in words
        ]
    }
    for kind, used in in_use.items():
        known = {name: catalogue.find(kind, name).languages for name in catalogue.names(kind)}
        names = sorted(known.keys() | used | installed[kind])
        told[kind] = [
            _model(
                name,
                known.get(name, ()),
                installed=name in installed[kind] or (kind is Kind.CHAT and name in used),
                in_use=name in used,
                speakers=speakers.get(name, []),
            )
            for name in names
        ]
    return told


def _model(
    name: str, languages: Any, *, installed: bool, in_use: bool, speakers: list[str] | None = None
) -> dict[str, Any]:
    return {
        "name": name,
        "languages": list(languages),
        "installed": installed,
        "in_use": in_use,
        "speakers": speakers or [],
    }
