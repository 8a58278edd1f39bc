"""How the stand-in for a hosted model answers and refuses."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest

from tests.doubles.http import script
from tests.doubles.limits import Limits, duration
from tests.doubles.openai import OpenAIServer

QUESTION = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is the capital of France?"}]


@asynccontextmanager
async def serving(key: str | None = None) -> AsyncIterator[tuple[OpenAIServer, openai.AsyncOpenAI]]:
    """A server and the official client."""
    async with (
        OpenAIServer(script("Paris", " it", " is."), key=key) as server,
        openai.AsyncOpenAI(base_url=server.base_url, api_key="right", max_retries=0) as client,
    ):
        yield server, client


def ask(client: openai.AsyncOpenAI, **more: Any) -> Any:
    """Ask the question."""
    create: Any = client.chat.completions.with_raw_response.create
    return create(**{"model": "llama-3.1-8b-instant", "messages": QUESTION, **more})


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_is_no_longer_than_asked(limit: str, stream: bool) -> None:
    """By either name, streamed or not, and it says why it ends."""
    async with serving() as (_, client):
        for tokens, said, reason in ((2, "Paris it", "length"), (9, "Paris it is.", "stop")):
            answer = (await ask(client, stream=stream, **{limit: tokens})).parse()
            if not stream:
                assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (said, reason)
                assert answer.usage.completion_tokens == min(tokens, 3)
                continue
            chunks = [chunk async for chunk in answer]
            assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == said
            assert chunks[-1].choices[0].finish_reason == reason
            assert chunks[-1].usage.completion_tokens == min(tokens, 3)


async def test_what_was_read_before_is_told() -> None:
    """The second time around most of the conversation is known."""
    async with serving() as (_, client):
        first, second = [(await ask(client)).parse().usage for _ in range(2)]
        assert (first.prompt_tokens_details.cached_tokens, first.prompt_tokens) == (0, second.prompt_tokens)
        assert second.prompt_tokens_details.cached_tokens == second.prompt_tokens - 1


async def test_newer_models_want_the_limit_by_another_name() -> None:
    """The refusal names it."""
    async with serving() as (server, client):
        server.wants_max_completion_tokens = True
        with pytest.raises(openai.BadRequestError, match="Use 'max_completion_tokens' instead") as caught:
            await ask(client, max_tokens=9)
        assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "max_tokens")
        assert (await ask(client, max_completion_tokens=9)).status_code == 200


async def test_the_models_are_listed_for_who_has_the_key() -> None:
    """A wrong key is found out here without a question."""
    async with serving(key="right") as (server, client):
        assert [model.id async for model in client.models.list()] == ["llama-3.1-8b-instant"]
        server.key = "another"
        with pytest.raises(openai.AuthenticationError, match="Invalid API Key"):
            await client.models.list()
        with pytest.raises(openai.AuthenticationError):
            await ask(client)


async def test_the_limits_count_down_and_refuse() -> None:
    """Each reply tells what is left and when all of it is back; the one too many tells when to come again."""
    async with serving() as (server, client):
        assert not [name for name in (await ask(client)).headers if name.startswith("x-ratelimit")]
        server.limits = Limits(requests=2, requests_seconds=120, tokens=1000)
        headers = (await ask(client, stream=True)).headers
        assert headers["x-ratelimit-limit-requests"] == "2"
        assert headers["x-ratelimit-remaining-requests"] == "1"
        assert headers["x-ratelimit-reset-requests"].startswith(("1m0s", "59.", "58."))
        assert 900 < int(headers["x-ratelimit-remaining-tokens"]) < 1000
        await ask(client)
        with pytest.raises(openai.RateLimitError, match="Please try again in") as caught:
            await ask(client)
        assert caught.value.response.headers["retry-after"] in ("58", "59", "60")
        assert caught.value.response.headers["x-ratelimit-remaining-requests"] == "0"
        assert server.answers == 3


async def test_tokens_run_out_and_come_back() -> None:
    """What an answer had counts too; then time heals."""
    async with serving() as (server, client):
        server.limits = Limits(tokens=25, tokens_seconds=0.5)
        await ask(client)
        with pytest.raises(openai.RateLimitError, match="on tokens"):
            await ask(client)
        while int((await client.models.with_raw_response.list()).headers["x-ratelimit-remaining-tokens"]) < 25:
            await asyncio.sleep(0.01)
        assert (await ask(client)).status_code == 200


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(179.56, "2m59.56s"), (7.66, "7.66s"), (0.12, "120ms"), (60, "1m0s"), (3723.5, "1h2m3.5s"), (0, "0ms")],
)
def test_durations_are_written_as_groq_does(seconds: float, text: str) -> None:
    """Hours, minutes, seconds with hundredths; below one second milliseconds."""
    assert duration(seconds) == text


@pytest.mark.parametrize("body", [b"{nonsense", b"[]", b'{"model": "llama-3.1-8b-instant", "messages": [1]}'])
async def test_what_is_no_request_is_refused(body: bytes) -> None:
    """And the server is none the worse."""
    async with serving() as (_, client):
        with pytest.raises(openai.BadRequestError):
            await client.post("/chat/completions", content=body, cast_to=object)
        assert (await ask(client)).status_code == 200
