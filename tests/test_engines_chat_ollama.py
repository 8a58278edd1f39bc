"""Ollama: what it is sent, and what it says when it cannot answer."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from satellite.config.chat import ChatSettings, OllamaSettings
from satellite.config.settings import DeadlineSettings
from satellite.engines.chat.ollama import OllamaChat
from satellite.engines.protocols import Message
from satellite.errors import ChatError, ChatRejected, ChatUnavailable
from tests.doubles.http import script
from tests.doubles.ollama import Fault, OllamaServer

QUESTION = [Message("system", "Be brief."), Message("user", "What is the capital of France?", "It is Monday")]


async def answered(model: OllamaChat) -> str:
    async with aclosing(model.stream(QUESTION)) as deltas:
        return "".join([delta.text async for delta in deltas])


@asynccontextmanager
async def asking(path: str = "", **settings: Any) -> AsyncIterator[tuple[OllamaServer, OllamaChat]]:
    """An Ollama that always answers "Paris." and a model of these settings."""
    async with OllamaServer(script("Paris.")) as server:
        options = {"url": server.url + path, "model": "smollm2", **settings}
        model = OllamaChat(OllamaSettings(type="ollama", **options), ChatSettings(max_tokens=50), DeadlineSettings())
        try:
            yield server, model
        finally:
            await model.close()


async def test_every_request_carries_the_same_options() -> None:
    async with asking(num_ctx=8192) as (server, model):
        for _ in range(3):
            assert await answered(model) == "Paris."
        for exchange in server.exchanges:
            assert exchange.body["options"] == {"num_ctx": 8192, "num_predict": 50, "temperature": 0.0}
            assert "keep_alive" not in exchange.body
            assert exchange.body["think"] is False
        assert (server.counts.loads, server.counts.reloads) == (1, 0)


@pytest.mark.parametrize(("tell", "told"), [(True, "[It is Monday]\n"), (False, "")])
async def test_the_conversation_is_sent_as_it_is_with_the_aside_if_the_model_may_be_told(tell: bool, told: str) -> None:
    async with asking(tell=tell) as (server, model):
        await answered(model)
        await answered(model)
        assert server.exchanges[0].body["messages"] == [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": f"{told}What is the capital of France?"},
        ]
        first, second = server.counts.generations
        assert first.cached_tokens == 0
        assert second.evaluated_tokens == 1


@pytest.mark.parametrize(
    ("fault", "settings", "kind", "code", "words"),
    [
        (None, {"model": "phi3:mini"}, ChatUnavailable, "chat-unknown-model", "ollama pull phi3:mini"),
        (None, {"path": "/elsewhere"}, ChatUnavailable, "chat-unreachable", "no Ollama"),
        (Fault.BUSY, {}, ChatUnavailable, "chat-busy", "server busy"),
        (Fault.ERROR_LINE, {}, ChatUnavailable, "chat-failed", "unexpected EOF"),
        (Fault.BAD_REQUEST, {}, ChatRejected, "chat-failed", "temperature"),
    ],
)
async def test_an_error_says_what_is_wrong(
    fault: Fault | None, settings: dict[str, Any], kind: type[ChatError], code: str, words: str
) -> None:
    async with asking(**settings) as (server, model):
        server.faults = [fault] if fault else []
        with pytest.raises(kind, match=words) as caught:
            await answered(model)
        assert caught.value.code == code
        assert model.health.up is (kind is ChatRejected)  # which is the question's fault


def test_a_model_outside_the_house_is_announced(caplog: pytest.LogCaptureFixture) -> None:
    def announced(url: str, model: str) -> list[str]:
        caplog.clear()
        OllamaChat(OllamaSettings(type="ollama", url=url, model=model), ChatSettings(), DeadlineSettings())
        assert {record.levelname for record in caplog.records} <= {"WARNING"}
        return caplog.messages

    assert announced("http://127.0.0.1:11434", "smollm2") == []
    assert len(announced("http://127.0.0.1:11434", "gpt-oss:120b-cloud")) == 1
    (message,) = announced("https://me:secret@ollama.example.com", "x")
    assert "https://ollama.example.com" in message
    assert "secret" not in message
