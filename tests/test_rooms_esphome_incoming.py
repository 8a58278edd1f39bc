"""Devices that dial the daemon: accepted where a room names them and has their key, and nowhere else."""

import asyncio
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aioesphomeapi.outgoing_connection import OutgoingConnectionServer

from satellite.config.loader import parse
from satellite.errors import ConfigError
from satellite.rooms.room import LinkState
from satellite.tasks import end_tasks
from tests.command_line import listening_ports
from tests.doubles.esphome import EsphomeDevice
from tests.esphome_rooms import KEY, EsphomeHouse, house, key_file
from tests.waiting import until

pytestmark = pytest.mark.virtual_clock

NOBODY = "esphome://127.0.0.1:9"


def settings(device: EsphomeDevice, directory: Path, **others: Any) -> dict[str, Any]:
    return {"uri": NOBODY, "mac": device.mac, "key_file": key_file(directory)} | others


async def dials(device: EsphomeDevice, home: EsphomeHouse) -> asyncio.Task[None]:
    await until(lambda: home.incoming.port)
    return asyncio.create_task(device.dial(home.incoming.port))


async def test_a_device_that_cannot_be_dialled_dials_again_and_again(tmp_path: Path) -> None:
    async with EsphomeDevice(key=KEY) as device, house() as home:
        await device.stop()
        async with home.room(device, **settings(device, tmp_path)) as room:
            assert room.state is LinkState.OFF
            for count in range(2):
                dialling = await dials(device, home)
                await until(lambda: room.state is LinkState.CONNECTED)
                assert (device.claimed, room.reconnections) == (True, count)
                assert home.incoming.port in listening_ports()
                await asyncio.sleep(10)
                device.vanish()
                await dialling
                await until(lambda: room.state is LinkState.OFF)
    assert home.incoming.port not in listening_ports()  # no room, no port


async def test_a_device_that_is_dialled_remembers_where_to_dial(tmp_path: Path) -> None:
    async with (
        EsphomeDevice(key=KEY) as device,
        house() as home,
        home.room(device, **settings(device, tmp_path, uri=device.uri)) as room,
    ):
        assert room.state is LinkState.CONNECTED
        (hello,) = [taken for taken in device.taken if taken.type == "HelloRequest"]
        assert hello.data["outgoing_connection_target"] is True


@pytest.mark.parametrize(("mac", "key"), [("20:F8:3B:00:00:02", KEY), ("20:F8:3B:00:00:01", b"x" * 32)])
async def test_a_device_that_is_unknown_or_has_another_key_is_refused_and_logged_once(
    tmp_path: Path, mac: str, key: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with EsphomeDevice(key=key, mac=mac) as device, house() as home:
        await device.stop()
        known = EsphomeDevice(key=KEY)
        async with home.room(known, **settings(known, tmp_path)) as room:
            with caplog.at_level(logging.INFO, "aioesphomeapi.outgoing_connection"):
                for _ in range(3):
                    with suppress(OSError, EOFError):
                        await (await dials(device, home))
            assert room.state is not LinkState.CONNECTED
            assert not device.claimed
    told = [record for record in caplog.records if "No registered target for 20f83b000002" in record.message]
    assert len(told) == (mac != known.mac)


async def test_garbage_costs_one_connection(tmp_path: Path) -> None:
    async with EsphomeDevice(key=KEY) as device, house() as home:
        await device.stop()
        async with home.room(device, **settings(device, tmp_path)) as room:
            await until(lambda: home.incoming.port)
            reader, writer = await asyncio.open_connection("127.0.0.1", home.incoming.port)
            writer.write(b"\x16\x03\x01 no hello" * 100)
            with suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
            silent = [await asyncio.open_connection("127.0.0.1", home.incoming.port) for _ in range(20)]
            dialling = await dials(device, home)
            await until(lambda: room.state is LinkState.CONNECTED)
            for _, other in silent:
                other.close()
        await end_tasks(dialling)


async def test_without_a_key_no_device_may_dial() -> None:
    async with EsphomeDevice() as device, house() as home, home.room(device, mac=device.mac) as room:
        assert (room.state, "needs a key" in room.summary) == (LinkState.NO_KEY, True)
        assert home.incoming.port == 0


A = "{name: a, uri: 'esphome://a', mac: '20:f8:3b:00:00:01'}"
B = "{name: b, uri: 'esphome://b', mac: 20-F8-3B-00-00-01}"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("rooms: [{name: a, uri: 'esphome://a', mac: 20f83b}]", "expected a MAC address"),
        (f"rooms: [{A}, {B}]", r"rooms\[1\]\.mac: '20f83b000001' is also the mac of rooms\[0\]"),
        (f"rooms: [{A}]\nhub: {{incoming_port: 10600}}", "port 10600 is also wyoming.port"),
    ],
)
def test_what_is_configured_wrongly_is_refused(text: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        parse(text)


def test_the_library_listens_at_the_port_that_firmware_knows() -> None:
    port = parse("rooms: []").hub.incoming_port
    assert OutgoingConnectionServer()._port == port == 6054
