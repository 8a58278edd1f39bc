"""A wake word engine that fails: whoever listens goes deaf for a moment, with a line and a count, and hears again."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from wyoming.audio import AudioChunk, AudioStart
from wyoming.wake import Detect

from satellite.engines.protocols import Detection
from satellite.events import SttEnd
from tests.doubles.satellite import ScriptedSatellite
from tests.driven_rooms import NABU, PAUSE, rooms, spoken
from tests.running_daemon import RunningDaemon, on_loop_of
from tests.test_home_assistant_satellite import house
from tests.waiting import PATIENCE_SECONDS, until
from tests.wyoming_client import connect

pytestmark = pytest.mark.models


class Failing:
    """The daemon's engine, whose streams raise as long as it is `broken`."""

    def __init__(self, engine: Any, *, broken: bool = True) -> None:
        self.engine = engine
        self.broken = broken
        self.failures = 0

    def __getattr__(self, name: str) -> Any:
        """Do everything else as the engine does."""
        return getattr(self.engine, name)

    async def stream(self, names: Sequence[str] | None) -> "FailingStream":
        """Return a stream."""
        return FailingStream(self, await self.engine.stream(names))


class FailingStream:
    """One that never hears again once it has failed, as an engine that has lost its place."""

    def __init__(self, engine: Failing, stream: Any) -> None:
        self.engine = engine
        self.stream = stream
        self.lost = False

    async def feed(self, pcm: bytes) -> list[Detection]:
        """Return what is heard."""
        if self.engine.broken or self.lost:
            self.lost = True
            self.engine.failures += 1
            raise ZeroDivisionError("the network is broken")
        return list(await self.stream.feed(pcm))

    async def end(self) -> list[Detection]:
        """Return what is left."""
        return list(await self.stream.end())

    def close(self) -> None:
        """Forget it."""
        self.stream.close()


@contextmanager
def failing(daemon: RunningDaemon, *, broken: bool = True) -> Iterator[Failing]:
    """Let the daemon's first wake word engine fail."""
    slot: Any = daemon.daemon.engines.wake[0]
    good, slot.engine = slot.engine, Failing(slot.engine, broken=broken)
    try:
        yield slot.engine
    finally:
        slot.engine = good


def failures(daemon: RunningDaemon, task: str) -> int:
    """Return how often the daemon has counted a failure of something."""
    return sum(one.failures for one in daemon.daemon.background.status() if one.task == task)


def tracebacks(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Return the failures that were logged with where they came from."""
    return [one for one in caplog.records if one.levelno >= logging.ERROR and one.exc_info]


async def calling(pause_seconds: float = 0.2) -> AsyncIterator[bytes]:
    """Yield somebody who calls again and again, in chunks."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            sound = NABU + PAUSE
            for at in range(0, len(sound), 2048):
                yield sound[at : at + 2048]
                await asyncio.sleep(pause_seconds / len(sound) * 2048)


async def test_a_client_of_detect_hears_again(daemon: RunningDaemon, caplog: pytest.LogCaptureFixture) -> None:
    before = failures(daemon, "wake word of clients")
    with failing(daemon) as engine:
        async with connect(daemon.port("port")) as client:
            await client.send(Detect(names=["okay_nabu"]), AudioStart(16_000, 2, 1))
            told: list[str] = []

            async def speak() -> None:
                async for pcm in calling():
                    await client.send(AudioChunk(16_000, 2, 1, pcm))

            speaking = asyncio.create_task(speak())
            told += [event.type for event in await client.until("error")]
            assert engine.failures
            engine.broken = False
            told += [event.type for event in await client.until("detection")]
            speaking.cancel()
            assert told.count("error") == failures(daemon, "wake word of clients") - before
            assert engine.failures == told.count("error")
    assert len(tracebacks(caplog)) == 1


@on_loop_of("daemon")
async def test_a_room_that_home_assistant_drives_hears_again(
    daemon: RunningDaemon, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with failing(daemon, broken=False) as engine:
        async with house(daemon, tmp_path) as home, home.assist() as assist:
            await assist.until(lambda: home.doing == "driven by Home Assistant")
            engine.broken = True
            await until(lambda: failures(daemon, "wake word study") >= 2)
            engine.broken = False
            while "detection" not in [event.type for event in assist.events]:
                await home.mouth.say(NABU + PAUSE)
    assert [str(one.exc_info[1]) for one in tracebacks(caplog) if one.exc_info] == ["the network is broken"]


@on_loop_of("daemon")
async def test_an_answer_can_be_interrupted_again(daemon: RunningDaemon, caplog: pytest.LogCaptureFixture) -> None:
    story = await spoken(daemon, "Tell me a long story about a horse and a dragon.")
    with failing(daemon, broken=False) as engine:
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
    assert [str(one.exc_info[1]) for one in tracebacks(caplog) if one.exc_info] == ["the network is broken"]
