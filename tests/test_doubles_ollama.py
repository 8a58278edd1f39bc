"""The double of Ollama: what it has in memory, and for how long; each test is something a real one was seen to do."""

import asyncio
import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.doubles.http import dictated
from tests.doubles.runner import keep_alive_seconds
from tests.ollama_client import SYSTEM, about, serving
from tests.waiting import until


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, None), (42.5, 42.5), (-1, math.inf), ("-1m", math.inf), ("0", 0.0), ("1h30m", 5400.0), ("500ms", 0.5)],
)
def test_a_keep_alive_is_a_number_or_a_duration_of_go(value: Any, seconds: float | None) -> None:
    assert keep_alive_seconds(value) == seconds


async def test_a_request_without_keep_alive_keeps_the_present_one_and_starts_it_anew() -> None:
    async with serving() as (server, client):
        assert (await client.ask())["done"]
        assert await client.left() == about(300)
        await client.ask(keep_alive=900)
        (before,) = await client.ps()
        server.seconds_per_token = 0.05
        await client.ask()
        (after,) = await client.ps()
        assert await client.left() == about(900)
        later = datetime.fromisoformat(after["expires_at"]) - datetime.fromisoformat(before["expires_at"])
        assert later > timedelta(seconds=0.1)


async def test_any_request_changes_the_keep_alive_up_and_down() -> None:
    async with serving() as (_, client):
        await client.chat(keep_alive=-1)
        (model,) = await client.ps()
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", model["expires_at"])
        assert int(model["expires_at"][:4]) - datetime.now(UTC).year in (292, 293)
        await client.chat(keep_alive="10m")
        assert await client.left() == about(600)


async def test_nought_unloads_at_once() -> None:
    async with serving() as (_, client):
        assert (await client.chat(keep_alive=0))["done_reason"] == "unload"
        await client.chat()
        assert await client.names() == ["a:latest"]
        assert (await client.chat(keep_alive=0))["done_reason"] == "unload"
        assert await client.names() == []
        assert (await client.ask(keep_alive=0))["message"]["content"] == "Paris it is."
        assert await client.names() == []


@pytest.mark.parametrize(
    ("body", "reloads"),
    [
        ({"options": {"num_ctx": 2048}}, True),
        ({"options": {"num_thread": 2}}, True),
        ({"options": {"num_batch": 128}}, True),
        ({"options": {"num_gpu": 0}}, True),
        ({"options": {"use_mmap": False}}, True),
        ({"options": {"num_ctx": 4096}}, False),
        ({"options": {"num_gpu": -1}}, False),
        ({"options": {"temperature": 0.5, "top_k": 3, "stop": ["."], "num_predict": 9, "num_keep": 4}}, False),
    ],
)
async def test_some_options_reload(body: dict[str, Any], reloads: bool) -> None:
    async with serving() as (server, client):
        await client.ask()
        await client.ask(**body)
        assert server.counts.reloads == reloads
        assert (server.counts.generations[1].cached_tokens > 0) is not reloads


async def test_a_change_of_options_waits_for_the_stream() -> None:
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


async def test_a_model_too_many_makes_another_leave() -> None:
    async with serving(max_loaded_models=2) as (_, client):
        await client.chat(keep_alive=-1)
        await client.chat(model="b")
        await client.chat(model="c")
        assert set(await client.names()) == {"a:latest", "c:latest"}


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
async def test_a_keep_alive_amid_an_answer_locks_everybody_out(wanted: dict[str, Any]) -> None:
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
        for _ in range(3):  # while who has no wish of its own is served
            assert (await client.chat())["done_reason"] == "load"
        assert (again.done(), server.counts.loads) == (False, 1)
        assert (await client.chat(keep_alive=0))["done_reason"] == "unload"
        assert (await again)["done_reason"] == "load"


@pytest.mark.parametrize("num_parallel", [1, 2])
async def test_answers_are_generated_one_after_another(num_parallel: int) -> None:
    words: asyncio.Queue[str | None] = asyncio.Queue()
    async with serving(dictated(words), num_parallel=num_parallel, max_queue=1) as (server, client):
        await client.chat()
        answers = [asyncio.create_task(client.ask()) for _ in range(num_parallel + 1)]
        await until(lambda: len(server.exchanges) == num_parallel + 2)
        assert (await client.chat())["done_reason"] == "load"
        assert len(server.counts.generations) == num_parallel
        busy = "server busy, please try again.  maximum pending requests exceeded"
        assert await client.ask() == {"error": busy, "status": 503}
        for word in ["Paris", None] * (num_parallel + 1):
            words.put_nowait(word)
        assert sum([len((await answer)["message"]["content"]) for answer in answers]) == 5 * len(answers)


async def test_what_was_read_is_not_read_again() -> None:
    async with serving() as (server, client):
        first, other, again = ({"role": "user", "content": text} for text in ("Hello there", "Anything", "Once more"))
        await client.chat(SYSTEM, first)
        await client.chat(other)
        await client.chat()
        await client.chat(SYSTEM, first, {"role": "assistant", "content": "Paris it is."}, again)
        await client.chat(keep_alive=0)
        await client.chat(SYSTEM, first)
        cold, _, warm, lost = server.counts.generations
        assert cold.cached_tokens == 0
        assert warm.cached_tokens > cold.evaluated_tokens
        assert warm.evaluated_tokens < 10
        assert lost == cold
