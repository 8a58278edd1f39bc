"""What the daemon's part of an answer is held against: the same request to the same server, with nothing in between."""

import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import httpx

from satellite.config.chat import ChatSettings, OllamaSettings
from satellite.engines.chat.ollama_client import OllamaApi
from satellite.errors import SatelliteError
from satellite.pipeline.dialogue import Dialogue, Question
from satellite_bench.chat import MESSAGES, Answered, ask, complete, differences, first_word
from satellite_bench.contest import Outcome, Pair, compete
from satellite_bench.server import Server
from satellite_bench.stats import Compared, Summary, summarise

_CONNECT_SECONDS = 2.0


class Bare:
    """Asks Ollama what the daemon would, whole request alike, and reads the answer off the socket."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """Take the daemon's own settings of its chat model, whose first provider is the server."""
        chat = ChatSettings.model_validate(settings)
        provider = chat.providers[0]
        if not isinstance(provider, OllamaSettings):
            raise SatelliteError("only Ollama can be called without the daemon", code="bench-chat")
        self._api = OllamaApi(provider, chat)
        self._dialogue = Dialogue(chat)
        self._client = httpx.AsyncClient(
            base_url=provider.url,
            timeout=httpx.Timeout(_CONNECT_SECONDS, read=None),  # the contest limits a request
            trust_env=False,  # no proxy comes between
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self._client.aclose()
        await self._api.close()

    async def ask(self, text: str) -> Answered:
        """Return the answer; the first word is the first that is not blank, as the daemon sends it."""
        began = time.monotonic()
        first_word_ms: float | None = None
        words = ""
        async with aclosing(self.deltas(text)) as deltas:
            async for delta in deltas:
                words += delta
                if first_word_ms is None and words.strip():
                    first_word_ms = (time.monotonic() - began) * 1000
        complete_ms = (time.monotonic() - began) * 1000
        if first_word_ms is None:
            raise SatelliteError(f"{self._api.server} gave no answer", code="bench-request")
        return Answered(first_word_ms, complete_ms, words.strip())

    async def deltas(self, text: str) -> AsyncGenerator[str, None]:
        """Yield the answer piece by piece; raises `SatelliteError` where it is not whole."""
        request = self._api.request(self._dialogue.prompt(Question(text))) | {"stream": True}
        done = False
        async with self._client.stream("POST", "/api/chat", json=request) as response:
            async for line in response.aiter_lines():
                part = json.loads(line)
                if "error" in part:
                    raise SatelliteError(f"{self._api.server}: {part['error']}", code="bench-request")
                done = done or part["done"]
                if delta := part["message"].get("content", ""):
                    yield delta
        if not done:
            raise SatelliteError(f"{self._api.server} gave no whole answer", code="bench-request")


@dataclass(frozen=True, slots=True)
class Overhead:
    """What the daemon adds to a bare call, pair by pair; all times in ms."""

    words: str
    """Where the words came from."""

    first_word_ms: Compared
    complete_ms: Compared
    first_word_more_ms: Summary
    """By how much a call through the daemon took longer than the bare one next to it."""

    complete_more_ms: Summary
    first_word_noise_ms: Summary
    """By how much a bare call took longer than the bare one before it: what the machine does by itself."""

    complete_noise_ms: Summary
    pairs_with_same_words: int
    """Pairs in which both got the same answer."""

    failures: tuple[str, ...]


async def overhead(
    daemon: Server, bare: Bare, *, words: str, repeats: int, on_progress: Callable[[int, int], None]
) -> Overhead:
    """Ask each message without and with the daemon in turn, `repeats` times each.

    A message is asked once before, uncounted, so that the server has read it before either side asks.
    """
    theirs = Server("the bare call", 0, 0)

    def request(server: Server, message: str) -> Awaitable[Answered]:
        return bare.ask(message) if server is theirs else ask(server.port, message)

    outcomes = []
    for number, message in enumerate(MESSAGES, 1):
        await bare.ask(message)
        outcomes.append(await compete(Pair(daemon, theirs), (message,), request, repeats=repeats))
        on_progress(number, len(MESSAGES))
    return paired(words, outcomes)


def paired(words: str, outcomes: list[Outcome[str, Answered]]) -> Overhead:
    """Return what the pairs of some messages show; a pair of which one failed is left out."""
    pairs = [
        [
            (one, other)
            for (_, one), (_, other) in zip(outcome.ours, outcome.theirs or (), strict=True)
            if one is not None and other is not None
        ]
        for outcome in outcomes
    ]
    failures = tuple(failure for outcome in outcomes for failure in outcome.failures)
    every = [pair for of_message in pairs for pair in of_message]
    if not every:
        raise SatelliteError("\n".join(failures[:4]), code="bench-request")

    def compared(figure: Callable[[Answered], float]) -> Compared:
        return Compared(summarise([figure(one) for one, _ in every]), summarise([figure(other) for _, other in every]))

    def more(figure: Callable[[Answered], float]) -> Summary:
        return summarise(differences([(figure(one), figure(other)) for one, other in every]))

    def noise(figure: Callable[[Answered], float]) -> Summary:
        bare = [[figure(other) for _, other in of_message] for of_message in pairs]
        return summarise([later - earlier for times in bare for earlier, later in pairwise(times)] or [0.0])

    return Overhead(
        words=words,
        first_word_ms=compared(first_word),
        complete_ms=compared(complete),
        first_word_more_ms=more(first_word),
        complete_more_ms=more(complete),
        first_word_noise_ms=noise(first_word),
        complete_noise_ms=noise(complete),
        pairs_with_same_words=sum(one.words == other.words for one, other in every),
        failures=failures,
    )
