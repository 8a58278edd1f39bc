"""Everything that goes wrong with Ollama, at the worst moments: somebody answers, once, and it heals by itself."""

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from satellite.config.chat import ChatSettings, KeepAliveSettings, OllamaSettings, OpenAISettings
from satellite.config.settings import DeadlineSettings
from satellite.engines.chat.failover import FailoverChat
from satellite.engines.chat.ollama import OllamaChat
from satellite.engines.chat.openai import OpenAIChat
from satellite.engines.chat.provider_status import KeepAliveStatus
from satellite.engines.protocols import Message
from satellite.errors import ChatUnavailable
from tests.chat_faults import FaultyRoute, Moment, ProviderFault, says
from tests.doubles.http import Exchange, script
from tests.doubles.ollama import Fault, OllamaServer
from tests.doubles.openai import OpenAIServer
from tests.doubles.runner import prompt_tokens, tokens
from tests.ollama_client import Client
from tests.relay import Relay
from tests.waiting import PATIENCE_SECONDS

pytestmark = [pytest.mark.slow, pytest.mark.virtual_clock]

FIRST_TOKEN_SECONDS = 0.3
LOAD_SECONDS = 0.5
"""Longer than the patience, so that a cold model is never waited for."""

SYSTEM = "You are the voice of the house. " * 10
PREFIX_TOKENS = len(tokens(SYSTEM))
QUESTION = [Message("system", SYSTEM), Message("user", "What is the capital of France?", "It is Monday")]
OTHERS_QUESTION = {"role": "user", "content": "A longer one"}


async def says_ollama(messages: list[dict[str, str]]) -> AsyncGenerator[str, None]:
    """Say the same to everybody; what other clients ask takes a while."""
    if messages[-1] == OTHERS_QUESTION:
        await asyncio.sleep(0.3)
    async for piece in says("ollama")(messages):
        yield piece


@dataclass
class OllamaRoute(FaultyRoute[OllamaServer]):
    """Ollama, and somebody else who uses it."""

    ollama: OllamaChat
    client: Client

    @property
    def keepalive(self) -> KeepAliveStatus:
        return self.ollama.keepalive.status

    @property
    def attempts(self) -> int:
        """How often the timer has tried to load the model, or to let it read its prompt."""
        return self.keepalive.requests.get("ping", 0) + self.keepalive.requests.get("prime", 0)

    @property
    def primed(self) -> bool:
        """Whether Ollama would be asked, and knows how every prompt begins."""
        runner = self.first.runner
        if runner is None or runner.is_dead or not self.health.up or self.keepalive.state != "warm":
            return False
        prompt = prompt_tokens([{"role": message.role, "content": message.whole} for message in QUESTION])
        return "prime" in self.keepalive.requests and runner.cache.cached(prompt) >= PREFIX_TOKENS

    async def watched(self) -> None:
        """Start the keep-alive timer, and wait until the model is primed."""
        self.look_after()
        await self.until(lambda: self.primed)

    async def many_looks(self) -> None:
        looks = self.keepalive.requests["look"]
        await self.until(lambda: self.keepalive.requests["look"] > looks + 10)

    async def meets(self, fault: ProviderFault["OllamaRoute"], moment: Moment) -> None:
        if moment is Moment.START:
            await fault.come(self)
            self.look_after()
            return
        await self.watched()
        await (fault.interrupt(self) if moment is Moment.ANSWERING else fault.come(self))

    async def is_back(self, within_seconds: float = 5) -> None:
        """Ollama soon answers again, without being asked to read what every prompt begins with."""
        async with asyncio.timeout(within_seconds):
            await self.until(lambda: self.primed)
        answer = await self.answered()
        assert (answer.provider, answer.stats.switch_reason) == ("ollama", "")
        assert self.first.counts.generations[-1].cached_tokens >= PREFIX_TOKENS
        assert self.health.state == "warm"

    async def other_client(self, *messages: dict[str, str], **body: Any) -> None:
        """Ask Ollama as somebody else does who uses the same server."""
        assert "error" not in await self.client.chat(*messages, **body)


@asynccontextmanager
async def running(*, deadline_seconds: float = 20, **settings: Any) -> AsyncIterator[OllamaRoute]:
    """Build a house whose model nobody looks after yet; `settings` are those of the stand-in."""
    chat = ChatSettings(first_token_seconds=FIRST_TOKEN_SECONDS, system_prompt=SYSTEM)
    deadlines = DeadlineSettings(chat_first_token_seconds=deadline_seconds, chat_gap_seconds=0.6)
    often = KeepAliveSettings(interval_seconds=0.05)
    async with (
        OllamaServer(says_ollama, **settings) as ollama,
        OpenAIServer(says("second"), model="m") as second,
        Relay(ollama.port) as relay,
        httpx.AsyncClient(base_url=ollama.url, timeout=PATIENCE_SECONDS, verify=False) as http,
    ):
        first = OllamaChat(OllamaSettings(type="ollama", url=relay.url, model="smollm2"), chat, deadlines, often)
        hosted = OpenAISettings(type="openai", name="second", url=second.base_url, model="m")
        models = (first, OpenAIChat(hosted, chat, deadlines, often))
        failover = FailoverChat(models, chat, deadlines)
        async with OllamaRoute(ollama, relay, second, failover, QUESTION, first, Client(http)) as route:
            yield route


# What lasts until somebody sets it right.


Act = Callable[[OllamaRoute], Awaitable[None] | None]


@dataclass(frozen=True)
class Lasting(ProviderFault[OllamaRoute]):
    """A fault that is there until it is fixed."""

    state: str = ""
    """What the timer calls it."""


def setting(name: str, value: object) -> Act:
    return lambda route: setattr(route.first, name, value)


async def talk_nonsense(exchange: Exchange) -> None:
    """Answer whatever is asked with half a document."""
    await exchange.reply(200, b'{"models": null')


def fail_loads(route: OllamaRoute) -> None:
    """Kill the runner, and any that is started in its place."""
    route.first.fail_loads = "exit status 2"
    route.first.kill_runner()


RESTART = "if this lasts, restart Ollama"
LASTING = [
    Lasting("down", OllamaRoute.stop, OllamaRoute.start, r"cannot be reached; is it running\?", state="unreachable"),
    Lasting("hanging", lambda route: route.first.freeze(), lambda route: route.first.thaw(), RESTART, state="silent"),
    Lasting(
        "slow",
        setting("first_token_seconds", 3.0),
        setting("first_token_seconds", 0.0),
        "had no word within ",
        spares_answers=True,
        state="warm",
    ),
    Lasting(
        "model missing",
        lambda route: route.first.models.clear(),  # which leaves loaded what is loaded
        lambda route: route.first.models.update(smollm2="smollm2"),
        "run: ollama pull smollm2",
        spares_answers=True,
        state="model-missing",
    ),
    Lasting(
        "failing loads",
        fail_loads,
        setting("fail_loads", None),
        "llama-server process has terminated: exit status 2",
        state="failing",
    ),
    Lasting(
        "busy",
        setting("faults", [Fault.BUSY] * 1000),
        setting("faults", []),
        "server busy",
        spares_answers=True,
        state="failing",
    ),
    Lasting(
        "nonsense",
        setting("answer", talk_nonsense),
        lambda route: delattr(route.first, "answer"),
        "broke off",
        spares_answers=True,
        state="failing",
    ),
    Lasting("cable pulled", lambda route: route.relay.cut(), lambda route: route.relay.mend(), RESTART, state="silent"),
    Lasting(
        "connections reset",
        lambda route: route.relay.reset(),
        lambda route: route.relay.mend(),
        "broke off",
        state="failing",
    ),
]


@pytest.mark.parametrize("moment", Moment)
@pytest.mark.parametrize("fault", LASTING, ids=lambda fault: fault.name)
async def test_a_fault_that_lasts(fault: Lasting, moment: Moment, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="satellite")
    async with running() as route:
        await route.meets(fault, moment)
        if moment is not Moment.ANSWERING or fault.spares_answers:
            assert await route.who_answers() == "second"
        await is_left_alone(route, fault)
        if fault.state != "warm":
            with pytest.raises(ChatUnavailable, match=fault.message):
                await route.ollama.warm_up()
            attempts = route.attempts
            await route.many_looks()
            assert route.attempts <= attempts + 1  # ever more rarely
            assert route.keepalive.seen[fault.state] == 1
        await fault.go(route)
        await route.is_back()
    if fault.state != "warm":
        logged = [(record.levelname, record.getMessage()) for record in caplog.records if "state_log" in record.name]
        assert [level for level, message in logged if re.search(fault.message, message)] == ["WARNING"]
        assert (logged[-1][0], "is loaded and ready" in logged[-1][1]) == ("INFO", True)


async def is_left_alone(route: OllamaRoute, fault: Lasting) -> None:
    """Now that it is known what is wrong, nobody waits for Ollama, and everybody is told."""
    reason, asked = route.health.message, route.questions
    assert not route.health.up
    answer = await route.answered()
    assert (answer.provider, answer.stats.switch_reason) == ("second", f"ollama: {reason}")
    assert route.questions == asked
    assert "no word after" not in reason  # it was not asked and waited for
    await route.until(lambda: route.keepalive.state == fault.state)
    assert route.health.state in ("slow", "unreachable", "silent", "failing", fault.state)
    assert not route.health.up
    assert re.search(fault.message, f"{route.health.message}; {route.ollama.keepalive.states.message}")
    switch = route.chat.last_switch
    assert switch is not None
    assert (switch.from_, switch.to) == ("ollama", "second")


# What passes, if the timer sees to it.


async def kill_runner(route: OllamaRoute) -> None:
    """Kill the model's process, which Ollama does not notice; if nobody had it loaded, somebody has now."""
    if route.first.runner is None:
        await route.other_client()
    route.first.kill_runner()


async def restart(route: OllamaRoute) -> None:
    """Restart Ollama: nothing is loaded."""
    await route.first.stop()
    await route.first.start()


async def evict(route: OllamaRoute) -> None:
    """Another client needs another model, and there is room for one."""
    route.first.models["other"] = "other"
    await route.other_client(OTHERS_QUESTION, model="other")


def passing(
    name: str, break_: Act, seen: str, *, spares_answers: bool = True
) -> tuple[ProviderFault[OllamaRoute], str]:
    """Return a fault that is over once the model is loaded again, and what the timer calls it."""
    return ProviderFault(name, break_, lambda _: None, "", spares_answers), seen


OTHER_CONTEXT = "other-context"
PASSING = [
    passing("runner killed", kill_runner, "runner-died", spares_answers=False),
    passing("restarted empty", restart, "not-loaded", spares_answers=False),
    passing("unloaded by another client", lambda route: route.other_client(keep_alive=0), "not-loaded"),
    passing("keep-alive of another client", lambda route: route.other_client(keep_alive="5s"), "foreign-keep-alive"),
    passing(
        "context of another client",
        lambda route: route.other_client(OTHERS_QUESTION, options={"num_ctx": 2048}),
        OTHER_CONTEXT,
    ),
    passing("evicted by another model", evict, "not-loaded"),
]
each_passing_fault = pytest.mark.parametrize(
    ("fault", "seen"), PASSING, ids=lambda value: value.name if isinstance(value, ProviderFault) else ""
)


@pytest.mark.parametrize("moment", Moment)
@each_passing_fault
async def test_a_fault_that_passes(fault: ProviderFault[OllamaRoute], seen: str, moment: Moment) -> None:
    async with running(load_seconds=LOAD_SECONDS, max_loaded_models=1) as route:
        await route.meets(fault, moment)
        await route.answered()
        await route.is_back()
        assert route.first.counts.aborted_loads == 0


@each_passing_fault
async def test_the_timer_finds_it_before_anybody_asks(fault: ProviderFault[OllamaRoute], seen: str) -> None:
    async with running(load_seconds=LOAD_SECONDS, max_loaded_models=1) as route:
        await route.watched()
        await route.until(lambda: route.first.counts.pings > 1)
        before = route.keepalive.seen.get(seen, 0)
        await fault.come(route)
        await route.until(lambda: route.keepalive.seen.get(seen, 0) > before)
        if seen == OTHER_CONTEXT:  # which is left to the other client until somebody is about to ask
            route.chat.prepare([])
        await route.is_back()
        assert route.second_asked == 0


# What is no fault, and what is everybody's.


async def test_a_slow_answer_is_no_fault() -> None:
    async with running() as route:
        await route.watched()
        route.first.words = script("Paris", ",", " says", " ollama", ".")
        route.first.seconds_per_token = FIRST_TOKEN_SECONDS + 0.05
        assert await route.who_answers() == "ollama"
        assert route.second_asked == 0
        assert route.health.up


@pytest.mark.parametrize("watched", [True, False])
async def test_a_load_goes_on_though_the_question_has_moved_on(watched: bool) -> None:
    async with running(load_seconds=1.0) as route:
        if watched:
            route.look_after()
        assert await route.who_answers() == "second"
        await route.until(lambda: route.first.runner is not None)
        counts = route.first.counts
        assert (counts.loads, counts.aborted_loads) == (1, 0)
        if not watched:
            route.look_after()
        await route.is_back()
        assert (counts.loads, counts.aborted_loads) == (1, 0)


@pytest.mark.parametrize("fault", LASTING[:4], ids=lambda fault: fault.name)
async def test_when_the_second_is_down_as_well_both_are_named(fault: Lasting) -> None:
    async with running(deadline_seconds=2) as route:
        await route.watched()
        await fault.come(route)
        await route.second.stop()
        for _ in range(6):
            with pytest.raises(ChatUnavailable, match=r"^no provider answers: (?=.*ollama: )(?=.*second: )"):
                await route.answered()
        await fault.go(route)
        # A sixth failed question is held against a provider for 16 s, but for one that was not there at all.
        await route.is_back(within_seconds=5 if fault.state in ("unreachable", "silent") else 20)
