"""Asks a stand-in for Ollama, as `curl` would."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.doubles.http import Words, script
from tests.doubles.ollama import OllamaServer
from tests.waiting import PATIENCE_SECONDS

PARIS = script("Paris", " it", " is.")
SYSTEM = {"role": "system", "content": "You are the voice of the house. " * 40}
MODELS = {"a": "a", "b": "b", "c": "c", "same-as-a": "a"}


class Client:
    """Asks as `curl` would."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def chat(self, *messages: dict[str, str], **body: Any) -> dict[str, Any]:
        """Return a whole answer; without messages it is a ping."""
        response = await self.http.post("/api/chat", json={"model": "a", "messages": messages, "stream": False, **body})
        document: dict[str, Any] = response.json()
        return document | ({} if response.is_success else {"status": response.status_code})

    async def ask(self, question: str = "Hi", **body: Any) -> dict[str, Any]:
        """Return the whole answer to a question."""
        return await self.chat({"role": "user", "content": question}, **body)

    @asynccontextmanager
    async def streaming(self, **body: Any) -> AsyncGenerator[AsyncGenerator[Any, None], None]:
        """Ask and give out the lines as they come; leaving hangs up."""
        request = {"model": "a", "messages": [{"role": "user", "content": "Hi"}], **body}
        async with self.http.stream("POST", "/api/chat", json=request) as response:
            yield (json.loads(line) async for line in response.aiter_lines())

    async def ps(self) -> list[dict[str, Any]]:
        """Return what is loaded."""
        return list((await self.http.get("/api/ps")).json()["models"])

    async def names(self) -> list[str]:
        """Return the names of what is loaded."""
        return [model["name"] for model in await self.ps()]

    async def left(self) -> timedelta:
        """Return how long the one loaded model stays."""
        (model,) = await self.ps()
        return datetime.fromisoformat(model["expires_at"]) - datetime.now(UTC)


@asynccontextmanager
async def serving(words: Words = PARIS, **settings: Any) -> AsyncIterator[tuple[OllamaServer, Client]]:
    """A server of these settings, and a client."""
    async with (
        OllamaServer(words, **{"models": dict(MODELS), **settings}) as server,
        httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_SECONDS) as http,
    ):
        yield server, Client(http)


def about(seconds: float) -> Any:
    """Match a time left of so many seconds, some of which have passed."""
    return pytest.approx(timedelta(seconds=seconds), abs=timedelta(seconds=15))
