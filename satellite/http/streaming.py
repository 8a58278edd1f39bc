"""Responses that come while they are made."""

import json
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

from fastapi.sse import format_sse_event
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

EVENT_STREAM = "text/event-stream"

EVENT_SCHEMA: dict[str, Any] = {
    "itemSchema": {
        "type": "object",
        "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
        "required": ["data"],
    }
}
"""How the description of an endpoint describes such a stream."""


class Streamed(StreamingResponse):
    """A response whose generator is closed however it ends, and the work behind it with it; then `on_end` is called."""

    on_end: Callable[[], None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self.on_end is not None:
                self.on_end()

    async def stream_response(self, send: Send) -> None:
        """Send everything; Starlette itself leaves a generator that was not used up to the garbage collector."""
        async with aclosing(self.body_iterator):  # type: ignore[type-var]  # always an asynchronous generator here
            await super().stream_response(send)


def sse(event: str | None, data: Any) -> bytes:
    """Return a server-sent event."""
    return format_sse_event(event=event, data_str=json.dumps(data))
