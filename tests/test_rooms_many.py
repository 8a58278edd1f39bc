"""Fifty rooms that stream at once, some of them broken: nobody starves, and what they hold is bounded."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from satellite_bench.rooms_house import House, house
from satellite_bench.server import described

from satellite.audio.pcm import BYTES_PER_SECOND, CANONICAL, write_wav
from satellite.config.rooms import WyomingRoomSettings
from satellite.rooms.hub import Hub
from satellite.rooms.room import LinkState
from satellite.rooms.wyoming import WyomingRoom
from tests.doubles.satellite import ScriptedSatellite
from tests.driven_rooms import hub_of
from tests.running_daemon import DATA, RunningDaemon, on_loop_of
from tests.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.models

WELL = 47
"""Rooms in another process in which nothing is wrong; three broken ones make them fifty."""

QUESTION = "What is the capital of France?"
WAKE_WORD = DATA / "wake" / "okay_nabu.wav"

MOST_QUEUED_SECONDS = 5.5
MOST_GROWN_BYTES = 200 * 2**20
"""Of the process that holds daemon and hub, over the whole test: four MiB a room."""


@pytest.fixture
def question_file(question: bytes, tmp_path: Path) -> Path:
    """A question, spoken, as a file."""
    file = tmp_path / "question.wav"
    write_wav(file, question, CANONICAL)
    return file


@asynccontextmanager
async def fifty_rooms(daemon: RunningDaemon) -> AsyncIterator[tuple[Hub, House, list[ScriptedSatellite]]]:
    """Drive fifty rooms; inside, all of them stream."""
    async with AsyncExitStack() as stack:
        satellites = await stack.enter_async_context(house(WELL))
        broken = [ScriptedSatellite(mode="always", name=name) for name in ("garbage", "stalls", "vanishes")]
        for satellite in broken:
            await stack.enter_async_context(satellite)
        uris = [*satellites.uris, *(satellite.uri for satellite in broken)]
        configured = tuple(
            WyomingRoomSettings(name=f"room {n}", uri=uri, follow_up="never") for n, uri in enumerate(uris)
        )
        hub = hub_of(daemon.daemon, *configured, window_seconds=0)
        switching_on = asyncio.create_task(satellites.switch_on(range(WELL)))
        hub.start()
        try:
            await switching_on
            for satellite in broken:
                await satellite.until("detect")
            yield hub, satellites, broken
        finally:
            await hub.stop()


async def forever(seconds: float, do: Callable[[], Awaitable[None]]) -> None:
    """Do something again and again."""
    while True:
        await do()
        await asyncio.sleep(seconds)


@asynccontextmanager
async def trouble(
    garbage: ScriptedSatellite, stalls: ScriptedSatellite, vanishes: ScriptedSatellite
) -> AsyncIterator[None]:
    """Let one satellite send garbage, one read no more, and one break its connection off, again and again."""

    async def vanish() -> None:
        vanishes.vanish()

    stalls.hang()
    doing = [
        asyncio.create_task(forever(0.3, lambda: garbage.send_broken("garbage"))),
        asyncio.create_task(forever(0.3, vanish)),
    ]
    try:
        yield
    finally:
        for task in doing:
            task.cancel()
        await asyncio.gather(*doing, return_exceptions=True)
        stalls.thaw()


def asked(room: int, question: Path) -> dict[str, Any]:
    """Return the request to call and to ask in one room."""
    return {"do": "ask", "rooms": [room], "wake_word": str(WAKE_WORD), "questions": [str(question)]}


async def wedged(daemon: RunningDaemon, seconds: float) -> None:
    """Keep the wake word engine from doing anything."""
    await daemon.daemon._workers["wake"].run(time.sleep, seconds)


def well(hub: Hub) -> list[WyomingRoom]:
    """Return the rooms in which nothing is wrong."""
    return [link for link in hub.satellites[:WELL] if isinstance(link, WyomingRoom)]


def undisturbed(hub: Hub) -> bool:
    """Return whether those are connected, and never were anything else since."""
    return all(link.state is LinkState.CONNECTED and not link.reconnections for link in well(hub))


async def scenario(daemon: RunningDaemon, question: Path) -> None:
    """See fifty rooms through what may happen to them."""
    process = psutil.Process()
    async with fifty_rooms(daemon) as (hub, satellites, broken):
        before = process.memory_info().rss
        async with trouble(*broken):
            answering = asyncio.create_task(satellites.do(asked(3, question)))
            for _ in range(20):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await described(daemon.port())
                await asyncio.sleep(0.1)
            (answer,) = await answering
            assert answer["text"] == QUESTION
            assert not answer["failed"]
        assert undisturbed(hub)

        await wedged(daemon, 6.5)
        queued = [link._device.conversation._inbox._bytes / BYTES_PER_SECOND for link in well(hub) if link._device]
        assert len(queued) == WELL
        assert max(queued) <= MOST_QUEUED_SECONDS
        (answer,) = await satellites.do(asked(5, question))  # what was missed is not missing for ever
        assert answer["text"] == QUESTION
        assert undisturbed(hub)
        assert process.memory_info().rss - before < MOST_GROWN_BYTES


@on_loop_of("daemon")
async def test_fifty_rooms_do_not_starve_each_other(daemon: RunningDaemon, question_file: Path) -> None:
    async with asyncio.timeout(200):
        await scenario(daemon, question_file)
