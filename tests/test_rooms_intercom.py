"""Calls between rooms of each pair of transports: heard in time, ended by either side, by voice and by a limit."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
import pytest
from wyoming.satellite import RunSatellite

from satellite.audio.pcm import CANONICAL, RATE
from satellite.config.host import HomeAssistantSatelliteSettings
from satellite.config.rooms import HubSettings
from satellite.errors import SatelliteError
from satellite.rooms.chimes import chime
from satellite.rooms.conversation import Conversation
from satellite.rooms.host.remote_control import HomeAssistantController
from satellite.rooms.hub import Hub
from satellite.rooms.intercom import Intercom
from satellite.rooms.playback import SharedSound
from satellite.rooms.room import BaseRoom
from tests.doubles.esphome import EsphomeDevice
from tests.doubles.esphome_assistant import State
from tests.driven_rooms import NotedConnection
from tests.esphome_rooms import house as esphome_house
from tests.loudness import silence, sound, speech
from tests.scripted_engine import WAKE_WORD, ScriptedEngine, assert_no_task_is_left, scripted_stages
from tests.scripted_rooms import STREAMING, Host, ScriptedRoom, scripted_room
from tests.waiting import until

pytestmark = pytest.mark.virtual_clock

CHIME = len(chime(CANONICAL)) / 2 / RATE
LATEST_SECONDS = 0.3
VOICE = 9000
HEARD = 3000
"""Of speech that was resampled, which is at the end of the band."""


class Connected(BaseRoom):
    """A room of the hub whose device is there."""

    def __init__(self, room: ScriptedRoom) -> None:
        super().__init__(room.conversation.room, "scripted:", "")
        self._held = room.conversation
        self.capabilities = room.conversation._device.capabilities

    @property
    def current(self) -> Conversation:
        return self._held

    async def run(self) -> None:
        await asyncio.Future()


class House:
    def __init__(self, intercom: Intercom, engine: ScriptedEngine, kitchen: ScriptedRoom, study: ScriptedRoom) -> None:
        self.intercom, self.engine, self.rooms = intercom, engine, (kitchen, study)

    async def call(self) -> None:
        await self.intercom.call("kitchen", "study")
        for room in self.rooms:
            assert room.conversation.sounding == "call"

    async def over(self) -> None:
        await until(lambda: not self.intercom.calls)
        for room in self.rooms:
            assert room.conversation.sounding is None

    async def heard(self, says: ScriptedRoom, hears: ScriptedRoom) -> float:
        """Return how long it takes until what is said in one room is heard in the other."""
        says.say(sound(30, VOICE))
        return await heard_in(hears.sounded, VOICE * 0.9)


async def heard_in(sounded: Callable[[], bytes], loudness: float) -> float:
    """Return how long it takes from now on until what has `sounded` is loud."""
    loop = asyncio.get_running_loop()
    began, before = loop.time(), len(sounded())
    await until(lambda: (np.abs(np.frombuffer(sounded()[before:], np.int16).astype(int)) > loudness).any())
    return loop.time() - began


@asynccontextmanager
async def house(
    first: str, second: str, folder: Path, settings: Callable[[], HubSettings] = HubSettings
) -> AsyncIterator[House]:
    engine = ScriptedEngine({0: "Stop.", 25: "Tell me a story."}, answer=["One two."])
    stages = scripted_stages(engine)
    async with AsyncExitStack() as stack:
        kitchen = await stack.enter_async_context(scripted_room(first, stages, folder, name="kitchen"))
        study = await stack.enter_async_context(scripted_room(second, stages, folder, name="study"))
        hub = Hub((), kitchen.context, [Connected(kitchen), Connected(study)])
        intercom = Intercom(hub, settings)
        stack.push_async_callback(intercom.close)
        yield House(intercom, engine, kitchen, study)
    assert_no_task_is_left()


@pytest.mark.parametrize(("first", "second"), [*combinations_with_replacement((*STREAMING, "speech"), 2)])
async def test_what_is_said_in_one_room_is_heard_in_the_other(first: str, second: str, tmp_path: Path) -> None:
    async with house(first, second, tmp_path) as home:
        kitchen, study = home.rooms
        await home.call()
        await asyncio.sleep(3)
        for room in home.rooms:
            assert room.sounded().startswith(chime(CANONICAL))
        assert await home.heard(kitchen, study) < LATEST_SECONDS
        await asyncio.sleep(2)
        assert await home.heard(study, kitchen) < LATEST_SECONDS
        assert home.intercom.hang_up("study")
        await home.over()
        assert not home.intercom.hang_up("study")
        for room in home.rooms:
            assert room.sounded().endswith(chime(CANONICAL, falls=True))
        assert home.engine.asked == []


@pytest.mark.parametrize("transport", [*STREAMING, "speech"])
async def test_an_esphome_device_and_another_room_hear_each_other(transport: str, tmp_path: Path) -> None:
    device = EsphomeDevice(name="study", echo_cancelled=True)
    async with AsyncExitStack() as stack:
        home = await stack.enter_async_context(esphome_house(ScriptedEngine()))
        kitchen = await stack.enter_async_context(scripted_room(transport, home.stages, tmp_path))
        await stack.enter_async_context(device)
        study = await stack.enter_async_context(home.room(device))
        intercom = Intercom(Hub((), home.context, [Connected(kitchen), study]), HubSettings)
        stack.push_async_callback(intercom.close)
        await intercom.call("kitchen", "study")
        await until(lambda: device.streaming)
        await asyncio.sleep(3)
        (played,) = device.assistant.player.media.heard
        for _ in range(2):
            kitchen.say(speech(30))
            assert await heard_in(lambda: bytes(played.pcm), HEARD) < LATEST_SECONDS
            await asyncio.sleep(2)
            speaking = asyncio.create_task(device.say(speech(30)))
            assert await heard_in(kitchen.sounded, HEARD) < LATEST_SECONDS
            await speaking
            await asyncio.sleep(1)
        assert await study.stop()
        await until(lambda: not intercom.calls)
        assert kitchen.sounded().endswith(chime(CANONICAL, falls=True))
        await until(lambda: device.state is State.IDLE)


@pytest.mark.parametrize("transport", STREAMING)
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("word", [speech(15), WAKE_WORD])
async def test_either_side_ends_a_call_by_voice(transport: str, side: int, word: bytes, tmp_path: Path) -> None:
    async with house(transport, "satellite", tmp_path) as home:
        await home.call()
        await asyncio.sleep(2)
        home.rooms[side].say(silence(5), word, silence(30))
        await home.over()
        await asyncio.sleep(5)
        assert home.engine.asked == []
        for room in home.rooms:  # each is as it was
            room.say(WAKE_WORD, silence(10), speech(30), silence(60))
            await until(lambda: bool(home.engine.asked))
            home.engine.asked.clear()


@pytest.mark.parametrize("transport", [*STREAMING, "speech"])
@pytest.mark.parametrize("after_seconds", [0, 0.1])
async def test_what_comes_after_a_call_does_not_wait_for_its_chime(
    transport: str, after_seconds: float, tmp_path: Path
) -> None:
    async with house(transport, "satellite", tmp_path) as home:
        kitchen, study = home.rooms
        for _ in range(2):  # the second call comes while the first one's chime is heard
            await home.call()
            await asyncio.sleep(2)
            assert home.intercom.hang_up("kitchen")
            await asyncio.sleep(after_seconds)
            assert not home.intercom.hang_up("kitchen")
        kitchen.say(silence(10), speech(30), silence(60))
        assert (await kitchen.conversation.ask(None)).text == "Tell me a story."
        assert study.sounded().endswith(chime(CANONICAL, falls=True))
        assert not home.intercom.calls


async def test_an_esphome_device_listens_at_once_after_a_call(tmp_path: Path) -> None:
    device = EsphomeDevice(name="study", echo_cancelled=True)
    async with AsyncExitStack() as stack:
        home = await stack.enter_async_context(esphome_house(ScriptedEngine({25: "Tell me a story."})))
        kitchen = await stack.enter_async_context(scripted_room("satellite", home.stages, tmp_path))
        await stack.enter_async_context(device)
        study = await stack.enter_async_context(home.room(device))
        intercom = Intercom(Hub((), home.context, [Connected(kitchen), study]), HubSettings)
        stack.push_async_callback(intercom.close)
        for _ in range(2):
            await intercom.call("kitchen", "study")
            await until(lambda: device.streaming)
            await asyncio.sleep(2)
            assert intercom.hang_up("study")
        assert study.current is not None
        asking = asyncio.create_task(study.current.ask(None))
        await until(lambda: device.streaming)
        await device.say(silence(10) + speech(30) + silence(60))
        assert (await asking).text == "Tell me a story."
        await until(lambda: device.state is State.IDLE)


async def test_a_call_ends_after_its_longest_time(tmp_path: Path) -> None:
    async with house("satellite", "host", tmp_path, lambda: HubSettings(call_seconds=20)) as home:
        began = asyncio.get_running_loop().time()
        await home.call()
        await home.over()
        assert asyncio.get_running_loop().time() - began == pytest.approx(20 + CHIME, abs=0.7)


async def test_a_call_ends_when_a_room_goes(tmp_path: Path) -> None:
    async with house("satellite", "host", tmp_path) as home:
        await home.call()
        await asyncio.sleep(2)
        await home.rooms[0].conversation.close()
        await home.over()
        assert home.rooms[1].sounded().endswith(chime(CANONICAL, falls=True))


async def test_a_call_ends_when_home_assistant_takes_the_room(tmp_path: Path) -> None:
    async with house("satellite", "host", tmp_path) as home:
        await home.call()
        await asyncio.sleep(2)
        host = home.rooms[1]
        assert isinstance(host, Host)
        stages, settings = host.context.stages, HomeAssistantSatelliteSettings()
        controller = HomeAssistantController(NotedConnection(), host.room, stages, settings)
        await controller.take(RunSatellite().event())
        await home.over()
        await controller.close()


async def test_a_call_ends_when_an_esphome_device_goes(tmp_path: Path) -> None:
    device = EsphomeDevice(name="study", echo_cancelled=True)
    async with AsyncExitStack() as stack:
        home = await stack.enter_async_context(esphome_house(ScriptedEngine()))
        kitchen = await stack.enter_async_context(scripted_room("satellite", home.stages, tmp_path))
        await stack.enter_async_context(device)
        study = await stack.enter_async_context(home.room(device))
        intercom = Intercom(Hub((), home.context, [Connected(kitchen), study]), HubSettings)
        stack.push_async_callback(intercom.close)
        await intercom.call("kitchen", "study")
        await asyncio.sleep(3)
        device.vanish()
        await until(lambda: not intercom.calls, seconds=20)
        assert kitchen.sounded().endswith(chime(CANONICAL, falls=True))


async def test_nothing_else_sounds_in_a_call(tmp_path: Path) -> None:
    async with house("satellite", "host", tmp_path) as home:
        kitchen, study = home.rooms
        playing = asyncio.create_task(kitchen.conversation.play(silent(60)))
        announcing = study.announce(20)
        await asyncio.sleep(2)
        await home.call()
        waiting = kitchen.announce(1)
        await asyncio.sleep(5)
        assert playing.done()
        with pytest.raises(SatelliteError, match="in a call"):
            await home.intercom.call("study", "kitchen")
        for refused in (kitchen.conversation.ask(None), kitchen.conversation.start()):
            with pytest.raises(SatelliteError, match="in a call"):
                await refused
        before = kitchen.seconds()
        assert await study.conversation.stop()
        await asyncio.gather(waiting, announcing)
        assert kitchen.seconds() == pytest.approx(before + CHIME + 1, abs=0.2)


def silent(seconds: int) -> SharedSound:
    return SharedSound.complete(CANONICAL, bytes(2 * RATE * seconds))


@pytest.mark.parametrize(
    ("code", "prepare"),
    [
        ("room-cannot-start", lambda home: home.rooms[1].conversation.set_muted(True)),
        ("room-listens-only", lambda home: home.rooms[1].conversation.set_listen_only(True)),
        ("room-busy", lambda home: engage(home.rooms[1])),
    ],
)
async def test_a_call_that_cannot_be(code: str, prepare: Callable[[House], object], tmp_path: Path) -> None:
    async with house("satellite", "host", tmp_path) as home:
        await prepare(home)  # type: ignore[misc]
        with pytest.raises(SatelliteError) as refused:
            await home.intercom.call("kitchen", "study")
        assert refused.value.code == code
        await home.over()
        await home.rooms[0].conversation.announce(silent(1))


async def engage(room: ScriptedRoom) -> None:
    room.say(WAKE_WORD, silence(10), *[speech(20), silence(5)] * 60)
    await until(lambda: room.conversation.engaged)


async def test_rooms_that_cannot_be_called(tmp_path: Path) -> None:
    async with house("satellite", "waking", tmp_path) as home:
        for callee, code in (("attic", "unknown-room"), ("kitchen", "room-busy"), ("study", "room-cannot-start")):
            with pytest.raises(SatelliteError) as refused:
                await home.intercom.call("kitchen", callee)
            assert refused.value.code == code
        assert home.rooms[0].seconds() == 0


async def test_a_sender_that_is_too_fast_adds_no_delay(tmp_path: Path) -> None:
    async with house("satellite", "satellite", tmp_path) as home:
        kitchen, study = home.rooms
        await home.call()
        await asyncio.sleep(2)
        for _ in range(100):
            await kitchen.hear(sound(10, 3000))
        kitchen.said = b""
        assert await home.heard(kitchen, study) < LATEST_SECONDS
