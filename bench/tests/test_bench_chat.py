"""The chat part of the benchmark: what it asks, with and without the daemon, and what it makes of the answers."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from satellite_bench import chat, chat_bare, chat_servers, memory
from satellite_bench.chat import MESSAGES, Answered
from satellite_bench.chat_bare import Bare
from satellite_bench.chat_cost import KeepAliveCost, Rest
from satellite_bench.chat_run import idle_repeats
from satellite_bench.contest import Outcome
from satellite_bench.server import Server
from satellite_bench.stats import summarise
from wyoming.error import Error
from wyoming.event import Event, async_read_event, async_write_event
from wyoming.handle import Handled, HandledChunk, HandledStart, HandledStop, NotHandled

from satellite.config.chat import ChatSettings
from satellite.config.settings import DeadlineSettings
from satellite.engines.chat.ollama import OllamaChat
from satellite.errors import SatelliteError
from satellite.pipeline.dialogue import Dialogue, Question
from tests.doubles.http import script
from tests.doubles.ollama import Fault, OllamaServer

Reply = Callable[[str], Sequence[Event]]


def spoken(question: str, provider: str = "ollama") -> list[Event]:
    """Return a daemon's answer: the question, in two pieces."""
    half = len(question) // 2
    return [
        HandledStart().event(),
        HandledChunk(text=question[:half]).event(),
        HandledChunk(text=question[half:]).event(),
        Handled(text=question, context={"provider": provider, "load_ms": 68.0}).event(),
        HandledStop().event(),
    ]


def answered(first_word_ms: float, words: str = "Yes.") -> Answered:
    """Return an answer whose end came ten times as late as its first word."""
    return Answered(first_word_ms, 10 * first_word_ms, words)


@asynccontextmanager
async def handling(reply: Reply = spoken) -> AsyncIterator[tuple[Server, list[str]]]:
    """Run a conversation service that answers with `reply`; give it out with what it is asked."""
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (event := await async_read_event(reader)) is not None:
            asked.append(event.data["text"])
            for answer in reply(asked[-1]):
                await async_write_event(answer, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield Server("a daemon", server.sockets[0].getsockname()[1], os.getpid()), asked
    finally:
        server.close()


async def test_an_answer_is_timed_from_the_first_word_to_the_whole() -> None:
    async with handling() as (server, _):
        answered = await chat.ask(server.port, "Is it cold?")
        assert (answered.words, answered.provider) == ("Is it cold?", "ollama")
        assert 0 < answered.first_word_ms <= answered.complete_ms


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (NotHandled(text="").event(), "gave no answer"),
        (Error(text="Nobody answers.", code="chat-unavailable").event(), "Nobody answers"),
    ],
)
async def test_no_answer_is_no_figure(answer: Event, words: str) -> None:
    async with handling(lambda _: [answer]) as (server, _):
        with pytest.raises(SatelliteError, match=words):
            await chat.ask(server.port, "Is it cold?")


async def test_every_message_is_asked_as_often() -> None:
    assert len(set(MESSAGES)) == 10
    async with handling() as (server, asked):
        told: list[tuple[int, int]] = []
        figures = await chat.answers(server, repeats=1, on_progress=lambda done, of: told.append((done, of)))
        assert asked == [MESSAGES[-1], *MESSAGES]
        assert (figures.first_word_ms.n, figures.complete_ms.n) == (10, 10)
        counts = {message: found.first_word_ms.n for message, found in figures.by_message.items()}
        assert counts == dict.fromkeys(MESSAGES, 1)
        assert told[-1] == (10, 10)
        assert figures.failures == ()


async def test_the_question_after_a_rest_follows_another_one() -> None:
    async with handling() as (server, asked):
        rests: list[float] = []

        async def rest(seconds: float) -> None:
            rests.append(seconds)

        idle = await chat.first_after(server, 7.0, repeats=2, warm=3, rest=rest, unloads_after_seconds=3.0)
        assert rests == [7.0, 7.0]
        assert asked == [MESSAGES[1], MESSAGES[0]] * 6
        assert (len(idle.after), len(idle.warm)) == (2, 4)
        assert idle.load_ms == 68.0


@pytest.mark.parametrize(("seconds", "repeats"), [(0.0, 3), (1.0, 3), (5.0, 3), (10.0, 2), (20.0, 1), (3600.0, 1)])
def test_a_long_idle_time_is_measured_less_often(seconds: float, repeats: int) -> None:
    assert idle_repeats(seconds) == repeats


async def test_only_the_second_provider_counts_where_the_first_is_down() -> None:
    async with handling() as (server, asked):
        async with handling(lambda text: spoken(text, "second")) as (alone, also_asked):
            compared, wrong = await chat.switching(server, alone, second="second", repeats=1)
        assert compared.theirs is not None
        assert (compared.ours.n, compared.theirs.n) == (10, 10)
        assert asked == also_asked == list(MESSAGES)
        assert wrong == ["ollama answered instead of second"]


# The bare call.


@asynccontextmanager
async def asking_bare(*words: str) -> AsyncIterator[tuple[Bare, OllamaServer]]:
    """Give out a bare caller, and its Ollama, which says `words`."""
    async with OllamaServer(script(*words)) as server, Bare(chat_servers.asking_ollama(server.url)) as bare:
        yield bare, server


async def test_the_bare_request_is_the_daemons() -> None:
    async with asking_bare("Yes", ".") as (bare, server):
        settings = ChatSettings.model_validate(chat_servers.asking_ollama(server.url))
        provider = settings.providers[0]
        assert provider.type == "ollama"
        model = OllamaChat(provider, settings, DeadlineSettings())
        async for _ in model.stream(Dialogue(settings).prompt(Question(MESSAGES[0]))):
            pass
        await model.close()
        await bare.ask(MESSAGES[0])
        ours, theirs = (exchange.body for exchange in server.exchanges)
        assert ours.pop("tools") == []  # the client always names them
        assert theirs == ours
        assert theirs["options"]["num_ctx"] == 4096
        assert server.counts.loads == 1


async def test_a_blank_piece_is_no_first_word() -> None:
    async with asking_bare("\n", "Yes,", " it", " is.") as (bare, server):
        server.seconds_per_token = 0.02
        answered = await bare.ask(MESSAGES[0])
        assert answered.words == "Yes, it is."
        assert answered.first_word_ms >= 20
        assert answered.first_word_ms < answered.complete_ms


@pytest.mark.parametrize(
    ("fault", "words"), [(Fault.CUT, "no whole answer"), (Fault.ERROR_LINE, "error"), (Fault.CRASH, "terminated")]
)
async def test_a_bare_call_that_fails_is_no_figure(fault: Fault, words: str) -> None:
    async with asking_bare("Yes", ".") as (bare, server):
        server.faults = [fault]
        with pytest.raises(SatelliteError, match=words):
            await bare.ask(MESSAGES[0])


def test_only_ollama_is_asked_without_the_daemon() -> None:
    with pytest.raises(SatelliteError, match="only Ollama"):
        Bare(chat_servers.asking_second("http://127.0.0.1:1"))


async def test_each_side_is_asked_every_message_in_pairs() -> None:
    async with handling() as (daemon, asked):
        async with OllamaServer(script(MESSAGES[0])) as server, Bare(chat_servers.asking_ollama(server.url)) as bare:
            more = await chat_bare.overhead(daemon, bare, words="a script", repeats=1, on_progress=lambda *_: None)
            assert len(server.exchanges) == 20
        assert asked == list(MESSAGES)
        assert more.first_word_more_ms.n == 10
        assert more.pairs_with_same_words == 1


def outcome(ours: Sequence[float | None], theirs: Sequence[float | None]) -> Outcome[str, Answered]:
    """Return what some calls with and without the daemon took until the first word; None failed."""
    failures = ["out of order"] * (list(ours).count(None) + list(theirs).count(None))
    made = [[("a", None if ms is None else answered(ms)) for ms in side] for side in (ours, theirs)]
    return Outcome(made[0], made[1], failures)


def test_a_difference_is_taken_pair_by_pair() -> None:
    more = chat_bare.paired("a script", [outcome([12, None, 25], [10, 11, 20]), outcome([101], [100])])
    assert more.first_word_more_ms == summarise([2.0, 5.0, 1.0])
    assert more.complete_more_ms == summarise([20.0, 50.0, 10.0])
    assert more.first_word_noise_ms == summarise([10.0])
    assert more.first_word_ms.ours == summarise([12.0, 25.0, 101.0])
    assert (more.pairs_with_same_words, more.failures) == (3, ("out of order",))


def test_pairs_that_all_failed_have_no_figure() -> None:
    with pytest.raises(SatelliteError, match="out of order"):
        chat_bare.paired("a script", [outcome([None, 12], [10, None])])


# CPU time.


def test_rests_add_up() -> None:
    async def rests(busy: int, ended: int) -> KeepAliveCost:
        rest = Rest(Server("busy", 0, busy), Server("ended", 0, ended))
        await rest(0.01)
        before = rest.seconds
        await rest(0.02)
        assert rest.seconds - before >= 0.02
        while not rest.cost().with_percent:  # until the kernel's clock has ticked for the one that computes
            await rest(0.05)
        return rest.cost()

    with subprocess.Popen(["true"]) as ended, subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            # What has ended and was not waited for keeps its times as they are, however long the rests take.
            os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
            cost = asyncio.run(rests(busy.pid, ended.pid))
        finally:
            busy.kill()
    assert cost.seconds >= 0.03
    assert cost.with_percent > 0.0
    assert cost.without_percent == 0.0


def test_a_daemon_that_has_ended_has_no_cpu_time() -> None:
    gone = Server("gone", 1, 2**22 + 1)
    with pytest.raises(SatelliteError, match="gone"):
        memory.cpu_seconds(gone)
    with pytest.raises(SatelliteError, match="never rested"):
        Rest(gone, gone).cost()
