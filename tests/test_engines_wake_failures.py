"""A wake word engine that fails: whoever listens goes deaf for a moment, with a line and a count, and hears again."""

import asyncio
import itertools
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from wyoming.wake import Detect

from satellite.engines.protocols import Detection
from satellite.events import SttEnd
from tests.doubles.satellite import ScriptedSatellite
from tests.driven_rooms import NABU, PAUSE, rooms, spoken
from tests.running_daemon import RunningDaemon, on_loop_of
from tests.test_home_assistant_satellite import house
from tests.waiting import PATIENCE_SECONDS, until
from tests.wyoming_client import START, chunks, connect

pytestmark = pytest.mark.models


class Failing:
    """A wake word engine whose streams raise as long as it is `broken`, and never hear again once they have."""

    def __init__(self, engine: Any, *, broken: bool) -> None:
        self.engine = engine
        self.broken = broken
        self.failures = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    async def stream(self, names: Sequence[str] | None) -> Any:
        stream = await self.engine.stream(names)
        lost = False

        async def feed(pcm: bytes) -> list[Detection]:
            nonlocal lost
            lost = lost or self.broken
            if lost:
                self.failures += 1
                raise ZeroDivisionError("the network is broken")
            return list(await stream.feed(pcm))

        return SimpleNamespace(feed=feed, end=stream.end, close=stream.close)


@contextmanager
def failing(daemon: RunningDaemon, *, broken: bool = False) -> Iterator[Failing]:
    """Let the daemon's first wake word engine fail."""
    slot: Any = daemon.daemon.engines.wake[0]
    good, slot.engine = slot.engine, Failing(slot.engine, broken=broken)
    try:
        yield slot.engine
    finally:
        slot.engine = good


def failures(daemon: RunningDaemon, task: str) -> int:
    """Return how often the daemon has counted a failure of a task."""
    return sum(one.failures for one in daemon.daemon.background.status() if one.task == task)


def tracebacks(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the failures that were logged with where they came from."""
    return [str(one.exc_info[1]) for one in caplog.records if one.levelno >= logging.ERROR and one.exc_info]


async def test_a_client_of_detect_hears_again(daemon: RunningDaemon, caplog: pytest.LogCaptureFixture) -> None:
    before = failures(daemon, "wake word of clients")
    with failing(daemon, broken=True) as engine:
        async with connect(daemon.port("port")) as client, asyncio.timeout(PATIENCE_SECONDS):
            await client.send(Detect(names=["okay_nabu"]), START)

            async def call_again_and_again() -> None:
                for chunk in itertools.cycle(chunks(NABU + PAUSE)):
                    await client.send(chunk)
                    await asyncio.sleep(0.01)

            calling = asyncio.create_task(call_again_and_again())
            received = await client.until("error")
            engine.broken = False
            received += await client.until("detection")
            calling.cancel()
            errors = [event.type for event in received].count("error")
            assert errors == engine.failures == failures(daemon, "wake word of clients") - before
    assert len(tracebacks(caplog)) == 1


@on_loop_of("daemon")
async def test_a_room_that_home_assistant_drives_hears_again(
    daemon: RunningDaemon, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with failing(daemon) as engine:
        async with house(daemon, tmp_path) as home, home.assist() as assist:
            await until(lambda: home.doing == "driven by Home Assistant")
            engine.broken = True
            await until(lambda: failures(daemon, "wake word study") >= 2)
            engine.broken = False
            while "detection" not in assist.kinds:
                await home.mouth.say(NABU + PAUSE)
    assert tracebacks(caplog) == ["the network is broken"]


@on_loop_of("daemon")
async def test_an_answer_can_be_interrupted_again(daemon: RunningDaemon, caplog: pytest.LogCaptureFixture) -> None:
    story = await spoken(daemon, "Tell me a long story about a horse and a dragon.")
    with failing(daemon) as engine:
        async with ScriptedSatellite(mode="always", name="parlour") as satellite, rooms(daemon, satellite):
            with daemon.daemon.bus.subscribe() as events:
                await satellite.say(NABU + PAUSE + story)
                async for event in events:
                    if isinstance(event, SttEnd):
                        break
            engine.broken = True
            await until(lambda: failures(daemon, "barge-in parlour"))
            engine.broken = False
            await satellite.until("detection")
            await satellite.until("audio-start")
            calls = asyncio.create_task(satellite.say((NABU + PAUSE) * 8))
            await satellite.until("detection")
            calls.cancel()
    assert tracebacks(caplog) == ["the network is broken"]
