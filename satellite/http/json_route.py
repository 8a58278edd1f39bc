"""Bounds JSON of clients: parsing it, and describing each mistake in it, takes time of the event loop."""

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import Response

from satellite.http.schemas import MOST_VALUES, has_many_values

_MOST_BYTES = 2 * 1024 * 1024


class JsonRoute(APIRoute):
    """An endpoint whose JSON is bounded."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what handles a request."""
        handle = super().get_route_handler()

        async def bounded(request: Request) -> Response:
            return await handle(_BoundedRequest(request.scope, request.receive))

        return bounded


class _BoundedRequest(Request):
    async def json(self) -> Any:  # as in Starlette
        body = await self.body()
        if len(body) > _MOST_BYTES:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"JSON is larger than {_MOST_BYTES} bytes")
        if has_many_values(body):
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"JSON has more than {MOST_VALUES} values")
        return await super().json()
