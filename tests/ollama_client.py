"""Asks a stand-in for Ollama, as `curl` would."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx


class Client:
    """Another client of the same Ollama."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def chat(self, *messages: dict[str, str], **body: Any) -> dict[str, Any]:
        """Return a whole answer; without messages it is a ping."""
        request = {"model": "smollm2", "messages": messages, "stream": False, **body}
        response = await self.http.post("/api/chat", json=request)
        document: dict[str, Any] = response.json()
        return document | ({} if response.is_success else {"status": response.status_code})

    async def ask(self, question: str = "Hi", **body: Any) -> dict[str, Any]:
        return await self.chat({"role": "user", "content": question}, **body)

    @asynccontextmanager
    async def streaming(self, **body: Any) -> AsyncGenerator[AsyncGenerator[Any, None], None]:
        """Ask and give out the lines as they come; leaving hangs up."""
        request = {"model": "smollm2", "messages": [{"role": "user", "content": "Hi"}], **body}
        async with self.http.stream("POST", "/api/chat", json=request) as response:
            yield (json.loads(line) async for line in response.aiter_lines())

    async def ps(self) -> list[dict[str, Any]]:
        return list((await self.http.get("/api/ps")).json()["models"])

    async def names(self) -> list[str]:
        return [model["name"] for model in await self.ps()]

    async def left(self) -> timedelta:
        """Return how long the one loaded model stays."""
        (model,) = await self.ps()
        return datetime.fromisoformat(model["expires_at"]) - datetime.now(UTC)
