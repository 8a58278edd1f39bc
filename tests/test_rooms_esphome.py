"""ESPHome devices as rooms: how they are reached, whose they are, and what their state is called."""

import asyncio
import socket
import struct
import subprocess
import sys
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import pytest
from aioesphomeapi.client import APIClient
from aioesphomeapi.model import ButtonInfo, EntityInfo, NumberInfo, NumberState, SwitchInfo, SwitchState

from satellite.audio.pcm import CANONICAL
from satellite.config.consistency import contradictions
from satellite.config.rooms import EsphomeRoomSettings
from satellite.config.settings import Config
from satellite.errors import DaemonUnreachable
from satellite.rooms.esphome.entities import Entities
from satellite.rooms.esphome.esphome_connection import EsphomeConnection
from satellite.rooms.esphome.probe import encrypts
from satellite.rooms.hub import Hub
from satellite.rooms.playback import SharedSound
from satellite.rooms.room import LinkState
from tests.doubles.esphome import EsphomeDevice
from tests.doubles.esphome_wire import Channel, Message, name_of
from tests.esphome_rooms import KEY, house, key_file, turn
from tests.waiting import PATIENCE_SECONDS, until

pytestmark = pytest.mark.virtual_clock


@pytest.mark.parametrize("key", [KEY, None])
async def test_a_device_is_connected_encrypted_or_plain(tmp_path: Path, key: bytes | None) -> None:
    settings = {"key_file": key_file(tmp_path, key)} if key else {}
    async with EsphomeDevice(key=key) as device, house() as home, home.room(device, **settings) as room:
        assert room.state is LinkState.CONNECTED, room.summary
        assert device.claimed
        assert room.status().message == "connected"
    await until(lambda: not device.claimed)


@pytest.mark.parametrize(
    ("device", "key", "state", "words"),
    [
        (EsphomeDevice(key=KEY), bytes(31) + b"x", LinkState.NO_KEY, "refuses the key from"),
        (EsphomeDevice(key=KEY), b"short", LinkState.NO_KEY, "is no key of ESPHome"),
        (EsphomeDevice(key=KEY), None, LinkState.NO_KEY, "it encrypts, and there is no key: neither key_file"),
        (EsphomeDevice(), KEY, LinkState.NO_KEY, "it does not encrypt, though it has a key here"),
        (EsphomeDevice(has_assistant=False), None, LinkState.NO_SATELLITE, "without voice_assistant:"),
        (EsphomeDevice(owned=True), None, LinkState.HELD, "belongs to another server, such as Home Assistant"),
        (EsphomeDevice(hangs_after_connect=True), None, LinkState.NO_SATELLITE, "is no ESPHome device"),
    ],
)
async def test_what_is_wrong_is_said(
    tmp_path: Path, device: EsphomeDevice, key: bytes | None, state: LinkState, words: str
) -> None:
    settings = {"key_file": key_file(tmp_path, key)} if key else {}
    loop = asyncio.get_running_loop()
    async with device, house() as home:
        began = loop.time()
        async with home.room(device, **settings) as room:
            assert room.state is state
            assert words in room.status().message
            assert loop.time() - began < 10
            with pytest.raises(DaemonUnreachable, match="kitchen") as refused:
                await room.announce(SharedSound(CANONICAL))
            assert refused.value.code == "room-unreachable"


async def test_a_device_that_is_off_is_dialled_until_it_is_there(tmp_path: Path) -> None:
    async with EsphomeDevice() as device, house() as home:
        await device.stop()
        async with home.room(device) as room:
            assert room.state is LinkState.OFF
            assert "cannot be reached" in room.summary
            await device.start()
            await until(lambda: room.state is LinkState.CONNECTED)


async def test_a_lost_device_is_connected_again_at_whatever_form(tmp_path: Path) -> None:
    key = key_file(tmp_path)
    async with EsphomeDevice(key=KEY) as device, house() as home, home.room(device, key_file=key) as room:
        await asyncio.sleep(30)
        device.vanish()
        await until(lambda: room.reconnections == 1)
        device.hang()
        await until(lambda: room.state is LinkState.OFF)
        device.thaw()
        await until(lambda: room.reconnections == 2)
        await device.reboot(20)
        await until(lambda: room.reconnections == 3)
        device.key = bytes(32)[:31] + b"\1"
        await device.reboot()
        await until(lambda: room.state is LinkState.NO_KEY)
        key_file(tmp_path, device.key)
        await until(lambda: room.state is LinkState.CONNECTED)
        device.send_garbage()
        await until(lambda: room.reconnections == 5)


@pytest.mark.parametrize(
    ("greeting", "reset", "words"),
    [
        (b"\x00\x06\x02\x08\x01\x10\x0a\x22\x00", False, "it has hung up"),  # HelloResponse of API 1.10
        (b"\x00\x06\x02\x08\x01\x10\x0a\x22\x00", True, "it has hung up"),
        (b"\x00\x00\x07" + b"\x16" * 9, False, "what it says cannot be understood"),
        (b"", False, "has hung up without an answer: has it too many connections?"),
        (b"", True, "has hung up without an answer: has it too many connections?"),
    ],
)
async def test_a_device_that_hangs_up_at_once_is_dialled_ever_more_rarely(
    greeting: bytes, reset: bool, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    connections: list[float] = []

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(asyncio.get_running_loop().time())
        await reader.read(1)
        writer.write(greeting)
        if reset:
            lingering = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, lingering)
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    device = EsphomeDevice(port=server.sockets[0].getsockname()[1])
    async with server, house() as home, home.room(device) as room:
        await asyncio.sleep(100)
        assert room.state is LinkState.OFF
        assert words in room.summary
    tries = connections[1::2]  # each is the question whether it encrypts, and the connection
    assert max(abs(tried - asked) for asked, tried in zip(connections[::2], tries, strict=True)) < 0.1
    waits = [after - before for before, after in pairwise(tries)]
    assert 0.2 < waits[0] < 0.6
    assert waits[:6] == sorted(waits[:6])
    assert min(waits[6:]) > 10
    assert [record.levelname for record in caplog.records if record.name.startswith("satellite")] == ["WARNING"]
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_device_that_is_left_before_it_has_answered_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as waiting:
        for _ in range(2):
            waiting.enter_context(one := socket.socket())
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        async with EsphomeConnection("127.0.0.1", full.getsockname()[1], ""):
            await asyncio.sleep(0.5)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_device_that_is_let_go_in_a_hurry_is_not_connected_again() -> None:
    async with EsphomeDevice() as device:
        connection = EsphomeConnection(device.host, device.port, "")
        await connection.__aenter__()
        await connection.next()
        device.hang()  # it does not say goodbye
        leaving = asyncio.create_task(connection.__aexit__())
        await asyncio.sleep(0.5)
        leaving.cancel()
        await asyncio.wait([leaving])
        device.thaw()
        device.vanish()
        await asyncio.sleep(60)
        assert not device._channels


async def test_a_device_that_is_freed_is_taken() -> None:
    async with EsphomeDevice(owned=True) as device, house() as home, home.room(device) as room:
        assert room.state is LinkState.HELD
        device.owned = False
        await until(lambda: room.state is LinkState.CONNECTED)
        assert device.claimed


async def test_linux_voice_assistant_is_taken_back_from_who_has_connected_since() -> None:
    async with EsphomeDevice(is_lva=True, formats=()) as device, house() as home, home.room(device) as room:
        other = APIClient(device.host, device.port, None)
        await other.connect()
        await until(lambda: room.reconnections == 1)
        await until(lambda: room.state is LinkState.CONNECTED)
        assert (await turn(device))[-1].type == "RUN_END"
        await other.disconnect()
        await asyncio.sleep(600)
        assert room.reconnections == 1
        assert room.state is LinkState.CONNECTED


class DeafDevice(EsphomeDevice):
    """Its microphone fails."""

    async def _take(self, channel: Channel, message: Message) -> bool:
        return name_of(message) == "VoiceAssistantSetConfiguration" or await super()._take(channel, message)


async def test_a_device_that_stays_deaf_is_left_ever_more_rarely() -> None:
    async with DeafDevice(is_lva=True, formats=()) as device, house() as home, home.room(device) as room:
        await asyncio.sleep(1700)
        assert 2 <= room.reconnections <= 4


async def test_a_device_without_wake_words_is_ours_where_that_is_configured() -> None:
    without = EsphomeDevice(wake_words=(), has_start_button=True)
    async with without, house() as home:
        async with home.room(without, wake_words=[]) as room:
            assert room.state is LinkState.CONNECTED
        async with home.room(without) as room:
            assert room.state is LinkState.HELD
            await without.press()
            await until(lambda: room.state is LinkState.CONNECTED)


class OldDevice(EsphomeDevice):
    """Firmware of before wake words on the device: it leaves the question for them without an answer."""

    async def _take(self, channel: Channel, message: Message) -> bool:
        return name_of(message) == "VoiceAssistantConfigurationRequest" or await super()._take(channel, message)


async def test_old_firmware_that_knows_no_wake_words_is_connected_all_the_same() -> None:
    async with OldDevice() as device, house() as home, home.room(device) as room:
        assert room.state is LinkState.CONNECTED
        assert (await turn(device))[-1].type == "RUN_END"


async def test_a_reload_leaves_rooms_connected_that_are_the_same() -> None:
    stays, goes = EsphomeDevice(), EsphomeDevice(name="study")
    async with stays, goes, house() as home:
        both = [EsphomeRoomSettings(name=device.name, uri=device.uri) for device in (stays, goes)]
        hub = Hub(tuple(both), home.context)
        hub.start()
        await until(lambda: stays.claimed and goes.claimed)
        await hub.apply((both[0], both[1].model_copy(update={"name": "office"})))
        await until(lambda: [one.state for one in hub.status()] == [LinkState.CONNECTED] * 2)
        assert [one.room for one in hub.status()] == ["kitchen", "office"]
        assert [taken.type for taken in stays.taken].count("HelloRequest") == 1
        await hub.stop()
        await until(lambda: not stays.claimed)


def test_only_a_configured_device_has_the_library_imported() -> None:
    code = (
        "import sys, satellite.daemon.daemon; print([n for n in ('aioesphomeapi', 'av', 'numpy') if n in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


async def test_the_wrong_form_of_the_protocol_costs_no_long_wait() -> None:
    """linux-voice-assistant says nothing to a greeting that encrypts."""

    async def silent_to_noise(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(1) == b"\0":
            writer.write(b"\0")
        await reader.read()
        writer.close()

    loop = asyncio.get_running_loop()
    async with await asyncio.start_server(silent_to_noise, "127.0.0.1", 0) as server:
        began = loop.time()
        assert not await encrypts("127.0.0.1", server.sockets[0].getsockname()[1])
        assert loop.time() - began < 1


@pytest.mark.parametrize(
    ("kind", "name", "found"),
    [
        (SwitchInfo, "Mute", "mute"),
        (SwitchInfo, "Microphone Mute", "mute"),
        (SwitchInfo, "Mute Sounds", ""),
        (SwitchInfo, "Wake sound", ""),
        (NumberInfo, "Speaker Volume", "volume"),
        (NumberInfo, "Mic Volume", ""),
        (NumberInfo, "Volume step", ""),
        (ButtonInfo, "Start conversation", "start"),
        (ButtonInfo, "Restart", ""),
    ],
)
async def test_entities_are_found_by_what_firmware_calls_them(kind: type[EntityInfo], name: str, found: str) -> None:
    changes = 0

    def changed() -> None:
        nonlocal changes
        changes += 1

    limits = {"min_value": 0.0, "max_value": 50.0} if kind is NumberInfo else {}
    entity = kind.from_dict({"object_id": name.lower().replace(" ", "_"), "key": 7, "name": name} | limits)
    async with EsphomeDevice() as device:
        client = APIClient(device.host, device.port, None)
        await client.connect(login=True)
        entities = Entities(client, [entity], changed, lambda _: None)
        entities.set_muted(True)
        assert entities.set_volume(0.5) is entities.has_volume is (found == "volume")
        if entities.has_start_button:
            entities.press_start()
        entities.take(NumberState(key=7, state=10.0))  # type: ignore[call-arg]
        entities.take(SwitchState(key=7, state=True))  # type: ignore[call-arg]
        assert entities.volume == (0.2 if found == "volume" else None)
        assert entities.muted is (True if found == "mute" else None)
        assert entities.has_start_button is (found == "start")
        expected = {"mute": "SwitchCommandRequest", "volume": "NumberCommandRequest", "start": "ButtonCommandRequest"}
        if found:
            assert (await device.until(expected[found])).data["key"] == 7
            assert changes == (found != "start")
        await client.disconnect()


async def test_a_device_may_be_named() -> None:
    async with EsphomeDevice() as device, house() as home:
        async with home.room(device, uri=f"esphome://localhost:{device.port}") as room:
            assert room.state is LinkState.CONNECTED
        async with home.room(device, uri="esphome://nobody.invalid") as room:
            assert room.summary == "nobody.invalid is unknown in the network; is it switched on?"


@pytest.mark.slow
def test_a_device_fetches_where_it_is_reached_at_a_link_local_address_and_where_it_moves() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.link_local"],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        *["fe80::1%lo http://127.0.0.1 connected"] * 2,
        "127.0.0.2 http://127.0.0.1 connected",
        "127.0.0.3 http://127.0.0.1 connected",
    ]


def test_a_device_is_one_room_however_its_address_is_written() -> None:
    two = [{"name": name, "uri": f"esphome://192.0.2.1{port}"} for name, port in (("a", ""), ("b", ":6053"))]
    assert [what for _, what in contradictions(Config.model_validate({"rooms": two}))] == [
        "'esphome://192.0.2.1:6053' is also the uri of rooms[0]"
    ]
