"""Who answers when the first cannot: the next, silently, unless somebody has begun to speak."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from satellite.config.chat import ChatSettings, KeepAliveSettings, LocalSettings, OllamaSettings, OpenAISettings
from satellite.config.settings import DeadlineSettings
from satellite.engines.chat.failover import FailoverChat
from satellite.engines.chat.llama_cpp import LlamaCppChat
from satellite.engines.chat.ollama import OllamaChat
from satellite.engines.chat.openai import OpenAIChat
from satellite.engines.chat.provider_status import ChatProvider
from satellite.engines.protocols import ChatDelta, ChatModel, Message
from satellite.errors import ChatUnavailable
from tests.doubles import ollama as ollama_stand_in
from tests.doubles import openai as openai_stand_in
from tests.doubles.http import dictated, script
from tests.doubles.ollama import OllamaServer
from tests.doubles.openai import OpenAIServer

QUESTION = [Message("system", "Be brief."), Message("user", "What is the capital of France?")]
OllamaFault = ollama_stand_in.Fault
GroqFault = openai_stand_in.Fault


@dataclass(frozen=True)
class TwoProviders:
    """An Ollama that says one thing, a hosted model that says another, and the route over both."""

    ollama: OllamaServer
    groq: OpenAIServer
    chat: FailoverChat


@asynccontextmanager
async def built(*, first: float = 10, key: str | None = None, **settings: float) -> AsyncIterator[TwoProviders]:
    """A house where the first word may take `first` seconds, and which is not looked after."""
    ollama, groq = OllamaServer(script("Paris", ", says Ollama.")), OpenAIServer(script("Paris, says Groq."))
    groq.key = key
    async with ollama, groq:
        chat_settings = ChatSettings(**{"first_token_seconds": 0.2, **settings})
        models = providers(ollama, groq, chat_settings)
        chat = FailoverChat(models, chat_settings, DeadlineSettings(chat_first_token_seconds=first))
        try:
            yield TwoProviders(ollama, groq, chat)
        finally:
            await chat.close()
            await chat.close()


def providers(ollama: OllamaServer, groq: OpenAIServer, chat: ChatSettings) -> list[ChatProvider]:
    """Return a model for each server."""
    hosted = OpenAISettings(type="openai", url=groq.base_url, model=groq.model)
    often = KeepAliveSettings(interval_seconds=0.05)
    return [
        OllamaChat(OllamaSettings(type="ollama", url=ollama.url, model="smollm2"), chat, DeadlineSettings(), often),
        OpenAIChat(hosted, chat, DeadlineSettings(), often),
    ]


async def deltas_of(chat: ChatModel) -> list[ChatDelta]:
    """Return the deltas of a whole answer."""
    async with aclosing(chat.stream(QUESTION)) as stream:
        return [delta async for delta in stream]


async def answered(chat: ChatModel) -> str:
    """Return a whole answer with the name of who gave it."""
    deltas = await deltas_of(chat)
    assert len({delta.provider for delta in deltas}) == 1
    return f"{deltas[0].provider}: " + "".join(delta.text for delta in deltas)


async def watched(house: TwoProviders, until: Callable[[], bool]) -> None:
    """Look after the providers until something holds."""
    watch = asyncio.create_task(house.chat.watch())
    while not until():
        await asyncio.sleep(0.01)
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)


async def test_the_first_answers_and_nobody_else_is_asked() -> None:
    async with built(first_token_seconds=5) as house:
        assert await answered(house.chat) == "ollama: Paris, says Ollama."
        assert house.groq.exchanges == []
        assert house.chat.provider == "ollama, groq"


@pytest.mark.parametrize("fault", [OllamaFault.CRASH, OllamaFault.BUSY])
async def test_the_second_answers_when_the_first_fails_before_a_word(fault: OllamaFault) -> None:
    async with built(first_token_seconds=5) as house:
        house.ollama.faults = [fault]
        deltas = await deltas_of(house.chat)
        assert "".join(delta.text for delta in deltas) == "Paris, says Groq."
        stats = deltas[-1].stats
        assert stats is not None
        assert stats.switch_reason.startswith("ollama: Ollama at http://127.0.0.1")
        assert stats.first_token_seconds is not None


async def test_the_first_is_heard_if_it_speaks_before_the_second() -> None:
    async with built(first_token_seconds=30, hedge_seconds=0.1, first=60) as house:
        words: asyncio.Queue[str | None] = asyncio.Queue()
        house.ollama.words = dictated(words)
        house.groq.first_token_seconds = 600
        answer = asyncio.create_task(answered(house.chat))
        await house.groq.asked.wait()
        for word in ("Paris", ", says Ollama.", None):
            words.put_nowait(word)
        assert await answer == "ollama: Paris, says Ollama."
        await house.groq.abandoned.wait()
        assert house.chat.models[1].health.up


async def test_hedging_asks_the_second_early_and_blames_nobody() -> None:
    async with built(first_token_seconds=5, hedge_seconds=0.1) as house:
        await answered(house.chat)
        house.ollama.first_token_seconds = 1.0
        assert await answered(house.chat) == "groq: Paris, says Groq."
        await house.ollama.abandoned.wait()
        assert house.chat.models[0].health.up
        house.ollama.first_token_seconds = 0.0
        assert await answered(house.chat) == "ollama: Paris, says Ollama."


async def test_after_the_first_word_an_error_is_an_error() -> None:
    async with built(first_token_seconds=5) as house:
        house.ollama.faults = [OllamaFault.RESET]
        said: list[ChatDelta] = []
        async with aclosing(house.chat.stream(QUESTION)) as deltas:
            with pytest.raises(ChatUnavailable, match="broke off"):
                async for delta in deltas:
                    said.append(delta)  # noqa: PERF401  # what came before the error counts
        assert [delta.text for delta in said] == ["Paris"]
        assert house.groq.exchanges == []


async def test_when_nobody_answers_each_is_named_with_its_reason() -> None:
    async with built(key="another", first_token_seconds=5) as house:
        house.ollama.faults = [OllamaFault.BUSY]
        with pytest.raises(ChatUnavailable) as caught:
            await answered(house.chat)
        message = str(caught.value)
        assert message.startswith("no provider answers: ollama: Ollama at http://127.0.0.1")
        assert "server busy" in message
        assert "; groq: groq at http://127.0.0.1" in message
        assert "Invalid API Key" in message
        assert caught.value.code == "chat-refused"


async def test_when_all_seem_down_all_are_asked_but_whom_one_must_not() -> None:
    async with built(first_token_seconds=5) as house:
        house.groq.retry_after = "60"
        house.ollama.faults = [OllamaFault.CRASH] * 2
        house.groq.faults = [GroqFault.RATE_LIMIT]
        for _ in range(2):
            with pytest.raises(ChatUnavailable):
                await answered(house.chat)
        assert len(house.groq.exchanges) == 1
        assert await answered(house.chat) == "ollama: Paris, says Ollama."


async def test_who_has_no_key_is_not_missed(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.delenv("GROQ_API_KEY", raising=False)
    async with built() as house:
        settings, deadlines = ChatSettings(), DeadlineSettings()
        hosted = OpenAISettings(type="openai", name="groq", url="https://api.groq.com/openai/v1", model="m")
        keyless = OpenAIChat(hosted, settings, deadlines, KeepAliveSettings())
        route = FailoverChat([keyless, *house.chat.models], settings, deadlines)
        assert await answered(route) == "ollama: Paris, says Ollama."
        assert route.status.answering == "ollama"
        assert route.switches == 0
        with pytest.raises(ChatUnavailable, match=r"groq: .*no key"):
            await answered(FailoverChat([keyless], settings, deadlines))
        await keyless.close()
    assert "switched from" not in caplog.text


async def test_closing_the_answer_closes_the_provider() -> None:
    async with built(first_token_seconds=5) as house:
        house.ollama.faults = [OllamaFault.STALL]
        deltas = house.chat.stream(QUESTION)
        assert (await anext(deltas)).text == "Paris"
        await deltas.aclose()
        await house.ollama.abandoned.wait()
        assert house.groq.exchanges == []


async def test_cancelling_during_the_search_stops_it() -> None:
    async with built(first_token_seconds=5) as house:
        house.ollama.faults = [OllamaFault.HANG]
        waiting = asyncio.create_task(answered(house.chat))
        await house.ollama.asked.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await house.ollama.abandoned.wait()
        assert house.groq.exchanges == []


async def test_a_switch_is_told_once_and_so_is_the_return(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="satellite.engines.chat.failover")
    async with built(first_token_seconds=5) as house:
        house.ollama.faults = [OllamaFault.CRASH]
        for _ in range(3):
            await answered(house.chat)
        switch = house.chat.last_switch
        assert switch is not None
        assert (switch.from_, switch.to) == ("ollama", "groq")
        await watched(house, lambda: house.chat.models[0].health.up)
        for _ in range(3):
            await answered(house.chat)
        assert house.chat.switches == 2
    told = [record for record in caplog.records if record.name == "satellite.engines.chat.failover"]
    assert [record.levelname for record in told] == ["WARNING", "INFO"]
    assert "switched from ollama to groq: ollama: Ollama at" in told[0].getMessage()
    assert "ollama is back" in told[1].getMessage()


@pytest.mark.models
async def test_the_model_in_the_process_is_the_last_resort(models_directory: Path) -> None:
    local = LlamaCppChat(LocalSettings(type="local"), ChatSettings())
    file = models_directory / "chat" / "smollm2-135m-instruct" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    await local.load(file)
    async with OllamaServer(script("")) as ollama, OpenAIServer(script("")) as groq:
        gone = providers(ollama, groq, ChatSettings())
    chat = FailoverChat([*gone, local], ChatSettings(), DeadlineSettings())
    answer = await answered(chat)
    assert answer.startswith("local: ")
    assert "Paris" in answer
    await chat.close()
