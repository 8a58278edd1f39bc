"""What HTTP adds: to the pipeline's own time, to the model's first word, and to what others wait for meanwhile."""

import asyncio
import json
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect

from satellite.audio.pcm import AudioFormat, Converter
from satellite.errors import SatelliteError
from satellite_bench import own
from satellite_bench.server import Server, described, free_port, started
from satellite_bench.stats import Summary, summarise

IDLE = 200
TALKING = 20

_QUESTION = "What is the capital of France?"
_REPEATS = 60
_TALKING_SECONDS = 20.0
_REST_SECONDS = 0.05
_CHUNK_SECONDS = 0.04
_CHUNK_BYTES = 1280
_PAUSE = bytes(2 * 32_000)
_READY_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class HttpResult:
    """All in milliseconds."""

    chat_overhead_ms: Summary
    """`POST /chat` as a client sees it, less what the run says it took."""

    first_token_overhead_ms: Summary
    """Question sent over `/ws` to the first word, less the model's own time to it."""

    describe_alone_ms: Summary
    describe_idle_ms: Summary
    describe_talking_ms: Summary
    commands: int
    """Voice commands that were answered or refused meanwhile."""

    idle_clients: int = IDLE
    talking_clients: int = TALKING


async def measure(
    folder: Path, models: Path, threads: int, *, repeats: int | None = None, talking_seconds: float = _TALKING_SECONDS
) -> HttpResult:
    """Start our daemon and measure it; raises `SatelliteError` when it cannot be."""
    port = free_port()
    settings = {"http": {"port": port, "requests_per_minute": 1_000_000, "max_concurrent": 2 * TALKING}}
    async with started(own.daemon(folder, models, threads, settings=settings)) as daemon:
        try:
            return await _measured(daemon, port, repeats or _REPEATS, talking_seconds)
        except (httpx.HTTPError, KeyError, TimeoutError) as error:
            raise SatelliteError(f"http: {type(error).__name__}: {error}", code="bench-request") from error


async def _measured(daemon: Server, port: int, repeats: int, talking_seconds: float) -> HttpResult:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        await _ready(client)
        chat_ms = summarise([await _chat_overhead(client) for _ in range(repeats)])
        command = await _command(client)
    address = f"ws://127.0.0.1:{port}/ws"
    async with connect(address, compression=None) as socket:
        await socket.send(json.dumps({"type": "hello", "speak": False}))
        first_token_ms = summarise([await _first_token_overhead(socket) for _ in range(repeats)])
    alone_ms = summarise([await _describe(daemon) for _ in range(repeats)])
    async with AsyncExitStack() as idle:
        for _ in range(IDLE):
            await idle.enter_async_context(connect(address, compression=None))
        idle_ms = summarise([await _describe(daemon) for _ in range(repeats)])
        counts = [0] * TALKING
        talking = [asyncio.create_task(_talk(address, command, counts, at)) for at in range(TALKING)]
        try:
            end = time.monotonic() + talking_seconds
            waits = []
            # On a slow machine the first command takes longer than all of that.
            while (now := time.monotonic()) < end or (not sum(counts) and now < end + _READY_SECONDS):
                waits.append(await _describe(daemon))
                await asyncio.sleep(_REST_SECONDS)
        finally:
            for task in talking:
                task.cancel()
            await asyncio.gather(*talking, return_exceptions=True)
    return HttpResult(chat_ms, first_token_ms, alone_ms, idle_ms, summarise(waits), sum(counts))


async def _ready(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(_READY_SECONDS):
        while True:
            try:
                if (await client.get("/readyz")).is_success:
                    return
            except httpx.TransportError:
                pass  # it does not listen yet
            await asyncio.sleep(0.1)


async def _chat_overhead(client: httpx.AsyncClient) -> float:
    began = time.perf_counter()
    response = await client.post("/chat", json={"text": _QUESTION})
    seconds = time.perf_counter() - began
    response.raise_for_status()
    return 1000 * seconds - float(response.json()["timings_ms"]["total"])


async def _command(client: httpx.AsyncClient) -> bytes:
    """Return a spoken question and silence."""
    spoken = await client.post("/tts", json={"text": _QUESTION}, headers={"Accept": "audio/pcm"})
    spoken.raise_for_status()
    converter = Converter(AudioFormat(int(spoken.headers["satellite-sample-rate"])))
    return converter.convert(spoken.content) + converter.flush() + _PAUSE


async def _first_token_overhead(socket: ClientConnection) -> float:
    began = time.perf_counter()
    await socket.send(json.dumps({"type": "text", "text": _QUESTION}))
    first: float | None = None
    model = 0.0
    while (event := await _event(socket))["type"] != "run-end":
        if event["type"] == "chat-delta" and first is None:
            first = 1000 * (time.perf_counter() - began)
        elif event["type"] == "chat-end":
            model = float(event["first_token_ms"])
    if first is None:
        raise SatelliteError("http: a question over /ws was not answered", code="bench-request")
    return first - model


async def _talk(address: str, command: bytes, counts: list[int], at: int) -> None:
    """Ask by voice again and again, at the pace of a microphone."""
    async with connect(address, compression=None, max_size=None, ping_timeout=None) as socket:
        while True:
            await socket.send(json.dumps({"type": "listen"}))
            speaking = asyncio.create_task(_speak(socket, command))
            try:
                while (await _event(socket))["type"] != "run-end":
                    pass
                counts[at] += 1
                await speaking
            finally:
                speaking.cancel()
                await asyncio.gather(speaking, return_exceptions=True)


async def _speak(socket: ClientConnection, command: bytes) -> None:
    for begin in range(0, len(command), _CHUNK_BYTES):
        await socket.send(command[begin : begin + _CHUNK_BYTES])
        await asyncio.sleep(_CHUNK_SECONDS)


async def _event(socket: ClientConnection) -> dict[str, Any]:
    while isinstance(message := await socket.recv(), bytes):
        pass
    event: dict[str, Any] = json.loads(message)
    return event


async def _describe(daemon: Server) -> float:
    began = time.perf_counter()
    await described(daemon.port)
    return 1000 * (time.perf_counter() - began)
