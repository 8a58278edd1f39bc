"""How the stand-in for Ollama answers; each test is something a real one was seen to do."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import ollama
import openai
import pytest

from satellite.config.settings import Chat, Local
from satellite.engines.chat.llama_cpp import LlamaCppChat
from tests.doubles.http import dictated, thought_by
from tests.doubles.ollama import OllamaServer
from tests.stand_in_client import PARIS, SYSTEM, about, serving
from tests.waiting import PATIENCE_SECONDS, until


async def test_the_compatible_api_can_set_neither_keep_alive_nor_context() -> None:
    """It leaves the one as it is, and reloads a model whose context is not the automatic one."""
    async with serving() as (server, client):
        await client.chat(keep_alive=900, options={"num_ctx": 2048})
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as compatible:
            create: Any = compatible.chat.completions.create
            question = {"model": "a", "messages": [{"role": "user", "content": "Hi"}]}
            whole = await create(**question, extra_body={"keep_alive": 900})
            assert whole.choices[0].message.content == "Paris it is."
            assert await client.left() == about(300)
            pieces = [chunk.choices[0] async for chunk in await create(**question, max_tokens=2, stream=True)]
            assert [piece.delta.content for piece in pieces] == ["Paris", " it", ""]
            assert pieces[-1].finish_reason == "length"
            with pytest.raises(openai.NotFoundError, match="model 'nope' not found"):
                await create(**{**question, "model": "nope"})
        assert server.counts.reloads == 1


@pytest.mark.parametrize("num_parallel", [1, 2])
async def test_answers_are_generated_one_after_another(num_parallel: int) -> None:
    """Unless OLLAMA_NUM_PARALLEL allows more; a ping waits for nobody, and a full queue is full."""
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


async def test_headers_come_with_the_first_token() -> None:
    """Until then there is nothing to read; afterwards there is a line of JSON for each."""
    words: asyncio.Queue[str | None] = asyncio.Queue()
    async with serving(dictated(words)) as (server, client):
        request = client.http.build_request("POST", "/api/chat", json={"model": "a", "messages": [SYSTEM]})
        sent = asyncio.create_task(client.http.send(request, stream=True))
        await until(lambda: bool(server.counts.generations))
        assert not sent.done()
        words.put_nowait("Paris")
        response = await sent
        assert response.headers["content-type"] == "application/x-ndjson"
        words.put_nowait(None)
        lines = [json.loads(line) async for line in response.aiter_lines()]
        assert [line["done"] for line in lines] == [False, True]
        assert lines[-1]["total_duration"] >= lines[-1]["eval_duration"]
        assert [lines[-1][name] for name in ("done_reason", "eval_count")] == ["stop", 1]
        await response.aclose()


async def test_hanging_up_stops_the_generation() -> None:
    """The words are closed, and the next answer begins at once."""
    closed = asyncio.Event()

    async def words(_: Any) -> AsyncGenerator[str, None]:
        try:
            while True:
                yield "word "
        finally:
            closed.set()

    async with serving(words) as (server, client):
        async with client.streaming() as lines:
            await anext(lines)
        await closed.wait()
        server.words = PARIS
        assert (await client.ask())["done"]


async def test_what_was_read_is_not_read_again() -> None:
    """Neither another conversation nor a ping in between makes the runner forget; an unload does."""
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


async def test_reading_takes_time_and_is_counted_one_way_or_the_other() -> None:
    """Older releases count what was read, the newest the whole prompt with what was known of it."""
    async with serving() as (server, client):
        server.prefill_seconds_per_token = 0.0005
        cold = await client.chat(SYSTEM)
        assert cold["prompt_eval_duration"] > cold["prompt_eval_count"] * 500_000
        warm = await client.chat(SYSTEM, {"role": "user", "content": "Hi"})
        assert warm["prompt_eval_count"] < 10
        server.counts_cached_tokens = True
        newest = await client.chat(SYSTEM, {"role": "user", "content": "Hi"})
        assert newest["prompt_eval_count"] > cold["prompt_eval_count"]
        assert newest["prompt_eval_cached_count"] == newest["prompt_eval_count"] - 1


@pytest.mark.parametrize(("limit", "reason", "said"), [(1, "length", "Paris"), (0, "stop", "Paris it is.")])
async def test_num_predict_limits_the_answer(limit: int, reason: str, said: str) -> None:
    """Nought is no limit."""
    async with serving() as (_, client):
        answer = await client.ask(options={"num_predict": limit})
        assert (answer["done_reason"], answer["message"]["content"]) == (reason, said)


async def test_a_conversation_longer_than_the_context_loses_its_oldest_messages() -> None:
    """What the system said and the question stay."""
    seen: list[list[str]] = []

    async def words(messages: list[dict[str, str]]) -> AsyncGenerator[str, None]:
        seen.append([message["content"] for message in messages])
        yield "Yes."

    async with serving(words) as (_, client):
        old = [{"role": "user", "content": f"{number} " + "word " * 30} for number in range(9)]
        system = {"role": "system", "content": "Be brief."}
        await client.chat(system, *old, {"role": "user", "content": "Hi"}, options={"num_ctx": 128})
        assert [content[:9] for content in seen[0]] == ["Be brief.", "6 word wo", "7 word wo", "8 word wo", "Hi"]


async def test_only_a_thinking_model_thinks_and_it_does_unless_told_not_to() -> None:
    """Thoughts come apart from the answer."""
    async with serving() as (server, client):
        assert await client.ask(think=True) == {"error": '"a" does not support thinking', "status": 400}
        server.thinks = "The user greets."
        async with client.streaming() as lines:
            messages = [line["message"] async for line in lines]
        assert "".join(message.get("thinking", "") for message in messages) == "The user greets."
        assert "".join(message["content"] for message in messages) == "Paris it is."
        assert "thinking" not in (await client.ask(think=False))["message"]
        shown = (await client.http.post("/api/show", json={"model": "a"})).json()
        assert shown["capabilities"] == ["completion", "thinking"]


async def test_a_runner_that_dies_in_an_answer_ends_it_with_an_error() -> None:
    """After 200 it is the last line; before, the status."""
    words: asyncio.Queue[str | None] = asyncio.Queue()
    async with serving(dictated(words)) as (server, client):
        died = {"error": "an error was encountered while running the model: unexpected EOF"}
        words.put_nowait("Paris")
        async with client.streaming() as lines:
            await anext(lines)
            server.kill_runner()
            assert [line async for line in lines] == [died]
        silent = asyncio.create_task(client.ask())
        await until(lambda: len(server.counts.generations) == 2)
        server.kill_runner()
        assert await silent == died | {"status": 500}


async def test_it_says_what_it_is_and_what_it_has() -> None:
    """Health, version, models, what is on the GPU, and what is none of its business."""
    async with serving() as (server, client):
        assert (await client.http.get("/")).text == "Ollama is running"
        assert (await client.http.head("/")).status_code == 200
        assert (await client.http.get("/api/version")).json()["version"]
        tags = (await client.http.get("/api/tags")).json()["models"]
        assert [model["name"] for model in tags] == ["a:latest", "b:latest", "c:latest", "same-as-a:latest"]
        nowhere = await client.http.get("/nowhere")
        assert (nowhere.status_code, nowhere.text) == (404, "404 page not found")
        assert (await client.http.post("/api/chat", content=b"{nonsense")).status_code == 400
        await client.chat()
        (model,) = await client.ps()
        assert (model["size_vram"], model["model"], len(model["digest"])) == (model["size"], "a:latest", 64)
        server.vram_share = 0.0
        assert [model["size_vram"] for model in await client.ps()] == [0]
        del server.models["a"]
        assert await client.ask() == {"error": "model 'a' not found", "status": 404}
        assert (await client.http.post("/api/show", json={"model": "a"})).status_code == 404


@pytest.mark.models
async def test_the_official_client_hears_a_real_model(models_directory: Path) -> None:
    """Whatever the client makes of the answers, it finds in them."""
    brain = LlamaCppChat(Local(type="local"), Chat())
    await brain.load(models_directory / "chat" / "smollm2-135m-instruct" / "SmolLM2-135M-Instruct.Q4_1.gguf")
    question = [{"role": "system", "content": "Be brief."}]
    question.append({"role": "user", "content": "What is the capital of France?"})
    async with asyncio.timeout(PATIENCE_SECONDS), OllamaServer(thought_by(brain)) as server:
        client: Any = ollama.AsyncClient(host=server.url, timeout=PATIENCE_SECONDS)
        began = time.monotonic_ns()
        parts = [part async for part in await client.chat("smollm2", question, stream=True)]
        assert "Paris" in "".join(part.message.content or "" for part in parts)
        assert 0 < (parts[-1].eval_duration or 0) < time.monotonic_ns() - began
        assert (await client.ps()).models[0].context_length == 4096
        assert (await client.show("smollm2")).capabilities == ["completion"]
        await client.close()
    await brain.close()
