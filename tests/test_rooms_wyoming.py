"""Wyoming satellites as rooms, without models: how they are dialled."""

import asyncio
import logging

import pytest
from wyoming.info import Attribution, Info, Satellite
from wyoming.ping import Pong

from satellite.config.rooms import WyomingRoomSettings
from satellite.events import RunBus
from satellite.rooms.arbitration import Arbiter
from satellite.rooms.device import RoomContext
from satellite.rooms.wyoming import WyomingRoom
from satellite.wire.connection import Connection, Timeouts
from tests.scripted_engine import ScriptedEngine, scripted_stages

pytestmark = pytest.mark.virtual_clock

INFO = Info(satellite=Satellite("kitchen", Attribution("", ""), True, None, "1.4.1"))


async def test_a_satellite_that_hangs_up_again_and_again_is_dialled_ever_more_rarely(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    dialled = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal dialled
        dialled += 1
        connection = Connection(reader, writer, Timeouts())
        async for event in connection:
            if event.type == "describe":
                await connection.send(INFO)
            elif event.type == "ping":
                await connection.send(Pong())
                break
        await connection.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    settings = WyomingRoomSettings(name="kitchen", uri=f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    stages = scripted_stages(ScriptedEngine())
    room = WyomingRoom(settings, RoomContext(stages, RunBus(), Arbiter(0.3)))
    running = stages.background.run("room kitchen", room.run)
    async with server:
        await asyncio.sleep(100)
        assert room.reconnections > 2
        assert dialled < 20
        await running.stop()
    await stages.background.close()
    assert len(caplog.records) < 60
