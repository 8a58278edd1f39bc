"""A house whose own model is busy, loading, hung or gone, and a hosted provider after it: when do words leave?"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from satellite.config.chat import ChatSettings, KeepAliveSettings, OllamaSettings
from satellite.config.settings import DeadlineSettings
from satellite.engines.chat.failover import FailoverChat
from satellite.engines.chat.keepalive.loaded_models import ModelState
from satellite.engines.chat.ollama import OllamaChat
from satellite.engines.chat.openai import OpenAIChat
from satellite.engines.protocols import Message
from satellite.errors import ChatUnavailable
from tests.chat_faults import FaultyRoute, says
from tests.doubles.http import Words, dictated, script
from tests.doubles.ollama import OllamaServer
from tests.doubles.openai import OpenAIServer
from tests.hosted import KEY, outside
from tests.relay import Relay

pytestmark = [pytest.mark.slow, pytest.mark.virtual_clock]

QUESTION = [Message("user", "What is the capital of France?")]
STORY = [Message("user", "Tell me a story")]
FIRST_TOKEN_SECONDS = 0.3


@dataclass(kw_only=True)
class HomeAndOutside(FaultyRoute[OllamaServer]):
    """Ollama at home, and a provider outside after it."""

    ollama: OllamaChat


@asynccontextmanager
async def built(*, words: Words | None = None, deadline: float = 30, **server: Any) -> AsyncIterator[HomeAndOutside]:
    """A house in which a first word is late after a moment."""
    async with (
        OllamaServer(words or says("ollama"), **server) as first,
        OpenAIServer(says("groq"), key=KEY) as second,
        Relay(first.port) as relay,
        outside(second) as settings,
    ):
        chat = ChatSettings(first_token_seconds=FIRST_TOKEN_SECONDS)
        deadlines = DeadlineSettings(chat_first_token_seconds=deadline)
        often = KeepAliveSettings(interval_seconds=0.05)
        ollama = OllamaChat(OllamaSettings(type="ollama", url=relay.url, model="smollm2"), chat, deadlines, often)
        groq = OpenAIChat(settings, chat, deadlines, often)
        failover = FailoverChat([ollama, groq], chat, deadlines)
        async with HomeAndOutside(first, relay, second, failover, QUESTION, ollama=ollama) as route:
            yield route


async def test_a_second_room_waits_for_the_answer_to_the_first() -> None:
    words: asyncio.Queue[str | None] = asyncio.Queue()
    async with built(words=dictated(words)) as route:
        route.look_after()
        words.put_nowait(None)  # of the prime
        await route.ollama.warm_up()
        async with aclosing(route.chat.stream(STORY)) as first:
            words.put_nowait("Once")
            assert (await anext(first)).text == "Once"
            second, given_up = (asyncio.create_task(route.who_answers()) for _ in range(2))
            await asyncio.sleep(4 * FIRST_TOKEN_SECONDS)
            given_up.cancel()
            await asyncio.gather(given_up, return_exceptions=True)
            assert route.health.up
            for word in (None, "Paris", ", says ollama.", None):
                words.put_nowait(word)
            async for _ in first:
                pass
        assert await second == "ollama"
        assert (route.second_asked, route.health.up, route.chat.switches) == (0, True, 0)


async def test_a_model_that_is_being_loaded_is_waited_for() -> None:
    async with built(load_seconds=1.5) as route:
        route.look_after()
        await route.until(lambda: route.health.state == ModelState.LOADING)
        assert await route.who_answers() == "ollama"
        await route.until(lambda: route.health.state == ModelState.WARM)
        assert (route.second_asked, route.first.counts.loads) == (0, 1)
        assert ModelState.RUNNER_DIED not in route.ollama.keepalive.states.seen


async def test_a_model_that_will_not_be_loaded_in_time_is_down() -> None:
    async with built(load_seconds=60, deadline=1) as route:
        route.look_after()
        await route.until(lambda: route.health.state == ModelState.LOADING)
        await route.until(lambda: not route.health.is_late and not route.health.up)
        assert await route.who_answers() == "groq"


async def test_a_server_that_hangs_is_noticed_while_a_question_waits() -> None:
    async with built() as route:
        route.look_after()
        await route.ollama.warm_up()
        route.first.freeze()
        for _ in range(2):
            assert await route.who_answers() == "groq"
            assert route.health.state == ModelState.SILENT
        route.first.thaw()
        await route.until(lambda: route.health.up)
        assert await route.who_answers() == "ollama"


async def test_a_model_that_says_nothing_for_the_whole_deadline_is_down() -> None:
    async with built(deadline=2) as route:
        route.first.first_token_seconds = 60
        with pytest.raises(ChatUnavailable, match="no word within"):
            await route.answered()
        assert route.second_asked == 0
        assert (route.health.state, route.health.is_late) == (ModelState.SILENT, False)
        assert await route.who_answers() == "groq"


async def test_the_cause_is_shown_before_its_consequences() -> None:
    async with built() as route:
        route.look_after()
        await route.ollama.warm_up()
        await route.stop()
        assert await route.who_answers() == "groq"
        assert (route.health.state, "is it running?" in route.health.message) == (ModelState.UNREACHABLE, True)
        await route.start()
        await route.until(lambda: route.health.up)
        route.first.forget()
        route.first.models.clear()
        assert await route.who_answers() == "groq"
        assert route.health.state == ModelState.MODEL_MISSING
        assert route.health.message.endswith("run: ollama pull smollm2")


async def test_one_empty_answer_is_nobodys_fault() -> None:
    async with built() as route:
        route.look_after()
        await route.ollama.warm_up()
        usual, route.first.words = route.first.words, script("")
        assert await route.who_answers() == "groq"
        assert route.health.up
        route.first.words = usual
        assert await route.who_answers() == "ollama"
        route.first.words = script("")
        for _ in range(3):
            await route.answered()
        assert not route.health.up
