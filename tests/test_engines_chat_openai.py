"""OpenAI-compatible servers: what they refuse, what leaves the house, and a key that nobody ever sees."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from satellite.config.chat import ChatSettings, OpenAISettings
from satellite.config.settings import DeadlineSettings
from satellite.engines.chat.completions import Chunk, Completion, failures, refusal
from satellite.engines.chat.http_errors import RateLimited, failure
from satellite.engines.chat.openai import OpenAIChat
from satellite.engines.protocols import ChatStats, Message
from satellite.errors import ChatError, ChatRejected, ChatUnavailable
from tests.doubles.http import Exchange, dictated, script
from tests.doubles.openai import Fault, OpenAIServer
from tests.hosted import KEY, OUTSIDE, outside, shown
from tests.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.virtual_clock

QUESTION = [Message("system", "Be brief."), Message("user", "What is the capital of France?")]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment holds Groq's key."""
    monkeypatch.setenv("GROQ_API_KEY", KEY)


async def answered(model: OpenAIChat) -> str:
    async with aclosing(model.stream(QUESTION)) as deltas:
        return "".join([delta.text async for delta in deltas])


@asynccontextmanager
async def asking(server: OpenAIServer, patience_seconds: float = 5, **settings: Any) -> AsyncIterator[OpenAIChat]:
    async with asyncio.timeout(PATIENCE_SECONDS), server:
        options = OpenAISettings(type="openai", **{"url": server.base_url, "model": server.model, **settings})
        chat = ChatSettings(max_tokens=50, first_token_seconds=patience_seconds)
        model = OpenAIChat(options, chat, DeadlineSettings())
        try:
            yield model
        finally:
            await model.close()


async def test_a_request_is_what_the_api_asks_for() -> None:
    server = OpenAIServer(script("Paris."), key=KEY)
    async with asking(server) as model:
        assert await answered(model) == "Paris."
        assert server.exchanges[0].body == {
            "model": "llama-3.1-8b-instant",
            "messages": [{"role": message.role, "content": message.content} for message in QUESTION],
            "max_tokens": 50,
            "temperature": 0.0,
            "stream": True,
        }


class Moved(OpenAIServer):
    """A server behind a proxy that sends clients to another address."""

    base_url = property(lambda self: f"{self.url}/before/openai/v1")

    async def answer(self, exchange: Exchange) -> None:
        """Name the other address, or answer there."""
        path = exchange.path.removeprefix("/before")
        if path == exchange.path:
            return await super().answer(exchange)
        return await exchange.reply(308, b"", {"Location": f"{self.url}{path}"})


async def test_a_proxy_may_send_the_question_elsewhere() -> None:
    async with asking(Moved(script("Paris."), key=KEY)) as model:
        await model.warm_up()
        assert await answered(model) == "Paris."


@pytest.mark.parametrize(
    ("accepted_key", "model", "fault", "kind", "code"),
    [
        ("another", None, None, ChatRejected, "chat-refused"),
        (None, "unknown", None, ChatUnavailable, "chat-unknown-model"),
        (None, None, Fault.RATE_LIMIT, RateLimited, "chat-rate-limited"),
        (None, None, Fault.CRASH, ChatUnavailable, "chat-failed"),
        (None, None, Fault.OVERLOAD, ChatUnavailable, "chat-busy"),
        (None, None, Fault.BAD_REQUEST, ChatRejected, "chat-too-long"),
        (None, None, Fault.ERROR_EVENT, ChatUnavailable, "chat-failed"),
        (None, None, Fault.CUT, ChatUnavailable, "chat-failed"),
        (None, None, Fault.RESET, ChatUnavailable, "chat-failed"),
        (None, None, Fault.GARBAGE, ChatUnavailable, "chat-failed"),
    ],
)
async def test_a_failure_becomes_the_error_that_says_what_to_do_and_hides_the_key(
    accepted_key: str | None,
    model: str | None,
    fault: Fault | None,
    kind: type[ChatError],
    code: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    server = OpenAIServer(script("Paris", "."), key=accepted_key)
    server.faults = [fault] if fault else []
    server.repeats_key = True
    async with asking(server, model=model or server.model) as chat:
        with pytest.raises(ChatError) as caught:
            await answered(chat)
        assert KEY not in f"{shown(caught.value)} {caplog.text} {chat!r} {vars(chat)!r}"
    error = caught.value
    assert (type(error), error.code, error.__cause__) == (kind, code, None)
    assert getattr(error, "retry_after_seconds", 8) == 8
    assert ("$GROQ_API_KEY" in str(error)) is (accepted_key == "another")
    assert len(server.exchanges) == 1  # it is not repeated


async def test_a_server_at_home_needs_no_key_and_receives_words_that_stay_in_the_house(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("GROQ_API_KEY")
    server = OpenAIServer(script("Paris."))
    async with asking(server) as model:
        assert await answered(model) == "Paris."
        assert (model.leaves_house, model.sent_outside) == (False, 0)
        server.key = KEY
        with pytest.raises(ChatRejected, match=r"neither api_key_file, \$GROQ_API_KEY nor a credential groq.key"):
            await answered(model)
    assert not any(record.name.startswith("satellite") for record in caplog.records)


async def test_words_that_leave_the_house_are_announced_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="satellite")
    server = OpenAIServer(script("Paris."), key=KEY)
    async with server, outside(server) as settings:
        model = OpenAIChat(settings, ChatSettings(), DeadlineSettings())
        for _ in range(2):
            assert await answered(model) == "Paris."
        assert (model.leaves_house, model.sent_outside) == (True, 2)
        await model.close()
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", f"chat: groq is outside this house: {OUTSIDE} receives what people say"),
        ("INFO", f"chat: question 1 leaves the house, to groq at {OUTSIDE}"),
        ("INFO", f"chat: question 2 leaves the house, to groq at {OUTSIDE}"),
    ]


async def test_a_key_from_a_file_is_used(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("from-the-file\n")
    async with asking(OpenAIServer(script("Paris."), key="from-the-file"), api_key_file=file) as model:
        assert await answered(model) == "Paris."


async def test_a_server_at_home_is_not_blamed_for_answering_somebody_else() -> None:
    words: asyncio.Queue[str | None] = asyncio.Queue()
    async with asking(OpenAIServer(dictated(words)), patience_seconds=0.1) as model:
        async with aclosing(model.stream(QUESTION)) as first:
            words.put_nowait("Once")
            await anext(first)
            await given_up(model)
            assert model.health.up
        await given_up(model)
        assert (model.health.state, model.health.up, model.health.is_late) == ("slow", False, True)


async def given_up(model: OpenAIChat) -> None:
    """Ask, and cancel that when the patience is over."""
    waiting = asyncio.create_task(answered(model))
    await asyncio.sleep(0.3)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_words_that_were_held_back_are_not_lost_when_the_answer_breaks_off() -> None:
    server = OpenAIServer(script("Okay. </think>", " Four."))
    async with asking(server) as model:
        await answered(model)
        server.words, server.faults = script("Once upon a time", " there was"), [Fault.RESET]
        async with aclosing(model.stream(QUESTION)) as deltas:
            assert (await anext(deltas)).text == "Once upon a time"
            with pytest.raises(ChatUnavailable):
                await anext(deltas)


async def answer_of(*events: str) -> list[Chunk]:
    """Return what is understood of an answer of these events."""
    content = "".join(f"id: 1\ndata: {event}\n\n" for event in events)
    response = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=content)
    async with aclosing(Completion(response)) as completion:
        chunks = []
        while (chunk := await completion.next()) is not None:
            chunks.append(chunk)
        return chunks


async def test_the_figures_of_an_older_llama_cpp_do_not_break_its_answer_off() -> None:
    usage = {"prompt_tokens": 12, "prompt_tokens_details": {"cached_tokens": 5}}
    timings = {"prompt_n": 9, "prompt_ms": 20.0, "predicted_n": 3, "predicted_ms": 30.0}
    last = {"choices": [{"delta": {}, "finish_reason": "stop"}], "timings": timings, "usage": usage}
    chunks = await answer_of('{"choices": [{"delta": {"content": "Paris."}}]}', json.dumps(last))
    assert [chunk.text for chunk in chunks] == ["Paris.", ""]
    assert chunks[-1].stats == ChatStats(prompt_tokens=12, cached_tokens=5)


async def test_a_heartbeat_among_the_events_is_none_of_the_answer() -> None:
    chunks = await answer_of('{"choices": [{"delta": {"content": "Paris."}}]}\n\n: ping', "[DONE]")
    assert [chunk.text for chunk in chunks] == ["Paris."]


async def test_text_that_is_no_text_is_a_broken_answer() -> None:
    with pytest.raises(ValueError, match="not an event of a chat completion"):
        await answer_of('{"choices": [{"delta": {"content": [{"type": "thinking"}]}}]}')


@pytest.mark.parametrize("content", [b"<html>", b"[" * 200_000, b'{"error": ' * 200_000, b""])
def test_an_explanation_that_is_none_is_a_refusal_all_the_same(content: bytes) -> None:
    error = refusal(httpx.Response(502, content=content))
    assert (error.status, error.reason) == (502, content.decode() or "Bad Gateway")


def test_a_long_explanation_is_cut() -> None:
    assert len(str(failure("the server", 400, "x" * 10_000))) < 300


async def test_a_redirection_to_an_address_that_httpx_refuses_is_a_failure() -> None:
    redirection = httpx.Response(302, headers={"Location": f"/{'a' * 65_530}"})
    transport = httpx.MockTransport(lambda _: redirection)
    async with httpx.AsyncClient(base_url="http://groq.test/v1", transport=transport) as http:
        with pytest.raises(failures()):
            await Completion.begin(http, {})
