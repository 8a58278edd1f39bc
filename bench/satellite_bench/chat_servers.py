"""The processes of the chat part: stand-ins for chat servers, and daemons that ask them."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wyoming.event import Event

from satellite.errors import SatelliteError
from satellite_bench import own
from satellite_bench.server import Command, Server, connected, free_port, reachable, receive, started

SECOND = "second"
"""Name of the provider that answers when Ollama is down."""

MODEL = "smollm2"
OVERHEAD_SECONDS = 0.068
"""What every request costs a real Ollama beside the model's own work, as it was seen."""

LOAD_SECONDS = 0.8

_STATUS = "status"
"""Type of the event that asks for the state of the daemon, and of the one that brings it."""

_SECOND_MODEL = "llama-3.1-8b-instant"
_READY_SECONDS = 120.0
_POLL_SECONDS = 0.1
_STATUS_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class ChatDaemon:
    """A daemon whose chat model is ready."""

    handle: Server
    """Its port for conversation."""

    port: int
    """Its port with all services."""


@asynccontextmanager
async def stand_in(kind: str, *options: str) -> AsyncIterator[str]:
    """Run a stand-in for a chat server for the length of the `with`, and yield its URL."""
    port = free_port()
    arguments = [sys.executable, "-m", "tests.doubles", kind, "--port", str(port), *options]
    async with started(Command(f"the stand-in ({kind})", port, arguments, own.doubles_environment(), reachable)):
        yield f"http://127.0.0.1:{port}"


def like_ollama(*words: str, keep_alive_seconds: float = 300) -> tuple[str, ...]:
    """Return the options of a stand-in that takes a real Ollama's time; `words` name the source of its answers."""
    times = {"--overhead-seconds": OVERHEAD_SECONDS, "--load-seconds": LOAD_SECONDS, "--keep-alive": keep_alive_seconds}
    return (*words, "--model", MODEL, *(text for name, value in times.items() for text in (name, f"{value:g}")))


def asking_ollama(url: str, model: str = MODEL, num_ctx: int = 4096) -> dict[str, Any]:
    """Return the settings of a chat model served by Ollama.

    Its prompt has no time of day, which would change prompt and answer from minute to minute.
    """
    return {"providers": [{"type": "ollama", "url": url, "model": model, "num_ctx": num_ctx}], "tell": []}


def asking_second(url: str, *before: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a chat model behind an OpenAI-compatible API, asked after the providers `before`."""
    second = {"type": "openai", "name": SECOND, "url": f"{url}/openai/v1", "model": _SECOND_MODEL}
    return {"providers": [*map(dict, before), second], "tell": []}


@dataclass(frozen=True, slots=True)
class Daemons:
    """Starts daemons that differ in nothing but their chat model."""

    folder: Path
    models: Path
    threads: int

    @asynccontextmanager
    async def running(
        self, chat: Mapping[str, Any], *, keeps_warm: bool = True, name: str = own.NAME
    ) -> AsyncIterator[ChatDaemon]:
        """Run a daemon for the length of the `with`; raises `SatelliteError` when its chat model is not ready."""
        handle_port = free_port()
        settings = {"chat": dict(chat), "keepalive": {"enabled": keeps_warm}}
        command = own.daemon(self.folder, self.models, self.threads, handle_port=handle_port, settings=settings)
        async with started(replace(command, name=name)) as server:
            await ready(server)
            yield ChatDaemon(replace(server, port=handle_port), server.port)


async def ready(server: Server) -> None:
    """Wait until the daemon is ready; raises `SatelliteError` when it is not in time, or has no chat model."""
    deadline = time.monotonic() + _READY_SECONDS
    while not (state := await status(server.port))["ready"]:
        if time.monotonic() > deadline:
            raise SatelliteError(f"{server.name} was not ready in time", code="bench-server")
        await asyncio.sleep(_POLL_SECONDS)
    for stage in state["stages"]:
        if stage["stage"] == "chat" and stage["state"] != "ready":
            raise SatelliteError(f"{server.name}: no chat model: {stage['message']}", code="bench-chat")


async def status(port: int) -> dict[str, Any]:
    """Return what the daemon says of itself."""
    async with asyncio.timeout(_STATUS_SECONDS), connected(port) as client:
        await client.write_event(Event(_STATUS))
        while (event := await receive(client)).type != _STATUS:
            pass
    return event.data
