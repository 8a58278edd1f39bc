"""Home Assistant fails, hangs, restarts: orders are told so, nothing is done twice, and it is logged once."""

import asyncio
import logging
import time

import pytest

from satellite.errors import ChatError
from satellite.skills.home_assistant.agent import HomeAssistantResponder
from tests.doubles.home_assistant import Fault
from tests.home import SILENT, STARTING, TOKEN, WHY, asking, at_home, description, said, state, told, watched
from tests.waiting import PATIENCE_SECONDS, until

pytestmark = pytest.mark.virtual_clock

FAULTS = {
    Fault.CRASH: ("failing", "answered 500: 500 Internal Server Error Server got itself in trouble"),
    Fault.BAD_GATEWAY: ("starting", "answered 502: it is starting or stopping"),
    Fault.STOPPING: ("starting", "answered 503: it is starting or stopping"),
    Fault.NOT_LOADED: ("starting", "answered 404: it is starting or stopping"),
    Fault.HANG: ("silent", "gave no answer within 5 s"),
    Fault.GARBAGE: ("failing", "is there a login page in front of it?"),
    Fault.STRANGE: ("failing", "does not answer like Home Assistant"),
    Fault.LOGIN_PAGE: ("failing", "is there a login page in front of it?"),
    Fault.REDIRECT: ("failing", "is there a login page in front of it?"),
    Fault.ENDLESS_REDIRECT: ("failing", "broke off: URL too long"),
    Fault.FLOOD: ("failing", "the answer is too long"),
}
"""What the status says of each, by a word and for an administrator; `SLOW` and `CUT` do what they are asked."""


@pytest.fixture(autouse=True)
def debug(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


def assert_nobody_saw_the_token(home: HomeAssistantResponder, caplog: pytest.LogCaptureFixture) -> None:
    assert any(record.name.startswith("httpcore") for record in caplog.records)
    assert TOKEN not in caplog.text
    assert all(TOKEN not in repr(record.args) for record in caplog.records)
    assert TOKEN not in f"{home!r} {vars(home)!r} {home.status} {vars(home._api)!r}"


@pytest.mark.parametrize(("fault", "state", "words"), [(fault, *expected) for fault, expected in FAULTS.items()])
async def test_whatever_goes_wrong_is_said_to_orders_alone(
    fault: Fault, state: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with at_home() as (house, home):
        house.faults, house.repeats_token = [fault], True
        expected = STARTING if state == "starting" else SILENT
        assert [await said(home), await said(home), await said(home, WHY)] == [expected, expected, None]
        assert (len(house.exchanges), len(house.executed)) == (1, 0)
        assert (home.status.state, home.status.up, home.status.failed) == (state, False, 1)
        assert description(home).startswith(f"Home Assistant at {house.url} ")
        assert words in description(home)
        rest = "; orders are not carried out, the chat model answers the rest"
        assert told(caplog) == [f"WARNING home_assistant: {description(home)}{rest}"]
        assert_nobody_saw_the_token(home, caplog)


async def test_an_agent_that_is_not_there_is_named() -> None:
    async with at_home(agent_id="conversation.nobody") as (_, home):
        assert await said(home)
        assert "answered 400: Message format incorrect: invalid agent ID" in description(home)
        assert description(home).endswith("(agent_id is conversation.nobody)")


async def test_a_broken_connection_is_no_reason_to_ask_again(caplog: pytest.LogCaptureFixture) -> None:
    async with at_home() as (house, home):
        await said(home, "hello")
        house.faults = [Fault.CUT]
        assert await said(home)
        assert "broke off" in description(home)
        await asyncio.sleep(0.05)
        assert house.executed == {"light.kitchen on": 1}
        assert len(house.exchanges) == 2
        assert_nobody_saw_the_token(home, caplog)


async def test_the_deadline_is_kept_and_the_action_is_finished() -> None:
    async with at_home(deadline_seconds=0.5) as (house, home):
        await said(home, WHY)  # compiles the language
        house.faults, house.slow_seconds = [Fault.SLOW], 1.5
        began = time.monotonic()
        assert await said(home) == SILENT
        assert time.monotonic() - began == pytest.approx(0.5, abs=0.1)
        assert not house.executed
        await asyncio.sleep(2)
        assert house.executed == {"light.kitchen on": 1}
        assert len(house.exchanges) == 2


async def test_who_is_late_is_asked_again_at_once() -> None:
    async with at_home(deadline_seconds=0.3) as (house, home), watched(home):
        await said(home, WHY)
        for _ in range(3):
            house.faults, house.slow_seconds = [Fault.SLOW], 0.6
            assert await said(home) == SILENT
            await asyncio.sleep(0.5)
            assert state(home) == "half-open"
        assert await said(home) == "Turned on the light"
        assert home.status.failed == 3


async def test_who_stops_listening_does_not_stop_the_action() -> None:
    async with at_home() as (house, home):
        house.faults, house.slow_seconds = [Fault.SLOW], 0.2
        asked = asyncio.create_task(said(home))
        await house.asked.wait()
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        await until(lambda: bool(house.executed))
        assert house.executed == {"light.kitchen on": 1}


async def test_what_has_not_left_by_the_deadline_never_leaves() -> None:
    sent = bytearray()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sent.extend(await reader.read())  # never answers, so that the TLS handshake does not end
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1")
    async with asyncio.timeout(PATIENCE_SECONDS), server, at_home() as (house, _):
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        home = asking(house, url=url, trust="any", deadline_seconds=0.2)
        assert await said(home)
        await until(lambda: bool(sent))  # it has hung up
        assert sent[0] == 0x16  # a handshake, and nothing behind it
        await home.close()


async def test_a_request_that_is_barred_is_not_sent() -> None:
    async with at_home() as (house, home):
        await home._api.probe()
        given_up = asyncio.Event()
        given_up.set()
        with pytest.raises(ChatError, match="nobody waits"):
            await home._api.converse("turn on the kitchen light", None, "x", given_up)
        await asyncio.sleep(0.05)
        assert [exchange.path for exchange in house.exchanges] == ["/api/config"]


async def test_a_request_that_nobody_waits_for_ends_some_time() -> None:
    async with at_home() as (house, home):
        house.faults = [Fault.HANG]
        began = time.monotonic()
        assert await said(home) == SILENT
        await house.abandoned.wait()
        assert time.monotonic() - began == pytest.approx(5 + 30, abs=0.1)


async def test_closing_gives_up_every_request() -> None:
    async with at_home() as (house, home):
        house.faults = [Fault.HANG]
        asked = asyncio.create_task(said(home))
        await house.asked.wait()
        await home.close()
        assert await asked == SILENT
        await house.abandoned.wait()


async def test_a_restart_is_survived(caplog: pytest.LogCaptureFixture) -> None:
    async with at_home() as (house, home):
        async with watched(home):
            assert await said(home, conversation="room kitchen")
            await house.stop()
            assert await said(home, conversation="room kitchen") == SILENT
            assert state(home) == "unreachable"
            assert "cannot be reached" in description(home)
            house.fault = Fault.NOT_LOADED
            await house.start()
            await until(lambda: "404" in description(home))
            assert state(home) == "starting"
            house.fault, house.state = None, "NOT_RUNNING"
            await until(lambda: description(home).endswith(" is starting or stopping"))
            assert not home.status.up
            assert await said(home) == STARTING
            assert await said(home, WHY) is None
            house.state, house.components = "RUNNING", ["api"]
            await until(lambda: "add `conversation:`" in description(home))
            assert state(home) == "failing"
            house.components = ["api", "conversation"]
            await until(lambda: state(home) == "half-open")
            assert home.status.up
            assert "is back, and the next question will show" in description(home)
            assert await said(home, conversation="room kitchen") == "Turned on the light"
            assert state(home) == "ready"
        assert house.executed == {"light.kitchen on": 2}
    assert [line.split()[0] for line in told(caplog)] == ["INFO", "WARNING", "INFO"]
    assert "is back" in told(caplog)[-1]


@pytest.mark.parametrize(
    ("fault", "expected", "line"),
    [
        (None, "ready", "INFO answers (version 2026.11.0)"),
        ("stopped", "unreachable", "WARNING cannot be reached"),
        (Fault.HANG, "silent", "WARNING is silent"),
        *((fault, "failing", "WARNING does not answer like Home") for fault in (Fault.LOGIN_PAGE, Fault.STRANGE)),
    ],
)
async def test_the_start_tells_once_what_it_finds(
    fault: Fault | str | None, expected: str, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with at_home() as (house, home):
        if isinstance(fault, str):
            await house.stop()
        else:
            house.fault = fault
        assert state(home) == "untried"
        async with watched(home):
            assert state(home) == expected
            await asyncio.sleep(3)
            assert fault or len(house.exchanges) == 1
        [logged] = told(caplog)
        level, _, words = line.partition(" ")
        assert logged.startswith(f"{level} home_assistant: Home Assistant at {house.url} {words}")


async def test_a_silent_death_is_found_before_the_next_question() -> None:
    async with at_home() as (house, home), watched(home):
        await asyncio.sleep(65)
        assert len(house.exchanges) == 3
        await house.stop()
        await asyncio.sleep(35)
        assert not home.status.up


async def test_who_passes_looks_and_fails_questions_is_asked_ever_more_rarely() -> None:
    async with at_home() as (house, home), watched(home):
        house.faults = [Fault.CRASH] * 3
        for hold_seconds in (0, 1, 2):
            assert await said(home) == SILENT
            if hold_seconds:
                await asyncio.sleep(hold_seconds - 0.1)
                assert state(home) == "failing"
            await asyncio.sleep(0.7)
            assert state(home) == "half-open"
        assert await said(home) == "Turned on the light"
