"""Somebody who uses the daemon as it is meant, and what is measured meanwhile."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from wyoming.ping import Ping

from satellite.audio.pcm import read_wav
from satellite.errors import SatelliteError
from satellite.wire import client

_DATA = Path(__file__).parent.parent / "data" / "commands"

_TURN_SECONDS = 120.0
"""How long an answer may take among two hundred hostile clients on a slow machine."""

_PING_GAP_SECONDS = 0.05


@dataclass
class Turns:
    """What became of what was asked."""

    asked: int = 0
    lost: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def _words(text: str) -> str:
    return "".join(character for character in text.lower() if character.isalnum() or character == " ")


async def _understood(uri: str, name: str) -> None:
    """See that a recorded command is understood."""
    expected = (_DATA / f"{name}.txt").read_text(encoding="utf-8")
    heard = await client.transcribe(uri, read_wav(_DATA / f"{name}.wav"))
    if _words(heard.transcript) != _words(expected):
        raise SatelliteError(f"understood {heard.transcript!r} for {expected!r}")


async def _answered(uri: str, text: str) -> None:
    """See that a question is answered."""
    heard = await client.ask_text(uri, text, lambda _: None)
    if not heard.handled or not heard.reply.strip():
        raise SatelliteError(f"{text!r} was answered {heard.reply!r}")


async def _spoken(uri: str, text: str) -> None:
    """See that a text is said to its end."""
    if (await client.say(uri, text)).audio_seconds < 0.3:
        raise SatelliteError(f"{text!r} was not said")


async def talk(uri: str, turns: Turns, over: asyncio.Event) -> None:
    """Take one turn after the other, of every kind, until it is over."""
    kinds: list[tuple[str, Callable[[], Awaitable[None]]]] = [
        ("hears a command", lambda: _understood(uri, "turn_on_the_lights")),
        ("tells the time", lambda: _answered(uri, "what time is it")),
        ("says a sentence", lambda: _spoken(uri, "Dinner is ready.")),
        ("hears another command", lambda: _understood(uri, "what_time_is_it")),
        ("answers a question", lambda: _answered(uri, "What is the capital of France?")),
    ]
    for name, turn in itertools.cycle(kinds):
        if over.is_set():
            return
        turns.asked += 1
        began = time.monotonic()
        try:
            async with asyncio.timeout(_TURN_SECONDS):
                await turn()
        except (SatelliteError, OSError, TimeoutError) as failure:
            turns.lost.append(f"{name}: {type(failure).__name__}: {failure}")
        turns.seconds.append(time.monotonic() - began)


async def ping(uri: str, seconds: float) -> list[float]:
    """Return how long pings took, sent one after the other for a while over a connection of their own."""
    took = []
    until = time.monotonic() + seconds
    async with client.connected(uri) as connection:
        answers = aiter(connection)
        while time.monotonic() < until:
            began = time.monotonic()
            await connection.send(Ping(text="soak"))
            while (await anext(answers)).type != "pong":
                pass
            took.append(time.monotonic() - began)
            await asyncio.sleep(_PING_GAP_SECONDS)
    return took
