"""Everything that goes wrong with Ollama, at the worst moments: somebody answers, once, and it heals by itself.

Each fault meets a question at three moments: when the daemon has just started, when the model lay ready, and in the
middle of an answer.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import httpx
import pytest

from satellite.config.chat import ChatSettings, KeepAliveSettings, OllamaSettings, OpenAISettings
from satellite.config.settings import DeadlineSettings
from satellite.engines.chat.failover import FailoverChat
from satellite.engines.chat.ollama import OllamaChat
from satellite.engines.chat.openai import OpenAIChat
from satellite.engines.chat.provider_status import KeepAliveStatus
from satellite.engines.protocols import ChatDelta, ChatStats, Message
from satellite.errors import ChatError, ChatUnavailable
from tests.doubles.http import dictated, script
from tests.doubles.ollama import Fault, OllamaServer
from tests.doubles.openai import OpenAIServer
from tests.doubles.runner import prompt_tokens, tokens
from tests.relay import Relay
from tests.waiting import PATIENCE_SECONDS, until

pytestmark = pytest.mark.slow

FIRST_TOKEN_SECONDS = 0.3
GAP_SECONDS = 0.6


SYSTEM = "You are the voice of the house. " * 10
PREFIX_TOKENS = len(tokens(SYSTEM))
QUESTION = [Message("system", SYSTEM), Message("user", "What is the capital of France?", "It is Monday")]
OTHERS_QUESTION = {"role": "user", "content": "A longer one"}
SECOND = script("Paris", ", says the second.")


async def says_ollama(messages: list[dict[str, str]]) -> AsyncGenerator[str, None]:
    """Say the same to everybody; what other clients ask takes a while."""
    if messages[-1] == OTHERS_QUESTION:
        await asyncio.sleep(0.3)
    yield "Paris"
    yield ", says Ollama."


class Moment(StrEnum):
    """When a fault meets a question."""

    START = "start"
    """Before anybody has looked at Ollama."""

    IDLE = "idle"
    """The model was warm and its prompt read."""

    ANSWERING = "answering"
    """The first words of an answer have come."""


@dataclass
class OllamaAndSecond:
    """Ollama, reached through a piece of network, and a second provider behind it."""

    ollama: OllamaServer
    relay: Relay
    second: OpenAIServer
    chat: FailoverChat
    watch: "asyncio.Task[None] | None" = None
    tasks: list["asyncio.Task[Any]"] = field(default_factory=list)

    @property
    def keeper(self) -> KeepAliveStatus:
        """What the status tells of keeping Ollama's model warm."""
        status = self.chat.models[0].status.keepalive
        assert status is not None
        return status

    @property
    def questions(self) -> int:
        """How many questions Ollama has seen; what the timer sends is none."""
        return sum(bool(e.path == "/api/chat" and e.body["stream"]) for e in self.ollama.exchanges)

    @property
    def second_asked(self) -> int:
        """How many questions the second provider has seen."""
        return sum(exchange.method == "POST" for exchange in self.second.exchanges)

    @property
    def primed(self) -> bool:
        """Whether Ollama would be asked, and knows how every prompt begins."""
        runner = self.ollama.runner
        if runner is None or runner.is_dead or not self.chat.models[0].health.up:
            return False
        prompt = prompt_tokens([{"role": message.role, "content": message.whole} for message in QUESTION])
        is_read = "prime" in self.keeper.requests and runner.cache.cached(prompt) >= PREFIX_TOKENS
        return self.keeper.state == "warm" and is_read

    def ollama_alone(self, messages: Sequence[Message]) -> AsyncGenerator[ChatDelta, None]:
        """Ask as the route does, but nobody else for a first word that is late."""
        patient = FailoverChat(self.chat.models, ChatSettings(first_token_seconds=PATIENCE_SECONDS), DeadlineSettings())
        return patient.stream(messages)

    def look_after(self) -> None:
        """Start the keep-alive timer."""
        self.watch = asyncio.create_task(self.chat.watch())

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for what the timer is to bring about."""
        try:
            await until(condition)
        except TimeoutError:
            raise AssertionError(f"never came about: {self.chat.status}") from None

    async def other_client(self, *messages: dict[str, str], **body: Any) -> None:
        """Ask Ollama as somebody else does who uses the same server."""
        request = {"model": "smollm2", "messages": messages, "stream": False, **body}
        async with httpx.AsyncClient(base_url=self.ollama.url, timeout=20) as client:
            (await client.post("/api/chat", json=request)).raise_for_status()


@asynccontextmanager
async def built(*, deadline_seconds: float = 20, **settings: Any) -> AsyncIterator[OllamaAndSecond]:
    """Build a house whose model nobody looks after yet; `settings` are those of the stand-in."""
    chat = ChatSettings(first_token_seconds=FIRST_TOKEN_SECONDS, system_prompt=SYSTEM)
    deadlines = DeadlineSettings(chat_first_token_seconds=deadline_seconds, chat_gap_seconds=GAP_SECONDS)
    often = KeepAliveSettings(interval_seconds=0.05)
    async with (
        asyncio.timeout(2 * PATIENCE_SECONDS),
        OllamaServer(says_ollama, **settings) as ollama,
        OpenAIServer(SECOND, model="m") as second,
        Relay(ollama.port) as relay,
    ):
        hosted = OpenAISettings(type="openai", name="second", url=second.base_url, model="m")
        first = OllamaSettings(type="ollama", url=relay.url, model="smollm2")
        models = (
            OllamaChat(first, chat, deadlines, often),
            OpenAIChat(hosted, chat, deadlines, often),
        )
        for model in models:
            await model.load()  # importing the libraries is not what is timed
        route = FailoverChat(list(models), chat, deadlines)
        house = OllamaAndSecond(ollama, relay, second, route)
        try:
            yield house
        finally:
            for task in (*house.tasks, *([house.watch] if house.watch else [])):
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            await route.close()


async def at_each_moment(scenario: Callable[[OllamaAndSecond, Moment], Awaitable[None]], **settings: Any) -> None:
    """Run a scenario for every moment, each in a house of its own, all at the same time."""

    async def at(moment: Moment) -> None:
        try:
            async with built(**settings) as house:
                await scenario(house, moment)
        except BaseException as error:
            error.add_note(f"the moment: {moment}")
            raise

    await asyncio.gather(*map(at, Moment))


@dataclass(frozen=True)
class Answer:
    """A complete answer."""

    provider: str
    stats: ChatStats


async def answered(house: OllamaAndSecond) -> Answer:
    """Ask; there must be exactly one whole answer, as soon as the patience with Ollama allows."""
    async with asyncio.timeout(PATIENCE_SECONDS), aclosing(house.chat.stream(QUESTION)) as stream:
        deltas = [delta async for delta in stream]
    (provider,) = {delta.provider for delta in deltas}
    assert (
        "".join(delta.text for delta in deltas)
        == {
            "ollama": "Paris, says Ollama.",
            "second": "Paris, says the second.",
        }[provider]
    )
    stats = deltas[-1].stats
    assert stats is not None
    assert all(delta.stats is None for delta in deltas[:-1])
    return Answer(provider, stats)


async def interrupted(house: OllamaAndSecond, fault: "Lasting | Passing") -> None:
    """Let the fault come when the first words have; the answer is told once, and nobody else is asked."""
    words: asyncio.Queue[str | None] = asyncio.Queue()
    house.ollama.words = dictated(words)
    said: list[ChatDelta] = []
    asked_before = house.second_asked
    broke: ChatError | None = None
    words.put_nowait("Paris")
    try:
        async with asyncio.timeout(PATIENCE_SECONDS), aclosing(house.ollama_alone(QUESTION)) as deltas:
            said.append(await anext(deltas))
            house.tasks.append(asyncio.ensure_future(perform(fault.break_, house)))
            await asyncio.wait(house.tasks, timeout=0.1)  # what another client asks for may have to wait for the end
            for word in (", says Ollama.", None):
                words.put_nowait(word)
            async for delta in deltas:
                said.append(delta)  # noqa: PERF401  # what came before an error counts
    except ChatError as error:
        broke = error
    house.ollama.words = says_ollama
    assert {delta.provider for delta in said} == {"ollama"}
    assert house.second_asked == asked_before
    if fault.spares_answers:
        assert broke is None, broke
        assert "".join(delta.text for delta in said) == "Paris, says Ollama."
    else:
        assert isinstance(broke, ChatUnavailable)
        assert [delta.text for delta in said] == ["Paris"]


# What lasts until somebody sets it right.


Act = Callable[[OllamaAndSecond], Awaitable[None] | None]


async def perform(act: Act, house: OllamaAndSecond) -> None:
    """Do what a fault does, at once or in a while."""
    if (acting := act(house)) is not None:
        await acting


def setting(name: str, value: object) -> Act:
    """Return what changes a setting of Ollama."""
    return lambda house: setattr(house.ollama, name, value)


async def stop(house: OllamaAndSecond) -> None:
    """Kill the server; through the network as it is, a port that nobody listens on is a connection refused."""
    await house.ollama.stop()
    await house.relay.close()


async def start(house: OllamaAndSecond) -> None:
    """Start it again, with nothing loaded."""
    await house.ollama.start()
    await house.relay.open()


def fail_loads(house: OllamaAndSecond) -> None:
    """Kill the runner, and any that is started in its place."""
    house.ollama.fail_loads = "exit status 2"
    house.ollama.kill_runner()


@dataclass(frozen=True)
class Lasting:
    """A fault that is there until `mend`."""

    name: str
    break_: Act
    mend: Act
    state: str
    """What the timer calls it."""

    words: str
    """What an administrator is told."""

    spares_answers: bool = False
    """Whether an answer that has begun is completed."""


RESTART = "if this lasts, restart Ollama"
LASTING = [
    Lasting("down", stop, start, "unreachable", "cannot be reached; is it running?"),
    Lasting("hanging", lambda house: house.ollama.freeze(), lambda house: house.ollama.thaw(), "silent", RESTART),
    Lasting(
        "slow",
        setting("first_token_seconds", 3.0),
        setting("first_token_seconds", 0.0),
        "warm",
        "had no word within ",
        True,
    ),
    Lasting(
        "model missing",
        lambda house: house.ollama.models.clear(),  # which leaves loaded what is loaded
        lambda house: house.ollama.models.update(smollm2="smollm2"),
        "model-missing",
        "run: ollama pull smollm2",
        spares_answers=True,
    ),
    Lasting(
        "failing loads",
        fail_loads,
        setting("fail_loads", None),
        "failing",
        "llama-server process has terminated: exit status 2",
    ),
    Lasting("busy", setting("faults", [Fault.BUSY] * 1000), setting("faults", []), "failing", "server busy", True),
    Lasting("cable pulled", lambda house: house.relay.cut(), lambda house: house.relay.mend(), "silent", RESTART),
    Lasting(
        "connections reset", lambda house: house.relay.reset(), lambda house: house.relay.mend(), "failing", "broke off"
    ),
]


@pytest.mark.parametrize("fault", LASTING, ids=lambda fault: fault.name)
async def test_a_fault_that_lasts(fault: Lasting) -> None:
    async def scenario(house: OllamaAndSecond, moment: Moment) -> None:
        await meet(house, fault, moment)
        if moment is not Moment.ANSWERING or fault.spares_answers:
            assert (await answered(house)).provider == "second"
        await is_left_alone(house, fault)
        await perform(fault.mend, house)
        await is_back(house)

    await at_each_moment(scenario)


async def meet(house: OllamaAndSecond, fault: "Lasting | Passing", moment: Moment) -> None:
    """Let the fault come."""
    if moment is Moment.START:
        await perform(fault.break_, house)
        house.look_after()
        return
    house.look_after()
    await house.until(lambda: house.primed)
    if moment is Moment.IDLE:
        await perform(fault.break_, house)
    else:
        await interrupted(house, fault)
        await asyncio.gather(*house.tasks)


async def is_left_alone(house: OllamaAndSecond, fault: Lasting) -> None:
    """Now that it is known what is wrong, nobody waits for Ollama, and everybody is told."""
    asked, model = house.questions, house.chat.models[0]
    assert not model.health.up
    reason = model.health.message
    answer = await answered(house)
    assert (answer.provider, answer.stats.switch_reason) == ("second", f"ollama: {reason}")
    assert house.questions == asked
    assert "no word after" not in reason  # it was not asked and waited for
    await house.until(lambda: bool(house.keeper.state == fault.state))
    assert model.health.state in ("slow", "unreachable", "silent", "failing", fault.state)
    assert not model.health.up
    assert isinstance(model, OllamaChat)
    assert fault.words in f"{model.health.message}; {model.keepalive.states.message}"
    switch = house.chat.last_switch
    assert switch is not None
    assert (switch.from_, switch.to) == ("ollama", "second")


async def is_back(house: OllamaAndSecond) -> None:
    """Ollama answers again, without being asked to read what every prompt begins with.

    A busy machine may make it late, so that the second one is heard: then it is asked once more.
    """
    await house.until(lambda: house.primed)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while "no word after" in (answer := await answered(house)).stats.switch_reason:
            await house.until(lambda: house.primed)
    assert (answer.provider, answer.stats.switch_reason) == ("ollama", "")
    assert house.ollama.counts.generations[-1].cached_tokens >= PREFIX_TOKENS
    assert house.chat.models[0].health.state == "warm"


# What passes, if the timer sees to it.


LOAD_SECONDS = 0.5
"""Longer than the patience, so that a cold model is never waited for."""


async def kill_runner(house: OllamaAndSecond) -> None:
    """Kill the model's process, which Ollama does not notice; if nobody had it loaded, somebody has now."""
    if house.ollama.runner is None:
        await house.other_client()
    house.ollama.kill_runner()


async def restart(house: OllamaAndSecond) -> None:
    """Restart Ollama: nothing is loaded."""
    await house.ollama.stop()
    await house.ollama.start()


async def evict(house: OllamaAndSecond) -> None:
    """Another client needs another model, and there is room for one."""
    house.ollama.models["other"] = "other"
    await house.other_client(OTHERS_QUESTION, model="other")


@dataclass(frozen=True)
class Passing:
    """A fault that is over once the model is loaded again."""

    name: str
    break_: Act
    seen: str
    """What the timer calls it."""

    spares_answers: bool = True
    """Whether an answer that has begun is completed."""

    heals_alone: bool = True
    """Whether it is set right though nobody is about to ask."""


PASSING = [
    Passing("runner killed", kill_runner, "runner-died", spares_answers=False),
    Passing("restarted empty", restart, "not-loaded", spares_answers=False),
    Passing("unloaded by another client", lambda house: house.other_client(keep_alive=0), "not-loaded"),
    Passing("keep-alive of another client", lambda house: house.other_client(keep_alive="5s"), "foreign-keep-alive"),
    Passing(
        "context of another client",
        lambda house: house.other_client(OTHERS_QUESTION, options={"num_ctx": 2048}),
        "other-context",
        heals_alone=False,
    ),
    Passing("evicted by another model", evict, "not-loaded"),
]


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: fault.name)
async def test_a_fault_that_passes(fault: Passing) -> None:
    async def scenario(house: OllamaAndSecond, moment: Moment) -> None:
        await meet(house, fault, moment)
        await answered(house)
        await is_back(house)
        assert house.ollama.counts.aborted_loads == 0

    await at_each_moment(scenario, load_seconds=LOAD_SECONDS, max_loaded_models=1)


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: fault.name)
async def test_the_timer_finds_it_before_anybody_asks(fault: Passing) -> None:
    async with built(load_seconds=LOAD_SECONDS, max_loaded_models=1) as house:
        house.look_after()
        await house.until(lambda: house.primed and house.ollama.counts.pings > 1)
        seen = house.keeper.seen.get(fault.seen, 0)
        await perform(fault.break_, house)
        await house.until(lambda: house.keeper.seen.get(fault.seen, 0) > seen)
        if not fault.heals_alone:
            house.chat.prepare([])
        await house.until(lambda: house.primed)
        assert (await answered(house)).provider == "ollama"
        assert house.second_asked == 0


# What is no fault, and what is everybody's.


async def test_a_slow_answer_is_no_fault() -> None:
    async with built() as house:
        house.look_after()
        await house.until(lambda: house.primed)
        house.ollama.words = script("Paris", ",", " says", " Ollama", ".")
        house.ollama.seconds_per_token = FIRST_TOKEN_SECONDS + 0.05
        assert (await answered(house)).provider == "ollama"
        assert house.second_asked == 0
        assert house.chat.models[0].health.up


@pytest.mark.parametrize("watched", [True, False])
async def test_a_load_goes_on_though_the_question_has_moved_on(watched: bool) -> None:
    async with built(load_seconds=1.0) as house:
        if watched:
            house.look_after()
        assert (await answered(house)).provider == "second"
        await house.until(lambda: house.ollama.runner is not None)
        counts = house.ollama.counts
        assert (counts.loads, counts.aborted_loads) == (1, 0)
        if not watched:
            house.look_after()
        await is_back(house)
        assert (counts.loads, counts.aborted_loads) == (1, 0)


@pytest.mark.parametrize("fault", LASTING[:4], ids=lambda fault: fault.name)
async def test_when_the_second_is_down_as_well_both_are_named(fault: Lasting) -> None:
    async with built(deadline_seconds=2) as house:
        house.look_after()
        await house.until(lambda: house.primed)
        await perform(fault.break_, house)
        await house.second.stop()
        for _ in range(2):
            async with asyncio.timeout(PATIENCE_SECONDS):
                with pytest.raises(ChatUnavailable) as caught:
                    await answered(house)
            assert str(caught.value).startswith("no provider answers: ")
            assert "ollama: " in str(caught.value)
            assert "second: " in str(caught.value)
        await perform(fault.mend, house)
        await is_back(house)


async def test_however_often_it_was_looked_for_it_is_back_at_once() -> None:
    async with built() as house:
        house.look_after()
        await house.until(lambda: house.primed)
        house.relay.reset()
        looks = house.keeper.requests["look"]
        await house.until(lambda: bool(house.keeper.requests["look"] > looks + 10))
        house.relay.mend()
        await is_back(house)


async def test_each_trouble_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="satellite")
    async with built() as house:
        house.look_after()
        await house.until(lambda: house.primed)
        await stop(house)
        await house.until(lambda: bool(house.keeper.state == "unreachable"))
        looks = house.keeper.requests["look"]
        await house.until(lambda: bool(house.keeper.requests["look"] > looks + 10))
        await start(house)
        await is_back(house)
    told = [(record.levelname, record.getMessage()) for record in caplog.records if "Ollama" in record.getMessage()]
    assert len(told) == len(set(told))  # one that was cut off amid a look is told of besides
    assert told[-1][0] == "WARNING"
    assert "cannot be reached" in told[-1][1]
