"""Each fault of a Wyoming satellite, and of the daemon, at each moment of a turn."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from satellite.config.rooms import WyomingRoomSettings
from satellite.errors import SatelliteError
from satellite.events import RunBus
from satellite.rooms.arbitration import Arbiter
from satellite.rooms.device import RoomContext
from satellite.rooms.hub import Hub
from satellite.rooms.playback import SharedSound
from satellite.rooms.room import LinkState
from satellite.tasks import begin_task, end_tasks
from tests.doubles.satellite import ScriptedSatellite
from tests.loudness import silence, speech
from tests.scripted_engine import FORMAT, WAKE_WORD, ScriptedEngine, scripted_stages
from tests.waiting import until

pytestmark = [pytest.mark.virtual_clock, pytest.mark.slow]

COMMAND = silence(10) + speech(30) + silence(60)


class Kitchen:
    """A room with its satellite, on engines that take a second for each piece of an answer."""

    def __init__(self, satellite: ScriptedSatellite) -> None:
        self.satellite = satellite
        self.engine = ScriptedEngine(answer=["It is late. ", "Good night."], chat_seconds=1.0)
        self._context = RoomContext(scripted_stages(self.engine), RunBus(), Arbiter(0.3))
        self._doing: list[asyncio.Task[None]] = []
        self.connect()

    def connect(self) -> None:
        self.hub = Hub([WyomingRoomSettings(name="kitchen", uri=self.satellite.uri)], self._context)
        self.hub.start()
        (self.room,) = self.hub.satellites

    async def ready(self) -> None:
        """Wait until somebody may speak there."""
        idle = "idle" if self.satellite.mode == "wake" else "waiting for the wake word"
        await until(lambda: self.room.state is LinkState.CONNECTED and self.satellite.claimed)
        await until(lambda: self.room.status().doing == idle)
        await until(lambda: self.room.status().sounding is None)

    def do(self, work: Awaitable[object]) -> None:
        async def done() -> None:
            with suppress(SatelliteError, ConnectionError):
                await work

        self._doing.append(begin_task(done(), "what is under way"))

    async def wake(self) -> None:
        if self.satellite.mode == "wake":
            await self.satellite.wake()
        else:
            await self.satellite.say(WAKE_WORD)

    async def close(self) -> None:
        await end_tasks(*self._doing)
        await self.hub.stop()


@asynccontextmanager
async def kitchen(mode: str) -> AsyncIterator[Kitchen]:
    async with ScriptedSatellite(mode=mode, name="kitchen") as satellite:  # type: ignore[arg-type]
        one = Kitchen(satellite)
        try:
            await one.ready()
            yield one
        finally:
            await one.close()


async def idle(_: Kitchen) -> None:
    await asyncio.sleep(30)


async def woken(kitchen: Kitchen) -> None:
    await kitchen.wake()


async def listening(kitchen: Kitchen) -> None:
    await kitchen.wake()
    kitchen.do(kitchen.satellite.say(COMMAND))
    await kitchen.satellite.until("voice-started")


async def thinking(kitchen: Kitchen) -> None:
    await listening(kitchen)
    await kitchen.satellite.until("transcript")


async def speaking(kitchen: Kitchen) -> None:
    await listening(kitchen)
    await kitchen.satellite.until("audio-start")


async def answered(kitchen: Kitchen) -> None:
    await listening(kitchen)
    await kitchen.satellite.until("audio-stop")


async def announcing(kitchen: Kitchen) -> None:
    kitchen.do(kitchen.room.announce(SharedSound.complete(FORMAT, silence(600))))
    await kitchen.satellite.until("audio-start")


async def vanishes(kitchen: Kitchen) -> None:
    kitchen.satellite.vanish()


async def hangs(kitchen: Kitchen) -> None:
    kitchen.satellite.hang()
    await asyncio.sleep(60)
    kitchen.satellite.thaw()


async def reboots(kitchen: Kitchen) -> None:
    await kitchen.satellite.stop()
    await asyncio.sleep(10)
    await kitchen.satellite.start()


async def sends_garbage(kitchen: Kitchen) -> None:
    await kitchen.satellite.send_broken("garbage")


async def sends_half_a_header(kitchen: Kitchen) -> None:
    await kitchen.satellite.send_broken("header")
    await asyncio.sleep(60)


async def says_nothing_of_what_it_played(kitchen: Kitchen) -> None:
    kitchen.satellite.never_plays = True
    await asyncio.sleep(30)
    kitchen.satellite.never_plays = False


async def is_taken_by_another_server(kitchen: Kitchen) -> None:
    kitchen.satellite.refuse = True
    kitchen.satellite.vanish()
    await until(lambda: kitchen.room.state is LinkState.HELD)
    kitchen.satellite.refuse = False


async def the_daemon_stops(kitchen: Kitchen) -> None:
    began = asyncio.get_running_loop().time()
    await kitchen.hub.stop()
    assert asyncio.get_running_loop().time() - began < 5
    await until(lambda: not kitchen.satellite.claimed)
    kitchen.connect()


async def the_voice_breaks(kitchen: Kitchen) -> None:
    kitchen.engine.breaks = "tts"
    await asyncio.sleep(10)
    kitchen.engine.breaks = ""


MOMENTS = [woken, listening, thinking, speaking, answered]
FAULTS = [
    vanishes,
    hangs,
    reboots,
    sends_garbage,
    sends_half_a_header,
    says_nothing_of_what_it_played,
    is_taken_by_another_server,
    the_daemon_stops,
    the_voice_breaks,
]
# Each fault at each moment of a turn, by turns of a satellite with a wake word of its own and one that streams all the
# time; a third of them at other times.
CASES = [
    (moment, fault, ("wake", "always")[(i + j) % 2])
    for i, moment in enumerate([*MOMENTS, idle, announcing])
    for j, fault in enumerate(FAULTS)
    if moment in MOMENTS or (i + j) % 3 == 0
]


@pytest.mark.parametrize(("moment", "fault", "mode"), CASES)
async def test_a_room_is_as_before_after_each_fault_at_each_moment(
    moment: Callable[[Kitchen], Awaitable[None]],
    fault: Callable[[Kitchen], Awaitable[None]],
    mode: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with kitchen(mode) as one:
        await moment(one)
        await fault(one)
        await asyncio.sleep(5)
        await one.ready()
        one.satellite.forget()
        await one.wake()
        await one.satellite.say(COMMAND)
        assert (await one.satellite.until("transcript", "error")).data.get("text") == "Tell me a story."
        await one.satellite.until("audio-stop")
        await one.ready()
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [each.getMessage() for each in errors if not (each.exc_info and each.exc_info[0] is KeyError)] == []
