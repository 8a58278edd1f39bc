"""A scripted ESPHome device that is a room, with scripted engines and nothing else of a daemon."""

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np

from satellite.audio.pcm import RATE
from satellite.config.rooms import EsphomeRoomSettings
from satellite.events import RunBus
from satellite.rooms.arbitration import Arbiter
from satellite.rooms.device import RoomContext
from satellite.rooms.esphome.esphome_room import EsphomeRoom
from satellite.rooms.esphome.incoming import IncomingDevices
from satellite.rooms.media_listener import MediaListener
from satellite.rooms.room import LinkState
from satellite.skills.timers.scheduler import TimerScheduler
from tests.doubles.esphome import EsphomeDevice, Taken
from tests.loudness import silence, speech
from tests.scripted_engine import ScriptedEngine, scripted_stages
from tests.waiting import until

KEY = bytes(range(32))
COMMAND = speech(60) + silence(60)
NOISE = np.random.default_rng(0).integers(-4000, 4000, RATE).astype(np.int16).tobytes()


class LoudEngine(ScriptedEngine):
    """Its answers can be heard: every word is a second of noise, which is as hard to compress as speech."""

    async def speak(self, text: str, lead_seconds: float = 0.0) -> AsyncGenerator[bytes, None]:
        async for _ in super().speak(text):
            yield NOISE


class EsphomeHouse:
    """The rooms of a test, and what they share."""

    def __init__(
        self,
        engine: ScriptedEngine,
        *,
        arbitration_seconds: float = 0.3,
        scheduler: TimerScheduler | None = None,
        media_port: int = 0,
        **sections: Any,
    ) -> None:
        self.engine = engine
        self.stages = scripted_stages(engine, **sections)
        self.bus = RunBus()
        self.media = MediaListener(media_port)
        self.incoming = IncomingDevices(0, "127.0.0.1")
        self.context = RoomContext(self.stages, self.bus, Arbiter(arbitration_seconds), scheduler, self.media)

    @asynccontextmanager
    async def room(self, device: EsphomeDevice, **settings: Any) -> AsyncIterator[EsphomeRoom]:
        """Drive `device`; returns when it has been reached, or has not."""
        wanted = EsphomeRoomSettings(**{"name": device.name, "uri": device.uri} | settings)
        room = EsphomeRoom(wanted, self.context, self.incoming)
        running = self.stages.background.run(f"room {device.name}", room.run)
        try:
            await until(lambda: room.state is not LinkState.CONNECTING)
            yield room
        finally:
            await running.stop()


@asynccontextmanager
async def house(engine: ScriptedEngine | None = None, **sections: Any) -> AsyncIterator[EsphomeHouse]:
    built = EsphomeHouse(engine or LoudEngine(answer=["It is late. ", "Good night."]), **sections)
    try:
        yield built
    finally:
        await built.media.close()
        await built.stages.background.close()


def key_file(directory: Path, key: bytes = KEY) -> Path:
    file = directory / "device.key"
    file.write_text(base64.b64encode(key).decode() + "\n")
    file.chmod(0o600)
    return file


async def turn(device: EsphomeDevice, phrase: str = "", command: bytes = COMMAND) -> list[Taken]:
    """Say the wake word and a command; return the events of the turn, to its end."""
    began = len(device.taken)
    assert await device.wake(phrase)
    speaking = asyncio.create_task(device.say(command))
    await device.until("RUN_END")
    await speaking
    return events(device, began)


def events(device: EsphomeDevice, since: int = 0) -> list[Taken]:
    """Return the events of the voice assistant, which are in capitals."""
    return [taken for taken in list(device.taken)[since:] if taken.type.isupper()]
