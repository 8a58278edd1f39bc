"""The double of Ollama: what it has in memory, and for how long; each test is something a real one was seen to do."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.doubles.http import Words, dictated, script
from tests.doubles.ollama import OllamaServer
from tests.doubles.runner import keep_alive_seconds
from tests.ollama_client import Client
from tests.waiting import PATIENCE_SECONDS, until

pytestmark = pytest.mark.virtual_clock

PARIS = script("Paris", " it", " is.")


@asynccontextmanager
async def serving(words: Words = PARIS, **settings: Any) -> AsyncIterator[tuple[OllamaServer, Client]]:
    models = {"smollm2": "smollm2", "b": "b"}
    async with (
        OllamaServer(words, models=models, **settings) as server,
        httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_SECONDS, verify=False) as http,
    ):
        yield server, Client(http)


def about(seconds: float) -> Any:
    """Match a time left of so many seconds, some of which have passed."""
    return pytest.approx(timedelta(seconds=seconds), abs=timedelta(seconds=15))


@pytest.mark.parametrize(
    ("value", "seconds"), [(None, None), (42.5, 42.5), (-1, math.inf), ("-1m", math.inf), ("0", 0.0), ("500ms", 0.5)]
)
def test_a_keep_alive_is_a_number_or_a_duration_of_go(value: Any, seconds: float | None) -> None:
    assert keep_alive_seconds(value) == seconds


async def test_a_keep_alive_lasts_until_another_request_brings_one() -> None:
    async with serving() as (_, client):
        assert (await client.ask())["done"]
        assert await client.left() == about(300)
        await client.ask(keep_alive=900)
        (before,) = await client.ps()
        await client.ask()
        (after,) = await client.ps()
        assert await client.left() == about(900)
        assert after["expires_at"] > before["expires_at"]  # which every request starts anew
        await client.chat(keep_alive=-1)
        (model,) = await client.ps()
        assert int(model["expires_at"][:4]) - datetime.now(UTC).year in (292, 293)
        await client.chat(keep_alive="10m")
        assert await client.left() == about(600)


async def test_a_reload_waits_for_the_stream() -> None:
    words: asyncio.Queue[str | None] = asyncio.Queue()
    async with serving(dictated(words)) as (server, client):
        words.put_nowait("Paris")
        async with client.streaming() as lines:
            await anext(lines)
            reload = asyncio.create_task(client.chat(options={"num_ctx": 2048}))
            await until(lambda: len(server.exchanges) == 2)
            assert (await client.chat())["done_reason"] == "load"
            assert (reload.done(), server.counts.reloads) == (False, 0)
            words.put_nowait(None)
            assert [line["done_reason"] async for line in lines] == ["stop"]
            assert (await reload)["done_reason"] == "load"
        assert [model["context_length"] for model in await client.ps()] == [2048]


async def test_hanging_up_during_the_load_aborts_it() -> None:
    async with serving(load_seconds=60) as (server, client):
        first = asyncio.create_task(client.ask())
        await until(lambda: len(server.exchanges) == 1)
        second = asyncio.create_task(client.ask())
        await until(lambda: len(server.exchanges) == 2)
        first.cancel()
        await until(lambda: server.counts.aborted_loads == 1)
        assert (server.runner, server.counts.loads) == (None, 0)
        second.cancel()
        await until(lambda: server.counts.aborted_loads == 2)
        server.load_seconds = 0.01
        assert (await client.ask())["done"]
        assert server.counts.loads == 1


@pytest.mark.parametrize("wanted", [{"model": "b"}, {"options": {"num_ctx": 2048}}])
async def test_a_keep_alive_during_an_answer_locks_everybody_out(wanted: dict[str, Any]) -> None:
    words: asyncio.Queue[str | None] = asyncio.Queue()
    async with serving(dictated(words), max_loaded_models=1) as (server, client):
        words.put_nowait("Paris")
        async with client.streaming(keep_alive=-1) as lines:
            await anext(lines)
            other = asyncio.create_task(client.chat(**wanted))
            await until(lambda: server.runner is not None and server.runner.keep_alive_seconds == 0)
            await client.chat(keep_alive=-1)
            words.put_nowait(None)
            assert [line["done"] async for line in lines] == [True]
        other.cancel()
        again = asyncio.create_task(client.chat(**wanted))
        for _ in range(3):  # while a client that has no wish of its own is served
            assert (await client.chat())["done_reason"] == "load"
        assert (again.done(), server.counts.loads) == (False, 1)
        assert (await client.chat(keep_alive=0))["done_reason"] == "unload"
        assert (await again)["done_reason"] == "load"
