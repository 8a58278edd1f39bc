"""Doubles of chat servers: killed and started again, frozen, a process of their own; and the limits of a hosted one."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.doubles.http import script
from tests.doubles.limits import Limits, duration
from tests.doubles.ollama import OllamaServer
from tests.doubles.openai import OpenAIServer
from tests.waiting import PATIENCE_SECONDS

PATHS = {OllamaServer: "/api/chat", OpenAIServer: "/openai/v1/chat/completions"}
BODY = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
Server = OllamaServer | OpenAIServer


def serve(kind: type[Server]) -> Server:
    """Return a server that says two words."""
    words = script("Paris", ".")
    return OllamaServer(words, models={"m": "m"}) if kind is OllamaServer else OpenAIServer(words, model="m")


@asynccontextmanager
async def serving(kind: type[Server]) -> AsyncIterator[tuple[Server, httpx.AsyncClient]]:
    """A server and a client."""
    async with (
        serve(kind) as server,
        httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_SECONDS) as http,
    ):
        yield server, http


@pytest.fixture(params=[OllamaServer, OpenAIServer])
def kind(request: pytest.FixtureRequest) -> type[Server]:
    """Each kind in turn."""
    chosen: type[Server] = request.param
    return chosen


async def test_a_killed_server_comes_back_on_its_port(kind: type[Server]) -> None:
    """Nobody listens meanwhile, and nothing is remembered."""
    async with serving(kind) as (server, http):
        for _ in range(3):
            assert "Paris" in (await http.post(PATHS[kind], json=BODY)).text
            url = server.url
            await server.stop()
            await server.stop()
            with pytest.raises(httpx.TransportError):
                await http.get("/")
            await server.start()
            assert server.url == url
            if isinstance(server, OllamaServer):
                assert (await http.get("/api/ps")).json() == {"models": []}


@asynccontextmanager
async def process(*arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Run a stand-in as a process and give out its URL."""
    command = (sys.executable, "-m", "tests.doubles", *arguments)
    root = Path(__file__).parent.parent
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=root)
    assert child.stdout is not None
    try:
        yield child, (await child.stdout.readline()).decode().removeprefix("listening at ").strip()
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


async def said(url: str, path: str, **more: Any) -> str:
    """Return the answer of a stand-in to a question."""
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_SECONDS) as http:
        return (await http.post(path, json=BODY | {"stream": False} | more)).text


async def test_a_stand_in_is_a_process_of_its_own() -> None:
    """It tells where it listens, says what it is given, and ends in good order."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        ollama = ("ollama", "--port", "0", "--say", "Hello there.", "--model", "m", "n=m", "--keep-alive", "-1")
        async with process(*ollama) as (child, url):
            assert "Hello there." in await said(url, "/api/chat")
            assert "Hello there." in await said(url, "/api/chat", model="n")
            child.send_signal(signal.SIGTERM)
            assert await child.wait() == 0
        async with process("openai", "--model", "m", "--key", "right") as (child, url):
            assert "Invalid API Key" in await said(url, "/openai/v1/chat/completions")
            child.send_signal(signal.SIGINT)
            assert await child.wait() == 0


async def test_the_limits_count_down_and_refuse() -> None:
    """Each reply tells what is left and when all of it is back; the one too many tells when to come again."""
    words = script("Paris", " it", " is.")
    async with (
        OpenAIServer(words) as server,
        openai.AsyncOpenAI(base_url=server.base_url, api_key="right", max_retries=0) as client,
    ):
        create: Any = client.chat.completions.with_raw_response.create
        ask = partial(create, model=server.model, messages=[{"role": "user", "content": "Capital of France?"}])
        assert not [name for name in (await ask()).headers if name.startswith("x-ratelimit")]
        server.limits = Limits(requests=2, requests_seconds=120, tokens=1000)
        headers = (await ask(stream=True)).headers
        assert headers["x-ratelimit-limit-requests"] == "2"
        assert headers["x-ratelimit-remaining-requests"] == "1"
        assert headers["x-ratelimit-reset-requests"].startswith(("1m0s", "59.", "58."))
        assert 970 < int(headers["x-ratelimit-remaining-tokens"]) < 1000
        await ask()
        with pytest.raises(openai.RateLimitError, match="Please try again in") as caught:
            await ask()
        assert caught.value.response.headers["retry-after"] in ("58", "59", "60")
        assert caught.value.response.headers["x-ratelimit-remaining-requests"] == "0"
        assert server.answers == 3


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(179.56, "2m59.56s"), (7.66, "7.66s"), (0.12, "120ms"), (60, "1m0s"), (3723.5, "1h2m3.5s"), (0, "0ms")],
)
def test_durations_are_written_as_groq_does(seconds: float, text: str) -> None:
    """Hours, minutes, seconds with hundredths; below one second milliseconds."""
    assert duration(seconds) == text
