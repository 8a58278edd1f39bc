"""Who answers when the first cannot: the next, silently, unless somebody has begun to speak."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import pytest

from satellite.config import Chat, Deadlines, Local, Ollama, OpenAICompatible
from satellite.engines import ChatDelta, ChatModel, Message
from satellite.engines.chat.ollama import OllamaChat
from satellite.engines.chat.openai import OpenAIChat
from satellite.engines.chat.route import RouteChat
from satellite.engines.llamacpp import LlamaCppChat
from satellite.errors import ChatUnavailable
from tests import ollama_server, openai_server
from tests.ollama_server import OllamaServer
from tests.openai_server import OpenAIServer, script

QUESTION = [Message("system", "Be brief."), Message("user", "What is the capital of France?")]


@dataclass(frozen=True)
class House:
    """An Ollama that says one thing, a hosted model that says another, and the route over both."""

    ollama: OllamaServer
    groq: OpenAIServer
    chat: RouteChat


def run(scenario: Callable[[House], Awaitable[None]], *, first: float = 10, key: str | None = None) -> None:
    """Run `scenario` in a house where the first word may take `first` seconds."""

    async def main() -> None:
        ollama, groq = OllamaServer(script("Paris", ", says Ollama.")), OpenAIServer(script("Paris, says Groq."))
        groq.key = key
        async with asyncio.timeout(20), ollama, groq:
            chat = RouteChat(providers(ollama, groq), Deadlines(chat_first_token_seconds=first))
            try:
                await scenario(House(ollama, groq, chat))
            finally:
                await chat.close()
                await chat.close()

    asyncio.run(main())


def providers(ollama: OllamaServer, groq: OpenAIServer) -> list[ChatModel]:
    """Return a model for each server."""
    hosted = OpenAICompatible(type="openai", url=groq.base_url, model=groq.model)
    return [
        OllamaChat(Ollama(type="ollama", url=ollama.url, model="smollm2"), Chat(), Deadlines()),
        OpenAIChat(hosted, Chat(), Deadlines()),
    ]


async def answered(chat: ChatModel) -> str:
    """Return a whole answer with the name of who gave it."""
    async with aclosing(chat.stream(QUESTION)) as stream:
        deltas = [delta async for delta in stream]
    assert len({delta.provider for delta in deltas}) == 1
    return f"{deltas[0].provider}: " + "".join(delta.text for delta in deltas)


def test_the_first_answers_and_nobody_else_is_asked() -> None:
    """A question goes to one provider as long as that one is well."""

    async def scenario(house: House) -> None:
        assert await answered(house.chat) == "ollama: Paris, says Ollama."
        assert house.groq.exchanges == []
        assert house.chat.provider == "ollama, groq"

    run(scenario)


def test_the_second_answers_when_the_first_fails_before_a_word() -> None:
    """A crash, a refusal and an absent server alike send the question on."""

    async def scenario(house: House) -> None:
        for fault in (ollama_server.Fault.CRASH, ollama_server.Fault.BUSY):
            house.ollama.faults = [fault]
            assert await answered(house.chat) == "groq: Paris, says Groq."

    run(scenario)


def test_the_second_answers_when_the_first_is_silent() -> None:
    """A provider that hangs gets its share of the deadline, and its request is withdrawn."""

    async def scenario(house: House) -> None:
        house.ollama.faults = [ollama_server.Fault.HANG]
        assert await answered(house.chat) == "groq: Paris, says Groq."
        assert house.ollama.abandoned.is_set()

    run(scenario, first=3)


def test_after_the_first_word_an_error_is_an_error() -> None:
    """Nothing is ever said twice: the second is not asked to begin again."""

    async def scenario(house: House) -> None:
        house.ollama.faults = [ollama_server.Fault.RESET]
        said: list[ChatDelta] = []
        async with aclosing(house.chat.stream(QUESTION)) as deltas:
            with pytest.raises(ChatUnavailable, match="broke off"):
                async for delta in deltas:
                    said.append(delta)  # noqa: PERF401  # what came before the error counts
        assert [delta.text for delta in said] == ["Paris"]
        assert house.groq.exchanges == []

    run(scenario)


def test_when_nobody_answers_each_is_named_with_its_reason() -> None:
    """One error tells the administrator what is wrong with all of them."""

    async def scenario(house: House) -> None:
        house.ollama.faults = [ollama_server.Fault.BUSY]
        with pytest.raises(ChatUnavailable) as caught:
            await answered(house.chat)
        message = str(caught.value)
        assert message.startswith("nobody answers: ollama: Ollama at http://127.0.0.1")
        assert "server busy" in message
        assert "; groq: groq at http://127.0.0.1" in message
        assert "Invalid API Key" in message
        assert caught.value.code == "chat-refused"

    run(scenario, key="another")


def test_when_nobody_answers_in_time_all_have_had_their_share() -> None:
    """The deadline for the first word is one for all: it is divided, and told."""

    async def scenario(house: House) -> None:
        house.ollama.faults = [ollama_server.Fault.HANG]
        house.groq.faults = [openai_server.Fault.HANG]
        with pytest.raises(
            ChatUnavailable, match=r"ollama: no word within 0\.475 s; groq: no word within 0\."
        ) as caught:
            async with asyncio.timeout(1):
                await answered(house.chat)
        assert caught.value.code == "chat-timeout"
        assert house.ollama.abandoned.is_set()
        await house.groq.abandoned.wait()

    run(scenario, first=1)


def test_closing_the_answer_closes_the_provider() -> None:
    """Whoever leaves stops the server that was answering, and starts no other."""

    async def scenario(house: House) -> None:
        house.ollama.faults = [ollama_server.Fault.STALL]
        deltas = house.chat.stream(QUESTION)
        assert (await anext(deltas)).text == "Paris"
        await deltas.aclose()
        await house.ollama.abandoned.wait()
        assert house.groq.exchanges == []

    run(scenario)


def test_cancelling_during_the_search_stops_it() -> None:
    """A cancelled question is not passed on to the next provider."""

    async def scenario(house: House) -> None:
        house.ollama.faults = [ollama_server.Fault.HANG]
        waiting = asyncio.create_task(answered(house.chat))
        await house.ollama.asked.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await house.ollama.abandoned.wait()
        assert house.groq.exchanges == []

    run(scenario)


def test_a_switch_is_told_once_and_so_is_the_return(caplog: pytest.LogCaptureFixture) -> None:
    """The first failure is a warning, the next are details, and the recovery is news."""
    caplog.set_level(logging.DEBUG, logger="satellite.engines.chat.route")

    async def scenario(house: House) -> None:
        house.ollama.faults = [ollama_server.Fault.CRASH] * 3
        for _ in range(5):
            await answered(house.chat)

    run(scenario)
    told = [record for record in caplog.records if record.name == "satellite.engines.chat.route"]
    assert [record.levelname for record in told] == ["WARNING", "DEBUG", "DEBUG", "INFO"]
    assert "ollama does not answer [chat-failed]" in told[0].getMessage()
    assert "ollama answers again" in told[3].getMessage()


@pytest.mark.models
def test_the_model_in_the_process_is_the_last_resort(models_directory: Path) -> None:
    """With Ollama and the network gone, the house still answers."""

    async def main() -> None:
        local = LlamaCppChat(Local(type="local"), Chat())
        file = models_directory / "chat" / "smollm2-135m-instruct" / "SmolLM2-135M-Instruct.Q4_1.gguf"
        await local.load(file)
        async with OllamaServer(script("")) as ollama, OpenAIServer(script("")) as groq:
            gone = providers(ollama, groq)
        chat = RouteChat([*gone, local], Deadlines())
        answer = await answered(chat)
        assert answer.startswith("local: ")
        assert "Paris" in answer
        await chat.close()

    asyncio.run(main())
