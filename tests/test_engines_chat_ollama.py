"""Ollama: what it is sent, and what it says when it cannot answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from satellite.config.chat import ChatSettings, LocalSettings, OllamaSettings
from satellite.config.settings import DeadlineSettings
from satellite.engines.chat.llama_cpp import LlamaCppChat
from satellite.engines.chat.ollama import OllamaChat
from satellite.engines.protocols import Message
from satellite.errors import ChatError, ChatRejected, ChatUnavailable
from tests.doubles.http import script, thought_by
from tests.doubles.ollama import Fault, OllamaServer
from tests.waiting import PATIENCE_SECONDS

QUESTION = [Message("system", "Be brief."), Message("user", "What is the capital of France?")]


async def answered(model: OllamaChat) -> str:
    """Return a whole answer."""
    async with aclosing(model.stream(QUESTION)) as deltas:
        return "".join([delta.text async for delta in deltas])


@asynccontextmanager
async def asking(**settings: Any) -> AsyncIterator[tuple[OllamaServer, OllamaChat]]:
    """An Ollama that always answers "Paris." and a model of these settings."""
    async with OllamaServer(script("Paris.")) as server:
        options = {"url": server.url, "model": "smollm2", **settings}
        model = OllamaChat(OllamaSettings(type="ollama", **options), ChatSettings(max_tokens=50), DeadlineSettings())
        try:
            yield server, model
        finally:
            await model.close()


async def error_of(fault: Fault | None = None, **settings: Any) -> ChatError:
    """Return the error that a request meets."""
    async with asking(**settings) as (server, model):
        server.faults = [fault] if fault else []
        with pytest.raises(ChatError) as caught:
            await answered(model)
        return caught.value


async def test_every_request_carries_the_same_options() -> None:
    async with asking(num_ctx=8192) as (server, model):
        for _ in range(3):
            await answered(model)
        for exchange in server.exchanges:
            assert exchange.body["options"] == {"num_ctx": 8192, "num_predict": 50, "temperature": 0.0}
            assert "keep_alive" not in exchange.body
            assert exchange.body["think"] is False
        assert (server.counts.loads, server.counts.reloads) == (1, 0)


async def test_the_conversation_is_sent_as_it_is() -> None:
    async with asking() as (server, model):
        await answered(model)
        await answered(model)
        sent = server.exchanges[0].body["messages"]
        assert sent == [{"role": message.role, "content": message.content} for message in QUESTION]
        first, second = server.counts.generations
        assert first.cached_tokens == 0
        assert second.evaluated_tokens == 1


async def test_an_unknown_model_says_how_to_get_it() -> None:
    error = await error_of(model="phi3:mini")
    assert isinstance(error, ChatUnavailable)
    assert error.code == "chat-unknown-model"
    assert "ollama pull phi3:mini" in str(error)


async def test_a_full_queue_is_busy() -> None:
    error = await error_of(Fault.BUSY)
    assert isinstance(error, ChatUnavailable)
    assert (error.code, "server busy" in str(error)) == ("chat-busy", True)


async def test_an_error_among_the_lines_ends_the_answer() -> None:
    error = await error_of(Fault.ERROR_LINE)
    assert isinstance(error, ChatUnavailable)
    assert error.code == "chat-failed"
    assert "unexpected EOF" in str(error)


async def test_a_server_that_is_no_ollama_is_told_apart() -> None:
    async with asking() as (server, _):
        elsewhere = OllamaSettings(type="ollama", url=f"{server.url}/elsewhere", model="smollm2")
        model = OllamaChat(elsewhere, ChatSettings(), DeadlineSettings())
        with pytest.raises(ChatUnavailable, match="no Ollama") as caught:
            await answered(model)
        assert caught.value.code == "chat-unreachable"
        await model.close()


async def test_a_refused_request_is_rejected() -> None:
    async with asking() as (server, model):
        server.faults = [Fault.BAD_REQUEST]
        with pytest.raises(ChatRejected):
            await answered(model)
        assert model.health.up


def test_a_cloud_model_is_announced(caplog: pytest.LogCaptureFixture) -> None:
    OllamaChat(
        OllamaSettings(type="ollama", url="http://127.0.0.1:11434", model="smollm2"), ChatSettings(), DeadlineSettings()
    )
    assert caplog.messages == []
    OllamaChat(
        OllamaSettings(type="ollama", url="http://127.0.0.1:11434", model="gpt-oss:120b-cloud"),
        ChatSettings(),
        DeadlineSettings(),
    )
    OllamaChat(
        OllamaSettings(type="ollama", url="https://me:secret@ollama.example.com", model="x"),
        ChatSettings(),
        DeadlineSettings(),
    )
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert "https://ollama.example.com" in caplog.messages[1]
    assert "secret" not in caplog.text


@pytest.mark.models
async def test_a_real_model_answers_through_ollama(models_directory: Path) -> None:
    brain = LlamaCppChat(LocalSettings(type="local"), ChatSettings())
    file = models_directory / "chat" / "smollm2-135m-instruct" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    await brain.load(file)
    async with asyncio.timeout(PATIENCE_SECONDS), OllamaServer(thought_by(brain)) as server:
        model = OllamaChat(
            OllamaSettings(type="ollama", url=server.url, model="smollm2"), ChatSettings(), DeadlineSettings()
        )
        assert "Paris" in await answered(model)
        await model.close()
    await brain.close()
