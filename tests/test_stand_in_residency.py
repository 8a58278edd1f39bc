"""What the stand-in for Ollama has in memory, and for how long; each test is something a real one was seen to do."""

import asyncio
import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.doubles.http import dictated
from tests.doubles.runner import keep_alive_seconds
from tests.stand_in_client import about, serving
from tests.waiting import until


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, None), (42.5, 42.5), (-1, math.inf), ("-1m", math.inf), ("0", 0.0), ("1h30m", 5400.0), ("500ms", 0.5)],
)
def test_a_keep_alive_is_a_number_or_a_duration_of_go(value: Any, seconds: float | None) -> None:
    """Numbers are seconds, and what is negative is for ever."""
    assert keep_alive_seconds(value) == seconds


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("-1", 'time: missing unit in duration "-1"'),
        ("soon", 'time: invalid duration "soon"'),
        ("1d", 'time: unknown unit "d" in duration "1d"'),
    ],
)
async def test_a_keep_alive_that_is_none_is_a_bad_request(value: str, message: str) -> None:
    """The message is Go's."""
    async with serving() as (_, client):
        assert await client.ask(keep_alive=value) == {"error": message, "status": 400}


async def test_a_request_without_keep_alive_keeps_the_present_one_and_starts_it_anew() -> None:
    """The default is for a load only, and the timer starts at the end of each request."""
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
    """A ping counts as much as a question, and infinite is no exception."""
    async with serving() as (_, client):
        await client.chat(keep_alive=-1)
        (model,) = await client.ps()
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", model["expires_at"])
        assert int(model["expires_at"][:4]) - datetime.now(UTC).year in (292, 293)
        await client.chat(path="/api/generate", keep_alive="10m")
        assert await client.left() == about(600)


async def test_a_reload_without_keep_alive_falls_back_to_the_default() -> None:
    """For ever is forgotten."""
    async with serving(keep_alive_seconds=120) as (server, client):
        await client.chat(keep_alive=-1)
        await client.ask(options={"num_ctx": 2048})
        assert await client.left() == about(120)
        assert (server.counts.loads, server.counts.reloads) == (2, 1)


async def test_an_empty_request_loads_and_reads_nothing() -> None:
    """It is answered with one JSON object, streaming or not, without a load_duration."""
    async with serving() as (server, client):
        response = await client.http.post("/api/chat", json={"model": "a"})
        assert response.headers["content-type"].startswith("application/json")
        loaded = response.json()
        assert (loaded["done"], loaded["done_reason"], loaded["message"]["content"]) == (True, "load", "")
        assert "load_duration" not in loaded
        generated = await client.chat(path="/api/generate", stream=True)
        assert (generated["done_reason"], generated["response"]) == ("load", "")
        assert (server.counts.pings, server.counts.generations) == (2, [])


async def test_nought_unloads_at_once() -> None:
    """Also where nothing is loaded."""
    async with serving() as (_, client):
        assert (await client.chat(keep_alive=0))["done_reason"] == "unload"
        await client.chat()
        assert await client.names() == ["a:latest"]
        assert (await client.chat(keep_alive=0))["done_reason"] == "unload"
        assert await client.names() == []
        assert (await client.ask(keep_alive=0))["message"]["content"] == "Paris it is."
        assert await client.names() == []


async def test_nought_during_a_stream_lets_it_end() -> None:
    """Meanwhile the model is listed as expiring now."""
    words: asyncio.Queue[str | None] = asyncio.Queue()
    async with serving(dictated(words)) as (_, client):
        words.put_nowait("Paris")
        async with client.streaming(keep_alive=-1) as lines:
            assert (await anext(lines))["message"]["content"] == "Paris"
            assert (await client.chat(keep_alive=0))["done_reason"] == "unload"
            assert abs(await client.left()) < timedelta(seconds=10)
            words.put_nowait(None)
            assert [line["done"] async for line in lines] == [True]
        assert await client.names() == []


async def test_what_expires_is_unloaded() -> None:
    """The time to live is real."""
    async with serving() as (server, client):
        await client.ask(keep_alive=0.05)
        await until(lambda: server.runner is None)
        assert await client.names() == []


@pytest.mark.parametrize(
    ("body", "reloads"),
    [
        ({"options": {"num_ctx": 2048}}, True),
        ({"options": {"num_thread": 2}}, True),
        ({"options": {"num_batch": 128}}, True),
        ({"options": {"num_gpu": 0}}, True),
        ({"options": {"use_mmap": False}}, True),
        ({"shift": False}, True),
        ({"options": {"num_ctx": 4096}}, False),
        ({"options": {"num_gpu": -1}}, False),
        ({"options": {"temperature": 0.5, "top_k": 3, "stop": ["."], "num_predict": 9, "num_keep": 4}}, False),
    ],
)
async def test_some_options_reload(body: dict[str, Any], reloads: bool) -> None:
    """A reload costs the load and all that was read."""
    async with serving() as (server, client):
        await client.ask()
        await client.ask(**body)
        assert server.counts.reloads == reloads
        assert (server.counts.generations[1].cached_tokens > 0) is not reloads


async def test_the_context_is_no_longer_than_the_model_was_trained_for() -> None:
    """What is asked beyond that is the same, and a Modelfile asks like anybody."""
    async with serving() as (server, client):
        server.parameters["a"] = {"num_ctx": 16384}
        await client.ask()
        assert [model["context_length"] for model in await client.ps()] == [8192]
        await client.ask(options={"num_ctx": 8192})
        assert server.counts.reloads == 0


async def test_a_ping_without_the_context_reloads_back_and_forth() -> None:
    """Options that are absent are the automatic ones, not those of the runner."""
    async with serving() as (server, client):
        for _ in range(3):
            await client.ask(options={"num_ctx": 2048})
            await client.chat()
        assert server.counts.loads == 6


async def test_a_change_of_options_waits_for_the_stream() -> None:
    """The stream is unharmed, and who wants what is loaded is not held up."""
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


async def test_names_that_share_a_blob_share_a_runner() -> None:
    """It is listed under the name it was loaded by, with its tag."""
    async with serving() as (server, client):
        await client.ask()
        await client.ask(model="same-as-a:latest")
        assert server.counts.loads == 1
        assert await client.names() == ["a:latest"]


@pytest.mark.parametrize(("shortest_lived", "left"), [(False, {"b:latest", "c:latest"}), (True, {"a:latest"})])
async def test_a_model_too_many_makes_another_leave(shortest_lived: bool, left: set[str]) -> None:
    """The one unused longest; Ollama itself lets the one with the longest keep-alive stay."""
    async with serving(max_loaded_models=2) as (server, client):
        server.evicts_shortest_lived = shortest_lived
        await client.chat(keep_alive=-1)
        await client.chat(model="b")
        await client.chat(model="c")
        assert len(await client.names()) == 2
        assert left <= set(await client.names())


async def test_a_model_is_listed_once_it_is_loaded() -> None:
    """The load is part of the answer's load_duration, as is what every request costs."""
    async with serving(load_seconds=0.2, overhead_seconds=0.02) as (server, client):
        answer = asyncio.create_task(client.ask())
        await until(lambda: bool(server.exchanges))
        assert await client.names() == []
        cold = (await answer)["load_duration"]
        assert await client.names() == ["a:latest"]
        warm = (await client.ask())["load_duration"]
        assert cold > 220_000_000
        assert 20_000_000 < warm < cold


async def test_hanging_up_during_the_load_aborts_it() -> None:
    """Nothing is loaded afterwards; who waited for the same load starts it again."""
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


async def test_a_load_may_fail() -> None:
    """The runner's last words are the error."""
    async with serving() as (server, client):
        server.fail_loads = "exit status 2"
        error = "llama-server process has terminated: exit status 2"
        assert await client.ask() == {"error": error, "status": 500}
        server.load_seconds, server.fail_loads = 60, None
        loading = asyncio.create_task(client.ask())
        await until(lambda: len(server.exchanges) == 2)
        server.kill_runner()
        assert (await loading)["error"] == "llama-server process has terminated: signal: killed"


async def test_a_runner_that_dies_idle_goes_on_being_listed() -> None:
    """The next request notices, and loads it with the default keep-alive."""
    async with serving() as (server, client):
        await client.ask(keep_alive=-1)
        server.kill_runner("a")
        assert await client.left() > timedelta(days=365)
        await client.chat()
        assert await client.left() == about(300)
        assert server.counts.reloads == 1


@pytest.mark.parametrize("wanted", [{"model": "b"}, {"options": {"num_ctx": 2048}}])
async def test_a_keep_alive_amid_an_answer_locks_everybody_out(wanted: dict[str, Any]) -> None:
    """Who waits for room waits for ever, though the client hangs up and asks again, until the model is let go."""
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


@pytest.mark.parametrize("wanted", [{"model": "b"}, {"options": {"num_ctx": 2048}}])
async def test_without_a_keep_alive_amid_an_answer_the_other_gets_its_turn(wanted: dict[str, Any]) -> None:
    """As soon as the model is idle it goes, whatever it had been told before."""
    words: asyncio.Queue[str | None] = asyncio.Queue()
    async with serving(dictated(words), max_loaded_models=1) as (server, client):
        words.put_nowait("Paris")
        async with client.streaming(keep_alive=-1) as lines:
            await anext(lines)
            other = asyncio.create_task(client.chat(**wanted))
            await until(lambda: server.runner is not None and server.runner.keep_alive_seconds == 0)
            await client.chat()
            words.put_nowait(None)
            assert [line["done"] async for line in lines] == [True]
        assert (await other)["done_reason"] == "load"
