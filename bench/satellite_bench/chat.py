"""The chat model as a room meets it: how long until the first word of an answer, and until the last."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from wyoming.asr import Transcript
from wyoming.handle import HandledChunk

from satellite.errors import SatelliteError
from satellite_bench.contest import Outcome, Pair, compete
from satellite_bench.server import Server, connected, receive
from satellite_bench.stats import Compared, Summary, summarise

MESSAGES = (
    "Should I open the window when it is cold outside?",
    "How long does it take to boil an egg?",
    "What is a good temperature for a bedroom?",
    "How do I get a coffee stain out of a shirt?",
    "Which plants need little light?",
    "How often should I water a cactus?",
    "What can I cook with rice and tomatoes?",
    "Why is my bread not rising?",
    "How do I save power in the kitchen?",
    "What should I do when the smoke alarm goes off?",
)
"""Ten things that people ask at home."""

_REST_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer, in milliseconds from before the question is sent, the connection being open."""

    first_word_ms: float
    complete_ms: float
    words: str
    provider: str = ""
    load_ms: float | None = None
    """The part of it that the server reports as loading the model; None where it does not."""


@dataclass(frozen=True, slots=True)
class MessageFigures:
    """One of the messages."""

    first_word_ms: Summary
    complete_ms: Summary


@dataclass(frozen=True, slots=True)
class AnswerFigures:
    """Different messages, one after the other, end to end."""

    first_word_ms: Summary
    complete_ms: Summary
    by_message: dict[str, MessageFigures]

    failures: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IdleFigures:
    """The first answer after some time without any use, and answers right after others."""

    DESCRIBED: ClassVar = ("compared", "load_ms")

    seconds: float
    unloads_after_seconds: float | None
    """How long the server keeps a model without keep-alive; None for its default."""

    after: tuple[Answered, ...]
    warm: tuple[Answered, ...]

    @property
    def compared(self) -> Compared:
        """The first word after the idle time as ours, right after another question as theirs."""
        return Compared(summarise([*map(first_word, self.after)]), summarise([*map(first_word, self.warm)]))

    @property
    def load_ms(self) -> float | None:
        """The longest that the server says it loaded for an answer after the idle time."""
        return max((answered.load_ms for answered in self.after if answered.load_ms is not None), default=None)


async def ask(port: int, text: str) -> Answered:
    """Ask the daemon's conversation service over a connection of its own."""
    first_word_ms: float | None = None
    complete_ms = 0.0
    words = ""
    context: dict[str, Any] = {}
    async with connected(port) as client:
        began = time.monotonic()
        await client.write_event(Transcript(text=text).event())
        while (event := await receive(client)).type not in ("handled-stop", "not-handled"):
            now_ms = (time.monotonic() - began) * 1000
            if event.type == "handled-chunk":
                first_word_ms = now_ms if first_word_ms is None else first_word_ms
                words += HandledChunk.from_event(event).text
            elif event.type == "handled":
                complete_ms = now_ms
                context = event.data.get("context") or {}
    if first_word_ms is None:
        raise SatelliteError("the daemon gave no answer", code="bench-request")
    return Answered(first_word_ms, complete_ms, words.strip(), str(context.get("provider", "")), context.get("load_ms"))


async def answers(daemon: Server, *, repeats: int, on_progress: Callable[[int, int], None]) -> AnswerFigures:
    """Ask every message in turn, all of them `repeats` times, after one that is not counted."""
    await ask(daemon.port, MESSAGES[-1])
    outcome = await compete(Pair(daemon), MESSAGES, _asked, repeats=repeats, on_progress=on_progress)
    return AnswerFigures(
        first_word_ms=outcome.compared(first_word).ours,
        complete_ms=outcome.compared(complete).ours,
        by_message={message: _of_one(outcome, message) for message in MESSAGES},
        failures=tuple(outcome.failures),
    )


async def _asked(server: Server, message: str) -> Answered:
    return await ask(server.port, message)


def _of_one(outcome: Outcome[str, Answered], message: str) -> MessageFigures:
    return MessageFigures(outcome.compared(first_word, (message,)).ours, outcome.compared(complete, (message,)).ours)


async def first_after(
    daemon: Server,
    seconds: float,
    *,
    repeats: int,
    warm: int,
    rest: Callable[[float], Awaitable[None]] = asyncio.sleep,
    unloads_after_seconds: float | None = None,
) -> IdleFigures:
    """Ask one question after resting for `seconds`, and the same one right after another.

    There are at least `warm` of the latter, half of them before the rests and half after them. What is asked in
    between is the other question, so that the model has to read as much each time.
    """
    question, other = MESSAGES[:2]

    async def after(pause: Awaitable[None]) -> Answered:
        await ask(daemon.port, other)
        await pause
        return await ask(daemon.port, question)

    async def right_after() -> list[Answered]:
        return [await after(asyncio.sleep(_REST_SECONDS)) for _ in range(-(-warm // (2 * repeats)))]

    rested: list[Answered] = []
    others: list[Answered] = []
    for _ in range(repeats):
        others += await right_after()
        rested.append(await after(rest(seconds)))
        others += await right_after()
    return IdleFigures(seconds, unloads_after_seconds, tuple(rested), tuple(others))


async def switching(first_is_down: Server, alone: Server, *, second: str, repeats: int) -> tuple[Compared, list[str]]:
    """Return the first word where the first provider is down, beside the `second` one alone, and what went wrong."""
    outcome: Outcome[str, Answered] = await compete(Pair(first_is_down, alone), MESSAGES, _asked, repeats=repeats)
    results = [result for _, result in (*outcome.ours, *(outcome.theirs or ())) if result is not None]
    others = {result.provider for result in results} - {second}
    wrong = [f"{provider} answered instead of {second}" for provider in sorted(others)]
    return outcome.compared(first_word), outcome.failures + wrong


def first_word(answered: Answered) -> float:
    """Return the time to the first word."""
    return answered.first_word_ms


def complete(answered: Answered) -> float:
    """Return the time to the whole answer."""
    return answered.complete_ms


def differences(pairs: Sequence[tuple[float, float]]) -> list[float]:
    """Return by how much the first of each pair is more than the second."""
    return [one - other for one, other in pairs]
