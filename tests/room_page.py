"""Rooms in browsers, without a browser: the daemon's side on scripted engines, and a page that a test speaks for."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from satellite.audio.pcm import RATE
from satellite.config.rooms import RoomSettings
from satellite.events import RunBus
from satellite.http.browser_rooms import BrowserRooms
from satellite.http.http_service import HttpService
from satellite.pipeline.stages import Stages
from satellite.rooms.announcements import Announcer
from satellite.rooms.arbitration import Arbiter
from satellite.rooms.controls import RoomControls
from satellite.rooms.device import RoomContext
from satellite.rooms.hub import Hub
from satellite.rooms.intercom import Intercom
from satellite.rooms.media_sources import MediaSources
from satellite.skills.timers.scheduler import TimerScheduler
from satellite.tasks import end_tasks
from tests.house import http_context
from tests.loudness import WINDOW_SAMPLES, silence
from tests.waiting import until

WINDOW_SECONDS = WINDOW_SAMPLES / RATE


@dataclass
class House:
    """The daemon's side, serving at `port`."""

    port: int
    hub: Hub
    browsers: BrowserRooms
    timers: TimerScheduler
    configured: list[RoomSettings]

    def names(self) -> list[str]:
        return [room.settings.name for room in self.hub.rooms]

    def url(self, token: str = "") -> str:
        return f"ws://127.0.0.1:{self.port}/room/ws{f'?token={token}' if token else ''}"


@asynccontextmanager
async def house(
    stages: Stages, folder: Path, *configured: RoomSettings, token: str | None = None, **http: Any
) -> AsyncIterator[House]:
    """Serve HTTP with `stages`, and settings for the rooms in `configured`."""
    bus, scheduler = RunBus(), TimerScheduler(folder, clock=asyncio.get_running_loop().time)
    context = RoomContext(stages, bus, Arbiter(0.3), scheduler)
    hub, known = Hub(configured, context), list(configured)
    browsers, sources = BrowserRooms(hub, context, lambda: known), MediaSources(lambda: stages.config.hub)
    announcer = Announcer(hub, stages, sources)
    intercom = Intercom(hub, lambda: stages.config.hub)
    controls = RoomControls(hub, announcer, sources, intercom, lambda: stages.config.hub)
    service = HttpService(http_context(folder, stages, bus, announcer, controls, browsers, token=token, **http))
    ticking = asyncio.create_task(scheduler.watch())
    hub.start()
    try:
        yield House(await service.start(0), hub, browsers, scheduler, known)
    finally:
        await service.stop()
        await controls.close()
        await intercom.close()
        await hub.stop()
        await sources.close()
        await end_tasks(ticking)
        await scheduler.close()
        await stages.background.close()


class Page:
    """What the page does: streams its microphone, plays what it is sent at its pace, and reports it."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.frames: list[dict[str, Any]] = []
        self.said = b""
        """What its microphone hears next; otherwise it is quiet."""

        self.heard: list[tuple[float, bytes]] = []
        """Pieces of sound that have arrived, and when."""

        self.reports = True
        """Whether it plays sound, and says so."""

        self.silenced = False
        """Whether its microphone sends nothing any more."""

        self._ends_at = 0.0
        self._rate = RATE

    def say(self, *sounds: bytes) -> None:
        self.said += b"".join(sounds)

    async def send(self, type_: str, **data: Any) -> None:
        await self.connection.send(json.dumps({"type": type_, **data}))

    async def live(self) -> None:
        await asyncio.gather(self._listen(), self._play())

    async def until(self, type_: str, **data: Any) -> dict[str, Any]:
        """Wait for a frame, from the first one on that no `until` has returned; return it."""
        found: list[dict[str, Any]] = []

        def seen() -> bool:
            while self.frames and not found:
                frame = self.frames.pop(0)
                if frame["type"] == type_ and data.items() <= frame.items():
                    found.append(frame)
            return bool(found)

        await until(seen)
        return found[0]

    def sound_seconds(self) -> float:
        return sum(len(pcm) for _, pcm in self.heard) / 2 / self._rate

    async def _listen(self) -> None:
        size = 2 * WINDOW_SAMPLES
        while not self.silenced:
            await asyncio.sleep(WINDOW_SECONDS)
            window, self.said = self.said[:size] or silence(1), self.said[size:]
            await self.connection.send(window)

    async def _play(self) -> None:
        loop = asyncio.get_running_loop()
        reports: dict[int, asyncio.TimerHandle] = {}
        async for message in self.connection:
            if isinstance(message, bytes):
                self.heard.append((loop.time(), message))
                self._ends_at = max(self._ends_at, loop.time()) + len(message) / 2 / self._rate
                continue
            frame = json.loads(message)
            self.frames.append(frame)
            if frame["type"] == "sound":
                self._rate = frame["rate"]
            elif frame["type"] == "silence":
                self._ends_at = loop.time()
            elif frame["type"] == "sound-end" and self.reports:
                number = frame["sound"]
                reports[number] = loop.call_at(self._ends_at, self._report, number)

    def _report(self, sound: int) -> None:
        asyncio.ensure_future(self.send("played", sound=sound))  # noqa: RUF006  # it ends with the connection


@asynccontextmanager
async def page(there: House, name: str = "tablet", **joins: Any) -> AsyncIterator[Page]:
    """Open a page that is the room called `name`."""
    async with connect(there.url(), max_size=None, compression=None) as connection:
        one = Page(connection)
        living = asyncio.create_task(one.live())
        try:
            await one.send("join", room=name, **joins)
            yield one
        finally:
            living.cancel()
            await asyncio.gather(living, return_exceptions=True)
