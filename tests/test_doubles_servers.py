"""The doubles of chat servers as processes of their own, and the rate limits of a hosted one."""

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
from tests.doubles.limits import Limits
from tests.doubles.openai import OpenAIServer
from tests.waiting import PATIENCE_SECONDS

BODY = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}


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
