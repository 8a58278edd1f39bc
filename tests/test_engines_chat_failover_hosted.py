"""A house whose own model is busy, loading, hung or gone, and a hosted provider behind it: when do words leave?"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from satellite.config.chat import ChatSettings, KeepAliveSettings, OllamaSettings, OpenAISettings
from satellite.config.settings import DeadlineSettings
from satellite.engines.chat.failover import FailoverChat
from satellite.engines.chat.keepalive.loaded_models import ModelState
from satellite.engines.chat.ollama import OllamaChat
from satellite.engines.chat.openai import OpenAIChat
from satellite.engines.protocols import Message
from satellite.errors import ChatUnavailable
from tests.doubles.http import dictated, script
from tests.doubles.ollama import OllamaServer
from tests.doubles.openai import OpenAIServer
from tests.waiting import until

pytestmark = pytest.mark.slow

KEY = "gsk_NobodyMayEverSeeThis"
OUTSIDE = "http://chat.example.com/openai/v1"
FIRST_TOKEN_SECONDS = 0.3


@dataclass
class HomeAndOutside:
    """Ollama at home, and a provider outside behind it."""

    ollama: OllamaServer
    groq: OpenAIServer
    model: OllamaChat
    chat: FailoverChat

    async def answered(self, question: str = "What is the capital of France?") -> str:
        """Return a whole answer, behind the name of who gave it."""
        async with aclosing(self.chat.stream([Message("user", question)])) as stream:
            deltas = [delta async for delta in stream]
        return f"{deltas[0].provider}: {''.join(delta.text for delta in deltas)}"

    @property
    def left(self) -> int:
        """How many questions have left the house."""
        return sum(exchange.method == "POST" for exchange in self.groq.exchanges)


@asynccontextmanager
async def built(
    monkeypatch: pytest.MonkeyPatch,
    *,
    words: Any = None,
    watched: bool = True,
    hosted: str = "when_down",
    deadline: float = 30,
    **server: Any,
) -> AsyncIterator[HomeAndOutside]:
    """A house in which a first word is late after a moment."""
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    async with (
        OllamaServer(words or script("Paris", ", says the house."), **server) as ollama,
        OpenAIServer(script("Paris, says Groq."), key=KEY) as groq,
    ):
        # It stands in for the house's proxy, through which a public name is reached without a network.
        monkeypatch.setenv("HTTP_PROXY", groq.url)
        chat = ChatSettings.model_validate({"first_token_seconds": FIRST_TOKEN_SECONDS, "hosted": hosted})
        deadlines = DeadlineSettings(chat_first_token_seconds=deadline)
        often = KeepAliveSettings(interval_seconds=0.05)
        model = OllamaChat(OllamaSettings(type="ollama", url=ollama.url, model="smollm2"), chat, deadlines, often)
        outside = OpenAIChat(OpenAISettings(type="openai", url=OUTSIDE, model=groq.model), chat, deadlines, often)
        await asyncio.gather(model.load(), outside.load())
        route = FailoverChat([model, outside], chat, deadlines)
        watch = asyncio.create_task(route.watch()) if watched else None
        try:
            yield HomeAndOutside(ollama, groq, model, route)
        finally:
            if watch is not None:
                watch.cancel()
                await asyncio.gather(watch, return_exceptions=True)
            await route.close()


async def test_a_second_room_waits_for_the_answer_to_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    words: asyncio.Queue[str | None] = asyncio.Queue()
    async with built(monkeypatch, words=dictated(words)) as house:
        words.put_nowait(None)  # of the prime
        await house.model.warm_up()
        async with aclosing(house.chat.stream([Message("user", "Tell me a story")])) as first:
            words.put_nowait("Once")
            assert (await anext(first)).text == "Once"
            second = asyncio.create_task(house.answered())
            await asyncio.sleep(4 * FIRST_TOKEN_SECONDS)
            assert house.model.health.up
            for word in (None, "Paris.", None):
                words.put_nowait(word)
            async for _ in first:
                pass
        assert await second == "ollama: Paris."
        assert (house.left, house.model.health.up, house.chat.switches) == (0, True, 0)


async def test_giving_up_a_question_that_waited_for_another_answer_blames_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words: asyncio.Queue[str | None] = asyncio.Queue()
    async with built(monkeypatch, words=dictated(words), watched=False) as house:
        async with aclosing(house.chat.stream([Message("user", "Tell me a story")])) as first:
            words.put_nowait("Once")
            await anext(first)
            second = asyncio.create_task(house.answered())
            await asyncio.sleep(2 * FIRST_TOKEN_SECONDS)
            second.cancel()
            await asyncio.gather(second, return_exceptions=True)
            assert house.model.health.up
        assert house.left == 0


async def test_a_model_that_is_being_loaded_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async with built(monkeypatch, load_seconds=1.5) as house:
        await until(lambda: house.model.health.state == ModelState.LOADING)
        assert await house.answered() == "ollama: Paris, says the house."
        assert house.left == 0
        await until(lambda: house.model.health.state == ModelState.WARM)
        assert house.ollama.counts.loads == 1
        assert ModelState.RUNNER_DIED not in house.model.keepalive.states.seen


async def test_a_model_that_will_not_be_loaded_in_time_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    async with built(monkeypatch, load_seconds=60, deadline=1) as house:
        await until(lambda: house.model.health.state == ModelState.LOADING)
        await until(lambda: not house.model.health.is_late and not house.model.health.up)
        assert await house.answered() == "groq: Paris, says Groq."


async def test_a_server_that_hangs_is_seen_to_while_a_question_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    async with built(monkeypatch) as house:
        await house.model.warm_up()
        house.ollama.freeze()
        assert await house.answered() == "groq: Paris, says Groq."
        assert house.model.health.state == ModelState.SILENT
        assert await house.answered() == "groq: Paris, says Groq."
        house.ollama.thaw()
        await until(lambda: house.model.health.up)
        assert await house.answered() == "ollama: Paris, says the house."


async def test_a_model_that_says_nothing_for_the_whole_deadline_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    async with built(monkeypatch, watched=False, deadline=2) as house:
        house.ollama.first_token_seconds = 60
        with pytest.raises(ChatUnavailable, match="no word within"):
            await house.answered()
        assert house.left == 0
        assert (house.model.health.state, house.model.health.is_late) == (ModelState.SILENT, False)
        assert await house.answered() == "groq: Paris, says Groq."


async def test_what_is_wrong_is_shown_before_what_came_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with built(monkeypatch) as house:
        await house.model.warm_up()
        await house.ollama.stop()
        assert await house.answered() == "groq: Paris, says Groq."
        assert house.model.health.state == ModelState.UNREACHABLE
        assert "is it running?" in house.model.health.message
        await house.ollama.start()
        await until(lambda: house.model.health.up)
        house.ollama.forget()
        house.ollama.models.clear()
        assert await house.answered() == "groq: Paris, says Groq."
        assert house.model.health.state == ModelState.MODEL_MISSING
        assert house.model.health.message.endswith("run: ollama pull smollm2")


async def test_one_empty_answer_is_nobodys_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    async with built(monkeypatch) as house:
        await house.model.warm_up()
        house.ollama.words = script("")
        assert await house.answered() == "groq: Paris, says Groq."
        assert house.model.health.up
        house.ollama.words = script("Rome.")
        assert await house.answered() == "ollama: Rome."
        house.ollama.words = script("")
        for _ in range(3):
            await house.answered()
        assert not house.model.health.up
