"""OpenAI-compatible servers: what they refuse, what leaves the house, and a key that nobody ever sees."""

import asyncio
import json
import logging
import sys
import traceback
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from satellite.config.chat import ChatSettings, OllamaSettings, OpenAISettings
from satellite.config.settings import DeadlineSettings
from satellite.engines.chat.completions import Chunk, Completion, failures, refusal
from satellite.engines.chat.http_errors import RateLimited, failure
from satellite.engines.chat.ollama import OllamaChat
from satellite.engines.chat.openai import OpenAIChat
from satellite.engines.protocols import ChatStats, Message
from satellite.errors import ChatError, ChatRejected, ChatUnavailable
from tests.doubles.http import Exchange, dictated, script
from tests.doubles.openai import Fault, OpenAIServer
from tests.waiting import PATIENCE_SECONDS

KEY = "gsk_NobodyMayEverSeeThis"
QUESTION = [Message("system", "Be brief."), Message("user", "What is the capital of France?")]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment holds Groq's key."""
    monkeypatch.setenv("GROQ_API_KEY", KEY)


async def answered(model: OpenAIChat, messages: list[Message] = QUESTION) -> str:
    """Return a whole answer."""
    async with aclosing(model.stream(messages)) as deltas:
        return "".join([delta.text async for delta in deltas])


def connected(server: OpenAIServer, **settings: Any) -> OpenAIChat:
    """Return a model that talks to `server`."""
    options = {"url": server.base_url, "model": server.model, **settings}
    return OpenAIChat(OpenAISettings(type="openai", **options), ChatSettings(max_tokens=50), DeadlineSettings())


@asynccontextmanager
async def asking(server: OpenAIServer, **settings: Any) -> AsyncIterator[OpenAIChat]:
    """A model that talks to `server`."""
    async with server:
        model = connected(server, **settings)
        try:
            yield model
        finally:
            await model.close()


async def error_of(server: OpenAIServer, **settings: Any) -> ChatError:
    """Return the error that a request to `server` meets."""
    async with asking(server, **settings) as model:
        with pytest.raises(ChatError) as caught:
            await answered(model)
        return caught.value


def failing(fault: Fault, *, key: str | None = None) -> OpenAIServer:
    """Return a server on which the next request goes wrong, and which quotes the key when it complains."""
    server = OpenAIServer(script("Paris", "."), key=key)
    server.faults = [fault]
    server.repeats_key = True
    return server


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

    async def answer(self, exchange: Exchange) -> None:
        """Name the other address, or answer there."""
        path = exchange.path.removeprefix("/before")
        if path == exchange.path:
            return await super().answer(exchange)
        return await exchange.reply(308, b"", {"Location": f"{self.url}{path}"})


async def test_a_proxy_may_send_the_question_elsewhere() -> None:
    async with Moved(script("Paris."), key=KEY) as server:
        settings = OpenAISettings(type="openai", url=f"{server.url}/before/openai/v1", model=server.model)
        model = OpenAIChat(settings, ChatSettings(), DeadlineSettings())
        await model.warm_up()
        assert await answered(model) == "Paris."
        await model.close()


@pytest.mark.parametrize("kind", [OpenAIChat, OllamaChat])
async def test_certificates_that_cannot_be_read_are_an_error_of_the_settings(
    kind: type[OpenAIChat] | type[OllamaChat], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    monkeypatch.delitem(sys.modules, "ollama", raising=False)  # which makes a client when it is imported
    settings: Any = (
        OpenAISettings(type="openai", model="x") if kind is OpenAIChat else OllamaSettings(type="ollama", model="x")
    )
    model: Any = kind(settings, ChatSettings(), DeadlineSettings())
    with pytest.raises(ChatUnavailable, match=r"cannot be asked: .*No such file") as caught:
        await anext(model.stream(QUESTION))
    assert caught.value.code == "chat-misconfigured"
    assert model.health.state in ("misconfigured", "unknown")
    await model.close()


async def test_two_answers_are_generated_at_the_same_time() -> None:
    meeting = asyncio.Barrier(2)

    async def in_step(messages: list[dict[str, str]]) -> AsyncGenerator[str, None]:
        for _ in range(3):
            await meeting.wait()
            yield messages[-1]["content"]

    async with asking(OpenAIServer(in_step)) as model:
        answers = await asyncio.gather(*(answered(model, [Message("user", name)]) for name in "ab"))
        assert answers == ["aaa", "bbb"]


async def test_a_wrong_key_is_rejected_with_its_origin() -> None:
    error = await error_of(OpenAIServer(script("Paris."), key="another"))
    assert isinstance(error, ChatRejected)
    assert error.code == "chat-refused"
    assert "$GROQ_API_KEY" in str(error)


async def test_a_server_without_a_key_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GROQ_API_KEY")
    async with asking(OpenAIServer(script("Paris."))) as model:
        assert await answered(model) == "Paris."
    error = await error_of(OpenAIServer(script("Paris."), key=KEY))
    assert error.code == "chat-refused"
    assert "neither api_key_file, $GROQ_API_KEY nor a credential groq.key" in str(error)


async def test_a_rate_limit_tells_when_to_come_back() -> None:
    error = await error_of(failing(Fault.RATE_LIMIT))
    assert isinstance(error, RateLimited)
    assert (error.code, error.retry_after_seconds) == ("chat-rate-limited", 8)


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        (Fault.CRASH, ChatUnavailable, "chat-failed"),
        (Fault.OVERLOAD, ChatUnavailable, "chat-busy"),
        (Fault.BAD_REQUEST, ChatRejected, "chat-too-long"),
        (Fault.ERROR_EVENT, ChatUnavailable, "chat-failed"),
    ],
)
async def test_a_refusal_becomes_the_error_that_says_what_to_do(fault: Fault, kind: type[ChatError], code: str) -> None:
    error = await error_of(failing(fault))
    assert (type(error), error.code) == (kind, code)


async def test_an_unknown_model_is_unavailable() -> None:
    error = await error_of(OpenAIServer(script("Paris.")), model="nope")
    assert (type(error), error.code) == (ChatUnavailable, "chat-unknown-model")


async def test_a_refused_request_is_not_repeated() -> None:
    server = failing(Fault.CRASH)
    await error_of(server)
    assert len(server.exchanges) == 1


@pytest.mark.parametrize("fault", [None, *(fault for fault in Fault if fault not in (Fault.HANG, Fault.STALL))])
async def test_the_key_is_never_shown(fault: Fault | None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server = failing(fault) if fault else OpenAIServer(script("Paris."), key=f"{KEY}2")
    server.repeats_key = True
    error = await error_of(server)
    printed = "".join(traceback.format_exception(error))
    assert KEY not in f"{error!s} {error!r} {printed} {caplog.text}"
    assert error.__cause__ is None
    model = connected(server)
    assert KEY not in f"{model!r} {vars(model)!r}"


async def test_words_that_leave_the_house_are_announced_and_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = OpenAIServer(script("Paris."), key=KEY)
    async with server:
        # The server stands in for the house's proxy, through which a public name is reached without a network.
        monkeypatch.setenv("HTTP_PROXY", server.url)
        model = connected(server, url="http://chat.example.com/openai/v1")
        try:
            assert model.leaves_house
            for _ in range(2):
                assert await answered(model) == "Paris."
            assert model.sent_outside == 2
        finally:
            await model.close()
    announced = [record for record in caplog.records if record.name.startswith("satellite")]
    assert [record.levelname for record in announced] == ["WARNING"]
    assert "groq is outside this house: http://chat.example.com/openai/v1" in announced[0].getMessage()


async def test_words_that_stay_in_the_house_are_not_counted(caplog: pytest.LogCaptureFixture) -> None:
    async with asking(OpenAIServer(script("Paris."))) as model:
        await answered(model)
        assert (model.leaves_house, model.sent_outside) == (False, 0)
    assert not any(record.name.startswith("satellite") for record in caplog.records)


async def test_a_key_from_a_file_is_used(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("from-the-file\n")
    async with asking(OpenAIServer(script("Paris."), key="from-the-file"), api_key_file=file) as model:
        assert await answered(model) == "Paris."


async def test_a_server_at_home_is_not_blamed_for_answering_somebody_else() -> None:
    words: asyncio.Queue[str | None] = asyncio.Queue()
    async with asyncio.timeout(PATIENCE_SECONDS), OpenAIServer(dictated(words)) as server:
        settings = OpenAISettings(type="openai", name="vllm", url=server.base_url, model=server.model)
        model = OpenAIChat(settings, ChatSettings(first_token_seconds=0.1), DeadlineSettings())
        async with aclosing(model.stream(QUESTION)) as first:
            words.put_nowait("Once")
            await anext(first)
            second = asyncio.create_task(answered(model))
            await asyncio.sleep(0.3)  # longer than the patience
            second.cancel()
            await asyncio.gather(second, return_exceptions=True)
            assert model.health.up
        alone = asyncio.create_task(answered(model))
        await asyncio.sleep(0.3)
        alone.cancel()
        await asyncio.gather(alone, return_exceptions=True)
        assert (model.health.state, model.health.up, model.health.is_late) == ("slow", False, True)
        await model.close()


async def test_words_that_were_held_back_are_not_lost_when_the_answer_breaks_off() -> None:
    async with asyncio.timeout(PATIENCE_SECONDS), OpenAIServer(script("Okay. </think>", " Four.")) as server:
        model = connected(server)
        await answered(model)
        server.words = script("Once upon a time", " there was")
        server.faults = [Fault.RESET]
        said = []
        async with aclosing(model.stream(QUESTION)) as deltas:
            with pytest.raises(ChatUnavailable):
                async for delta in deltas:
                    said.append(delta.text)  # noqa: PERF401  # what came before the error counts
        assert said == ["Once upon a time"]
        await model.close()


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
    timings = {"prompt_n": 9, "prompt_ms": 20.0, "predicted_n": 3, "predicted_ms": 30.0}
    last = {"choices": [{"delta": {}, "finish_reason": "stop"}], "timings": timings, "usage": {"prompt_tokens": 12}}
    chunks = await answer_of('{"choices": [{"delta": {"content": "Paris."}}]}', json.dumps(last))
    assert [chunk.text for chunk in chunks] == ["Paris.", ""]
    assert chunks[-1].stats == ChatStats(prompt_tokens=12)


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
