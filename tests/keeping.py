"""An Ollama, a chat model that the timer keeps warm, and another client of the same Ollama."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from satellite.config.chat import ChatSettings, KeepAliveSettings, OllamaSettings
from satellite.config.settings import DeadlineSettings
from satellite.engines.chat.keepalive.loaded_models import ModelState
from satellite.engines.chat.ollama import OllamaChat
from satellite.engines.protocols import Message
from tests.doubles.http import Exchange, Words, script
from tests.doubles.ollama import OllamaServer
from tests.ollama_client import Client
from tests.waiting import PATIENCE_SECONDS, meanwhile, until

SYSTEM = Message("system", "You are the voice of the house. Answer in one short sentence. " * 10)
INTERVAL_SECONDS = 0.05


@dataclass(frozen=True)
class KeptModel:
    """The timer's model, from all sides."""

    server: OllamaServer
    chat: OllamaChat
    other: Client
    """Another client of the same server, such as a chat window in a browser."""

    @property
    def seen(self) -> dict[ModelState, int]:
        return dict(self.chat.keepalive.states.seen)

    def sent(self, *kinds: str) -> list[Exchange]:
        """Return what we have sent of these kinds, or of all."""
        ours = [exchange for exchange in self.server.exchanges if "ollama-python" in exchange.headers["user-agent"]]
        return [exchange for exchange in ours if not kinds or kind_of(exchange) in kinds]

    async def becomes(self, state: ModelState) -> None:
        await until(lambda: self.chat.health.state == state)

    async def sends(self, kind: str) -> None:
        """Wait until the next request of this kind has come in."""
        before = len(self.sent(kind))
        await until(lambda: len(self.sent(kind)) > before)

    async def ticks(self, number: int = 4) -> None:
        """Wait until the timer has looked so many times more."""
        looks = len(self.sent("look")) + number
        await until(lambda: len(self.sent("look")) >= looks)

    async def warm(self) -> None:
        """Wait until the model is loaded, its prompt read, and it is known what a ping usually takes."""
        await self.chat.warm_up()
        await until(lambda: len(self.sent("ping")) >= 2)
        await self.ticks(4 + round(self.server.overhead_seconds / INTERVAL_SECONDS))  # it looks while it waits, too
        assert self.chat.health.state == ModelState.WARM

    async def is_silent(self) -> None:
        """Nothing is sent for many intervals."""
        requests = len(self.sent())
        await asyncio.sleep(20 * INTERVAL_SECONDS)
        assert len(self.sent()) == requests

    async def asked(self, question: str = "What is the capital of France?", *before: Message) -> str:
        async with aclosing(self.chat.stream([SYSTEM, *before, Message("user", question)])) as deltas:
            return "".join([delta.text async for delta in deltas])

    async def is_primed(self) -> bool:
        """Ask something, and tell whether the model had read the beginning of the prompt before."""
        await self.asked("Is it primed?")
        return self.server.counts.generations[-1].evaluated_tokens < 20


Scenario = Callable[[KeptModel], Awaitable[None]]


def kind_of(exchange: Exchange) -> str:
    if exchange.path == "/api/ps":
        return "look"
    if exchange.path == "/api/show":
        return "show"
    if not exchange.body["messages"]:
        return "unload" if exchange.body.get("keep_alive") == 0 else "ping"
    return "prime" if exchange.body["options"]["num_predict"] == 1 else "chat"


@asynccontextmanager
async def keeping(
    *,
    words: Words | None = None,
    before: Scenario | None = None,
    watched: bool = True,
    settings: KeepAliveSettings | None = None,
    num_ctx: int = 4096,
    first_token_seconds: float = 1.5,
    kind: type[OllamaServer] = OllamaServer,
    **server: Any,
) -> AsyncIterator[KeptModel]:
    """A model whose timer runs, if `watched`, after `before`; the rest are the server's settings."""
    async with (
        kind(words or script("Paris", " it", " is."), **server) as ollama,
        httpx.AsyncClient(base_url=ollama.url, timeout=PATIENCE_SECONDS, verify=False) as http,
    ):
        chat = OllamaChat(
            OllamaSettings(type="ollama", url=ollama.url, model="smollm2", num_ctx=num_ctx),
            ChatSettings(system_prompt=SYSTEM.content, first_token_seconds=first_token_seconds),
            DeadlineSettings(),
            settings or KeepAliveSettings(interval_seconds=INTERVAL_SECONDS),
        )
        house = KeptModel(ollama, chat, Client(http))
        if before is not None:
            await before(house)
        try:
            async with meanwhile(chat.watch() if watched else asyncio.sleep(0)) as watch:
                yield house
                assert not (watched and watch.done())
        finally:
            await chat.close()
