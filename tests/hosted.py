"""A provider outside the house, with a key, for tests."""

import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from satellite.config.chat import OpenAISettings
from tests.doubles.openai import OpenAIServer

KEY = "gsk_NobodyMayEverSeeThis"
OUTSIDE = "http://chat.example.com/openai/v1"


@asynccontextmanager
async def outside(server: OpenAIServer, *, proxy: str = "", key: str = KEY) -> AsyncIterator[OpenAISettings]:
    """Yield the settings of a provider with a public name; `server` answers in its place, directly or by `proxy`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GROQ_API_KEY", key)
        # It stands in for the house's proxy, through which a public name is reached without a network.
        patch.setenv("HTTP_PROXY", proxy or server.url)
        yield OpenAISettings(type="openai", url=OUTSIDE, model=server.model)


def shown(error: BaseException) -> str:
    """Return all that a crash report could show of an error: its chain, and the variables of every frame."""
    return "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
