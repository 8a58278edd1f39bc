"""A house: the stand-in for Home Assistant, and the responder that asks it."""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from satellite.config.home_assistant import HomeAssistantSettings
from satellite.pipeline.dialogue import Question
from satellite.skills.home_assistant.agent import HomeAssistantResponder
from tests.doubles.home_assistant import HomeAssistantServer
from tests.waiting import meanwhile, until

TOKEN = "eyJNobodyMayEverSeeThis.e30.x-_"
KITCHEN = "turn on the kitchen light"
WHY = "Why is the sky blue?"

SILENT = "Home Assistant doesn't answer."
STARTING = "Home Assistant is starting. Please try again in a moment."
REFUSED = "Home Assistant doesn't let me in."


def asking(server: HomeAssistantServer, *, languages: Sequence[str] = (), **settings: Any) -> HomeAssistantResponder:
    known = HomeAssistantSettings(**{"url": server.url, "token": TOKEN, "deadline_seconds": 5, **settings})
    return HomeAssistantResponder(known, languages=lambda: languages)


@asynccontextmanager
async def at_home(**settings: Any) -> AsyncIterator[tuple[HomeAssistantServer, HomeAssistantResponder]]:
    async with HomeAssistantServer(token=TOKEN) as house:
        responder = asking(house, **settings)
        try:
            yield house, responder
        finally:
            await responder.close()
            await responder.close()


async def said(
    responder: HomeAssistantResponder, text: str = KITCHEN, conversation: str | None = None, **where: Any
) -> str | None:
    """Return what is said to `text`; None where the chat model shall answer."""
    reply = await responder.respond(Question(text, conversation, language="en", **where))
    assert reply is None or reply.provider == "home_assistant"
    return None if reply is None else reply.text


@asynccontextmanager
async def watched(responder: HomeAssistantResponder) -> AsyncIterator[None]:
    """Look after the responder meanwhile; it has looked once when this begins."""
    async with meanwhile(responder.watch()):
        await until(lambda: state(responder) != "untried")
        yield


def state(responder: HomeAssistantResponder) -> str:
    return responder.status.state


def description(responder: HomeAssistantResponder) -> str:
    return responder.status.message


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what the responder has told people, with the severity in front."""
    records = [record for record in caplog.records if record.name.startswith("satellite.skills.home_assistant")]
    return [f"{record.levelname} {record.getMessage()}" for record in records if record.levelno > logging.DEBUG]
