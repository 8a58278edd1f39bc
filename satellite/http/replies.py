"""The forms that answers take: JSON, streams of events or sound, and which of them a client prefers."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing

from fastapi.sse import format_sse_event
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from satellite.http.error_codes import HttpError

EVENT_STREAM = "text/event-stream"

EVENT_SCHEMA: dict[str, object] = {
    "itemSchema": {
        "type": "object",
        "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
        "required": ["data"],
    }
}
"""Describes a stream of server-sent events in OpenAPI."""


class Streamed(StreamingResponse):
    """A response made by an asynchronous generator, which is closed however the response ends."""

    on_end: Callable[[], None] | None = None
    """Called when the response is over."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self.on_end is not None:
                self.on_end()

    async def stream_response(self, send: Send) -> None:
        """Send everything."""
        # Starlette leaves a generator that was not exhausted to the garbage collector, and the run in it running.
        async with aclosing(self.body_iterator):  # type: ignore[type-var]  # always an asynchronous generator here
            await super().stream_response(send)


def json_response(body: Mapping[str, object]) -> Response:
    """Return `body` as JSON, without FastAPI's validation of it."""
    return Response(json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"), media_type="application/json")


def sse(event: str | None, data: Mapping[str, object]) -> bytes:
    """Return a server-sent event."""
    return format_sse_event(event=event, data_str=json.dumps(data))


def preferred(accept: str | None, offered: Sequence[str]) -> str:
    """Return the media type of `offered` that an Accept header prefers (RFC 9110, 12.5.1), the first on a tie.

    Raises `HttpError` where it accepts none of them.
    """
    ranges = [_media_range(part) for part in (accept or "*/*").split(",") if part.strip()]

    def rank(media_type: str) -> tuple[float, int]:
        """Return the quality and the place of the most specific range, even if another has a higher quality."""
        matches = [(_precision(name, media_type), quality, -order) for order, (name, quality) in enumerate(ranges)]
        precision, quality, order = max(matches, default=(0, 0.0, 0))
        return (quality, order) if precision else (0.0, 0)

    choice = max(offered, key=rank)  # the first of equals
    if not rank(choice)[0]:
        raise HttpError(f"expected Accept to take one of {', '.join(offered)}", code="http-not-acceptable")
    return choice


def _media_range(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip().lower() for piece in part.split(";"))
    quality = 1.0
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                quality = min(1.0, max(0.0, float(parameter[2:])))
            except ValueError:
                quality = 0.0
    return name, quality if quality == quality else 0.0  # NaN is unequal to itself


def _precision(media_range: str, media_type: str) -> int:
    """Return how precisely a media range matches a type; 0 where it does not."""
    if media_range == media_type:
        return 3
    if media_range == media_type.split("/")[0] + "/*":
        return 2
    return 1 if media_range == "*/*" else 0
