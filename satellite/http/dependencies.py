"""What FastAPI hands to endpoints besides the request's own fields."""

from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from satellite.http.context import Context


# Asynchronous, since FastAPI calls other functions in a thread.
async def _context(connection: HTTPConnection) -> Context:
    context: Context = connection.app.state.context
    return context


async def _client(connection: HTTPConnection) -> str:
    return connection.client.host if connection.client else "unknown"


Parts = Annotated[Context, Depends(_context)]
"""The parts of the daemon that endpoints use."""

ClientAddress = Annotated[str, Depends(_client)]
"""The address of the client; behind a trusted proxy, the one that it names."""
