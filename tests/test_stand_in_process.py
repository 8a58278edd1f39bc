"""What happens to a whole stand-in: it is killed and started again, frozen, slow, or a process of its own."""

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.doubles.http import dictated, script
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


async def test_killing_the_server_cuts_an_answer(kind: type[Server]) -> None:
    """The client sees the connection break, in the middle and before the first word."""
    async with serving(kind) as (server, http):
        words: asyncio.Queue[str | None] = asyncio.Queue()
        server.words = dictated(words)
        words.put_nowait("Paris")
        async with http.stream("POST", PATHS[kind], json=BODY) as response:
            lines = response.aiter_lines()
            while "Paris" not in await anext(lines):
                pass
            await server.stop()
            with pytest.raises(httpx.TransportError):
                async for _ in lines:
                    pass
        await server.start()
        server.asked.clear()
        waiting = asyncio.create_task(http.post(PATHS[kind], json=BODY))
        await server.asked.wait()
        await server.stop()
        with pytest.raises(httpx.TransportError):
            await waiting


async def test_a_frozen_server_answers_nothing_until_it_thaws(kind: type[Server]) -> None:
    """New connections are made, open ones fall silent, and what was asked meanwhile is answered afterwards."""
    async with serving(kind) as (server, http):
        words: asyncio.Queue[str | None] = asyncio.Queue()
        server.words = dictated(words)
        words.put_nowait("Paris")
        async with http.stream("POST", PATHS[kind], json=BODY) as response:
            lines = (line async for line in response.aiter_lines() if line)
            while "Paris" not in await anext(lines):
                pass
            server.freeze()
            words.put_nowait(None)
            last = asyncio.ensure_future(anext(lines))
            other = asyncio.create_task(http.get("/"))
            given_up = asyncio.create_task(http.get("/"))
            await asyncio.wait([last, other], timeout=0.1)
            assert not last.done()
            assert not other.done()
            assert len(server.exchanges) == 1
            given_up.cancel()
            server.thaw()
            assert "stop" in await last
            assert (await other).status_code in (200, 404)


async def test_a_frozen_server_can_be_killed(kind: type[Server]) -> None:
    """It comes back thawed."""
    async with serving(kind) as (server, http):
        server.freeze()
        waiting = asyncio.create_task(http.get("/"))
        while not server.connections:
            await asyncio.sleep(0.005)
        await server.stop()
        with pytest.raises(httpx.TransportError):
            await waiting
        await server.start()
        assert "Paris" in (await http.post(PATHS[kind], json=BODY)).text


async def test_words_come_as_slowly_as_is_set(kind: type[Server]) -> None:
    """The first token and the others, at run time."""
    async with serving(kind) as (server, http):
        await http.post(PATHS[kind], json=BODY)
        server.first_token_seconds, server.seconds_per_token = 0.1, 0.05
        began = time.monotonic()
        await http.post(PATHS[kind], json=BODY)
        assert time.monotonic() - began > 0.15


async def test_a_request_that_is_no_http_ends_the_connection(kind: type[Server]) -> None:
    """And nothing else."""
    async with serving(kind) as (server, http):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"\xff\xfe nonsense\r\n")
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        response = await http.post(PATHS[kind], json=BODY, headers={"connection": "close"})
        assert "Paris" in response.text


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


@pytest.mark.models
async def test_the_process_answers_with_a_real_model(models_directory: Path) -> None:
    """The words are the GGUF's own."""
    file = models_directory / "chat" / "smollm2-135m-instruct" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    question = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Capital of France?"}]
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        process("ollama", "--model", "m", "--gguf", str(file)) as (child, url),
    ):
        assert "Paris" in await said(url, "/api/chat", messages=question)
        child.send_signal(signal.SIGTERM)
        assert await child.wait() == 0
