"""Each fault of a device, of the daemon and of its engines, in each phase of an ESPHome room."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from satellite.errors import SatelliteError
from satellite.rooms.esphome.esphome_room import EsphomeRoom
from satellite.rooms.hub import Hub
from satellite.rooms.intercom import Intercom
from satellite.rooms.playback import SharedSound
from satellite.rooms.room import LinkState
from satellite.skills.timers.scheduler import TimerScheduler
from satellite.skills.timers.timers import Duration
from satellite.tasks import begin_task, end_tasks
from tests.doubles.esphome import EsphomeDevice
from tests.doubles.esphome_assistant import State
from tests.esphome_rooms import COMMAND, KEY, NOISE, EsphomeHouse, LoudEngine, house, key_file, turn
from tests.test_rooms_esphome_load import TURN
from tests.virtual_clock import ManualClock
from tests.waiting import until

pytestmark = [pytest.mark.virtual_clock, pytest.mark.slow]

NEW_KEY = bytes(reversed(KEY))


@dataclass
class Kitchen:
    """A room with its device, and another room to call."""

    home: EsphomeHouse
    device: EsphomeDevice
    timers: TimerScheduler
    clock: ManualClock
    key: Path
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    doing: list[asyncio.Task[object]] = field(default_factory=list)
    hang_up: Callable[[], object] = bool

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        try:
            await self.connect()
            yield
        finally:
            await end_tasks(*self.doing)
            await self.stack.aclose()

    async def connect(self) -> None:
        self.room: EsphomeRoom = await self.stack.enter_async_context(self.home.room(self.device, key_file=self.key))

    def do(self, work: Awaitable[object]) -> None:
        async def done() -> None:
            with suppress(SatelliteError, ConnectionError):
                await work

        self.doing.append(begin_task(done(), "what is under way"))


async def dial(kitchen: Kitchen) -> None:
    await kitchen.device.stop()
    await until(lambda: kitchen.room.state is LinkState.OFF)
    await kitchen.device.start()


async def handshake(kitchen: Kitchen) -> None:
    kitchen.device.forget()
    kitchen.device.vanish()
    await kitchen.device.until("HelloRequest")


async def idle(_: Kitchen) -> None:
    await asyncio.sleep(30)


async def wake(kitchen: Kitchen) -> None:
    assert await kitchen.device.wake()


async def listening(kitchen: Kitchen) -> None:
    await wake(kitchen)
    kitchen.do(kitchen.device.say(COMMAND))
    await kitchen.device.until("STT_VAD_START")


async def thinking(kitchen: Kitchen) -> None:
    await listening(kitchen)
    await kitchen.device.until("INTENT_START")


async def speaking(kitchen: Kitchen) -> None:
    await listening(kitchen)
    await until(lambda: kitchen.device.assistant.player.announcements.sounding)


async def answered(kitchen: Kitchen) -> None:
    await listening(kitchen)
    await kitchen.device.until("RUN_END")


async def announcing(kitchen: Kitchen) -> None:
    kitchen.do(kitchen.room.announce(SharedSound.complete(LoudEngine.format, NOISE * 8)))
    await until(lambda: kitchen.device.assistant.player.announcements.sounding)


async def ringing(kitchen: Kitchen) -> None:
    kitchen.timers.timers.start(Duration(minutes=5), place="kitchen")
    kitchen.clock.now += 300
    kitchen.timers.timers.tick()
    await until(lambda: kitchen.device.ringing)


async def in_a_call(kitchen: Kitchen) -> None:
    kitchen.device.echo_cancelled = True  # its microphone is open while it plays
    study = await kitchen.stack.enter_async_context(EsphomeDevice(name="study"))
    other = await kitchen.stack.enter_async_context(kitchen.home.room(study))
    intercom = Intercom(Hub((), kitchen.home.context, [kitchen.room, other]), lambda: kitchen.home.stages.config.hub)
    kitchen.stack.push_async_callback(intercom.close)
    await intercom.call("kitchen", "study")
    kitchen.hang_up = lambda: intercom.hang_up("kitchen")
    await until(lambda: kitchen.device.streaming and study.streaming)


async def vanishes(kitchen: Kitchen) -> None:
    kitchen.device.vanish()


async def hangs(kitchen: Kitchen) -> None:
    kitchen.device.hang()
    await asyncio.sleep(60)
    kitchen.device.thaw()


async def reboots(kitchen: Kitchen) -> None:
    await kitchen.device.reboot(10)


async def sends_garbage(kitchen: Kitchen) -> None:
    kitchen.device.forget()
    kitchen.device.send_garbage()
    await kitchen.device.until("HelloRequest")


async def answers_no_ping(kitchen: Kitchen) -> None:
    kitchen.device.answers_pings = False
    await asyncio.sleep(60)
    kitchen.device.answers_pings = True


async def has_another_key(kitchen: Kitchen) -> None:
    kitchen.device.key = NEW_KEY
    kitchen.device.vanish()
    await until(lambda: kitchen.room.state is LinkState.NO_KEY)
    key_file(kitchen.key.parent, NEW_KEY)


async def sends_sound_unasked(kitchen: Kitchen) -> None:
    kitchen.device.send_unasked_audio(2000)


async def hears_its_wake_word(kitchen: Kitchen) -> None:
    await kitchen.device.wake()


async def the_daemon_stops(kitchen: Kitchen) -> None:
    began = asyncio.get_running_loop().time()
    await kitchen.stack.aclose()
    assert asyncio.get_running_loop().time() - began < 5
    await until(lambda: not kitchen.device.claimed)
    await kitchen.connect()


async def chat_dies(kitchen: Kitchen, stage: str = "chat") -> None:
    kitchen.home.engine.breaks = stage
    await asyncio.sleep(10)
    kitchen.home.engine.breaks = ""


async def tts_dies(kitchen: Kitchen) -> None:
    await chat_dies(kitchen, "tts")


MOMENTS = [listening, thinking, speaking, answered]
DEVICE_FAULTS = [vanishes, hangs, reboots, sends_garbage, answers_no_ping, sends_sound_unasked, hears_its_wake_word]
PHASES = [*MOMENTS, dial, handshake, idle, wake, announcing, ringing, in_a_call]
FAULTS = [*DEVICE_FAULTS, has_another_key, the_daemon_stops, chat_dies, tts_dies]
# What a device does at each moment of a turn, and a third of the others, which takes a third of the minutes.
CASES = [
    (phase, fault)
    for i, phase in enumerate(PHASES)
    for j, fault in enumerate(FAULTS)
    if (phase in MOMENTS and fault in DEVICE_FAULTS) or (i + j) % 3 == 1
]


def unexpected(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the errors that were logged, but for what the voice has raised."""
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    return [each.getMessage() for each in errors if not (each.exc_info and each.exc_info[0] is KeyError)]


@pytest.mark.parametrize(("phase", "fault"), CASES)
async def test_a_room_is_as_before_after_each_fault_in_each_phase(
    phase: Callable[[Kitchen], Awaitable[None]],
    fault: Callable[[Kitchen], Awaitable[None]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    timers = TimerScheduler(tmp_path, clock=(clock := ManualClock()))
    engine = LoudEngine(answer=["It is late. ", "Good night."], chat_seconds=1.0)
    async with house(engine, scheduler=timers) as home, EsphomeDevice(key=KEY) as device:
        kitchen = Kitchen(home, device, timers, clock, key_file(tmp_path))
        async with kitchen.open():
            await phase(kitchen)
            await fault(kitchen)
            await asyncio.sleep(5)
            kitchen.hang_up()
            await until(lambda: kitchen.room.state is LinkState.CONNECTED and device.claimed)
            if timers.timers.ringing():
                await kitchen.room.stop()
                device.ringing = False
            await until(lambda: device.state is State.IDLE and kitchen.room.status().doing in ("idle", "error"))
            await until(lambda: device.assistant.player.state == "IDLE")
            await until(lambda: kitchen.room.status().sounding is None)
            assert device.assistant.overheard_seconds == 0
            device.forget()
            assert [each.type for each in await turn(device)] == TURN
    assert unexpected(caplog) == []


async def test_a_device_that_vanishes_while_it_is_let_go_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async with house() as home, EsphomeDevice() as device, home.room(device):
        device.hang()
        asyncio.get_running_loop().call_later(0.5, device.vanish)
    assert unexpected(caplog) == []
