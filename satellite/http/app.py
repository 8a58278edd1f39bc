"""The application: every endpoint, behind the guard."""

from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import FileResponse
from starlette.types import ASGIApp

from satellite import __version__
from satellite.config.secrets import Secret
from satellite.http import chat_api, openai_audio, openai_chat, problems, rooms_api, speech_api, status_api, websocket
from satellite.http.access_control import AccessControl
from satellite.http.context import Context
from satellite.http.guard import Guard
from satellite.monitoring.run_metrics import RunMetrics

_PAGES = Path(__file__).parent / "pages"

_DESCRIPTION = """A home's voice: ask by text or by voice, let it speak, see how it is.

Errors are problem details (RFC 9457); their `code` is stable. Loopback needs no token by default; with one, send
`Authorization: Bearer TOKEN`."""


def build(context: Context, token: Secret, metrics: RunMetrics) -> ASGIApp:
    """Return the application. Takes some tenths of a second of CPU time, so not on the event loop."""
    app = FastAPI(
        title="satellite",
        version=__version__,
        description=_DESCRIPTION,
        docs_url=None,  # FastAPI's page loads scripts from another host
        redoc_url=None,
        redirect_slashes=False,
    )
    problems.install(app)
    app.state.context, app.state.run_metrics = context, metrics
    for part in (chat_api, speech_api, openai_chat, openai_audio, rooms_api, websocket):
        app.include_router(part.router)
    app.include_router(status_api.house)
    app.include_router(status_api.health)
    _describe(app)

    app.mount("/static", GZipMiddleware(StaticFiles(directory=_PAGES)), name="static")

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(_PAGES / "index.html", headers={"Cache-Control": "no-cache"})

    @app.get("/room", include_in_schema=False)
    async def room() -> FileResponse:
        return FileResponse(_PAGES / "room.html", headers={"Cache-Control": "no-cache"})

    @app.get("/room_worker.js", include_in_schema=False)
    async def room_worker() -> FileResponse:
        # Not below /static/: a service worker is responsible for addresses below its own.
        return FileResponse(_PAGES / "room_worker.js", headers={"Cache-Control": "no-cache"})

    settings = context.settings
    guarded: ASGIApp = Guard(app, settings, AccessControl(settings, token), context.rate, context.work)
    if settings.cors_origins:
        guarded = CORSMiddleware(
            guarded,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=[
                "RateLimit-Remaining",
                "Retry-After",
                "Satellite-Conversation-Id",
                "Satellite-Heard",
                "Satellite-Sample-Rate",
            ],
        )
    return guarded


def _describe(app: FastAPI) -> None:
    """Complete the OpenAPI description with what FastAPI cannot derive."""
    described = app.openapi()
    components: dict[str, Any] = described.setdefault("components", {})
    components.setdefault("schemas", {})["Problem"] = problems.Problem.model_json_schema()
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    described["security"] = [{}, {"token": []}]
    for path in described["paths"].values():
        for operation in path.values():
            # FastAPI describes its own form of validation errors, which `problems` replaces.
            operation.get("responses", {}).get("422", {}).get("content", {}).pop("application/json", None)
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
