"""Devices say whether they can become rooms, over real connections to doubles, and take a key once."""

import asyncio
import base64
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
from wyoming.event import Event, async_write_event

from satellite.config.rooms import EsphomeRoomSettings
from satellite.errors import SatelliteError
from satellite.rooms.candidates import Candidate, CandidateState, addresses_of, room_of
from satellite.rooms.esphome.provisioning import checked_key, connected, new_key, provision
from satellite.rooms.examination import examine
from satellite.system import logs
from satellite.wire.browsing import DeviceKind, FoundDevice
from tests.doubles.esphome import EsphomeDevice
from tests.doubles.esphome_wire import NO_KEY
from tests.doubles.satellite import ScriptedSatellite
from tests.waiting import until

pytestmark = pytest.mark.virtual_clock

KEY = base64.b64encode(bytes(range(32))).decode()
OTHER = base64.b64encode(b"o" * 32).decode()


def found(port: int, kind: DeviceKind = DeviceKind.ESPHOME) -> FoundDevice:
    return FoundDevice(kind, "kitchen", ("127.0.0.1",), port)


async def examined(device: EsphomeDevice, *keys: str) -> Candidate:
    return (await examine([found(device.port)], {}, keys))[0]


async def test_a_program_that_belongs_to_its_latest_client_is_left_alone() -> None:
    connected_to: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: connected_to.append(writer), "127.0.0.1", 0)
    async with server:
        [candidate] = await examine([replace(found(server.sockets[0].getsockname()[1]), is_program=True)], {}, [])
    assert (candidate.state, "--address" in candidate.message) == (CandidateState.UNKNOWN, True)
    assert connected_to == []


@pytest.mark.parametrize(
    ("settings", "state", "message"),
    [
        ({}, CandidateState.FREE, "does not encrypt"),
        ({"is_lva": True, "formats": ()}, CandidateState.FREE, "if Home Assistant is to keep it, reload its entry"),
        ({"key": NO_KEY}, CandidateState.NO_KEY, "is given an encryption key"),
        ({"key": base64.b64decode(KEY)}, CandidateState.FREE, ""),
        ({"key": b"x" * 32}, CandidateState.LOCKED, "--key-file"),
        ({"owned": True}, CandidateState.HELD, "in Home Assistant"),
        ({"owned": True, "key": base64.b64decode(KEY)}, CandidateState.HELD, "in Home Assistant"),
        ({"output": "speaker"}, CandidateState.FREE, ""),
        ({"output": "speaker", "wake_words": ()}, CandidateState.FREE, ""),
        ({"has_assistant": False}, CandidateState.NO_SATELLITE, "without a voice assistant"),
        ({"hangs_after_connect": True}, CandidateState.NO_SATELLITE, "is no ESPHome device"),
    ],
)
async def test_an_esphome_device_says_whether_it_is_free(
    settings: dict[str, Any], state: CandidateState, message: str
) -> None:
    async with EsphomeDevice(**settings) as device:
        for _ in range(2):  # the first time leaves no trace
            candidate = await examined(device, OTHER, KEY)
            assert (candidate.state, message in candidate.message) == (state, True)
            await until(lambda: not device.claimed)
        assert candidate.has_wake_words is ("wake_words" not in settings)
        assert candidate.key not in repr(candidate) or not candidate.key
    assert (await examined(device)).state is CandidateState.OFF


async def test_a_device_takes_a_key_once_and_is_reached_by_it_alone() -> None:
    key = new_key()
    async with EsphomeDevice(key=NO_KEY) as device:
        candidate = await examined(device)
        await provision(candidate, key)
        assert device.key == base64.b64decode(key)
        assert (await examined(device)).state is CandidateState.LOCKED
        again = await examined(device, key)
        assert (again.state, again.key) == (CandidateState.FREE, key)
        async with connected(found(device.port), key) as client:
            assert (await client.device_info()).api_encryption_provisionable is False


async def test_a_device_that_refuses_the_key_stays_without_one() -> None:
    async with EsphomeDevice(key=NO_KEY, refuses_keys=True) as device:
        with pytest.raises(SatelliteError, match="restart the device") as raised:
            await provision(await examined(device), KEY)
        assert raised.value.code == "key-refused"
        assert device.key == NO_KEY


async def test_a_device_that_vanishes_after_it_took_the_key_is_told_apart() -> None:
    async with EsphomeDevice(key=NO_KEY) as device:
        candidate = await examined(device)

        async def vanish() -> None:
            await until(lambda: device.key != NO_KEY)
            await device.stop()

        vanishing = asyncio.create_task(vanish())
        with pytest.raises(SatelliteError, match="does not use it") as raised:
            await provision(candidate, KEY)
        assert raised.value.code == "key-unconfirmed"
        await vanishing


@pytest.mark.parametrize("text", ["", "short", "x" * 44, base64.b64encode(bytes(32)).decode(), "é" * 44, KEY[:-4]])
def test_what_is_no_key_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(SatelliteError, match="44 characters") as raised:
        checked_key(text)
    assert not text or text not in str(raised.value)
    assert checked_key(f" {KEY}\n") == KEY


@asynccontextmanager
async def silent_server() -> AsyncIterator[int]:
    """A server that describes itself as no satellite, or, to the second client, says nothing."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asks.append(1)
        if len(asks) == 1:
            await async_write_event(Event("info", {}), writer)
        with suppress(ConnectionError):
            await reader.read()
        writer.close()

    asks: list[int] = []
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def test_a_wyoming_server_says_whether_it_is_a_satellite_and_is_not_claimed() -> None:
    async with ScriptedSatellite(name="Kitchen Pi", mode="wake") as satellite, silent_server() as port:
        states = [CandidateState.FREE, CandidateState.NO_SATELLITE, CandidateState.OFF]
        devices = [found(one, DeviceKind.WYOMING) for one in (satellite.port, port, 1)]
        assert [one.state for one in await examine(devices, {}, [])] == states
        assert not satellite.claimed
        (silent,) = await examine(devices[1:2], {}, [])
        assert (silent.state, "does not describe itself" in silent.message) == (CandidateState.OFF, True)


@pytest.mark.parametrize(
    ("uri", "named"),
    [
        ("esphome://192.0.2.1", True),
        ("esphome://192.0.2.1:6053", True),
        ("esphome://192.0.2.1:6054", False),
        ("esphome://Kitchen.local.", True),
        ("esphome://kitchen", True),
        ("esphome:20:f8:3b:00:00:01", True),
        ("esphome://192.0.2.2", False),
        ("browser:tablet", False),
    ],
)
async def test_a_device_that_the_configuration_names_is_ours_and_not_disturbed(uri: str, named: bool) -> None:
    device = FoundDevice(DeviceKind.ESPHOME, "kitchen", ("192.0.2.1",), 6053, mac="20f83b000001")
    assert room_of(device, {uri: "den"}) == ("den" if named else None)
    assert room_of(replace(device, kind=DeviceKind.WYOMING), {uri: "den"}) is None
    if named:
        (candidate,) = await examine([device], {uri: "den"}, [])
        assert (candidate.state, "is the room den already" in candidate.message) == (CandidateState.OURS, True)


def test_a_device_that_dials_is_named_by_its_mac() -> None:
    device = FoundDevice(DeviceKind.ESPHOME, "kitchen", ("192.0.2.1",), 6053, mac="20f83b000001")
    for mac, named in (("20:F8:3B:00:00:01", True), ("20:f8:3b:00:00:02", False), (None, False)):
        room = EsphomeRoomSettings(name="garden", uri="esphome://192.0.2.9", mac=mac)
        assert room_of(device, addresses_of([room])) == ("garden" if named else None)


@pytest.mark.parametrize(("host", "room"), [("127.0.0.1", "localhost"), ("localhost", "127.0.0.1")])
async def test_a_room_is_not_disturbed_where_it_is_room_of_another_way(host: str, room: str) -> None:
    async with EsphomeDevice() as device:
        one = FoundDevice(DeviceKind.ESPHOME, "kitchen", (host,), device.port)
        (candidate,) = await examine([one], {f"esphome://{room}:{device.port}": "den", "browser:": "hall"}, [])
        assert (candidate.state, list(device.taken)) == (CandidateState.OURS, [])


async def test_a_new_key_is_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    before, key = logging.getLogger().level, new_key()
    logs.set_level("debug")
    try:
        async with EsphomeDevice(key=NO_KEY) as device:
            await provision(await examined(device), key)
            assert (await examined(device, key)).key == key
    finally:
        logs.set_level(logging.getLevelName(before).lower())
    assert key not in caplog.text
