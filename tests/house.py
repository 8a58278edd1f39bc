"""A house of scripted rooms behind the real hub, controls, HTTP server and Wyoming port, without a model."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from satellite.config.http import HttpSettings
from satellite.config.rooms import RoomSettings
from satellite.daemon.room_commands import RoomCommands
from satellite.engines.protocols import Transcription
from satellite.errors import DaemonUnreachable, SatelliteError
from satellite.events import RunBus
from satellite.http.browser_rooms import BrowserRooms
from satellite.http.context import Context
from satellite.http.http_service import HttpService
from satellite.http.rate_limit import RateLimit, Work
from satellite.models.store import Store
from satellite.monitoring.runs import RunHistory
from satellite.monitoring.status import Status
from satellite.pipeline.stages import Stages
from satellite.rooms.announcements import Announcer
from satellite.rooms.arbitration import Arbiter
from satellite.rooms.call import CallSide
from satellite.rooms.controls import RoomControls
from satellite.rooms.device import Capabilities, RoomContext
from satellite.rooms.hub import Hub
from satellite.rooms.intercom import Intercom
from satellite.rooms.media_sources import MediaSources
from satellite.rooms.playback import SharedSound, Sounding
from satellite.rooms.room import LinkState, RoomStatus, is_heard
from satellite.services.session import ALL_STAGES, Session
from satellite.wire.connection import Connection, Timeouts
from satellite.wire.server import AllowedNetworks, Server
from tests.scripted_engine import ScriptedEngine, scripted_stages
from tests.waiting import PATIENCE_SECONDS


@dataclass(eq=False)
class ScriptedHouseRoom:
    """A room that notes what is done with it; `answer` is what is said to a question there."""

    settings: RoomSettings
    answer: Transcription | SatelliteError | None = None
    connected: bool = True
    capabilities: Capabilities = field(default_factory=Capabilities)
    done: list[tuple[object, ...]] = field(default_factory=list)
    volume: float | None = None
    muted: bool = False
    heard_bytes: int = 0
    """Of the latest sound."""

    async def run(self) -> None:
        await asyncio.Future()

    async def announce(self, sound: SharedSound) -> None:
        await self._play("announce", sound)

    async def ask(self, question: SharedSound | None, *, language: str | None = None) -> Transcription:
        assert question is not None
        await self._play("ask", question)
        if self.answer is None:
            await asyncio.Future()
        if isinstance(self.answer, SatelliteError):
            raise self.answer
        assert self.answer is not None
        return self.answer

    async def start(self) -> None:
        self._note("start")

    async def stop(self) -> bool:
        sounded = bool(self.done)
        self._note("stop")
        return sounded

    async def set_muted(self, muted: bool) -> None:
        self._note("mute", muted)
        self.muted = muted

    async def set_volume(self, volume: float) -> None:
        self._note("volume", volume)
        self.volume = volume

    async def set_listen_only(self, listen_only: bool) -> None:
        self._note("listen-only", listen_only)

    async def play(self, media: SharedSound) -> None:
        await self._play("play", media)

    async def join(self, side: CallSide) -> None:
        self._note("call", side.other.room)
        await side.ready()
        await side.call.ended()
        self._note("call ended")

    def status(self) -> RoomStatus:
        return RoomStatus(
            room=self.settings.name,
            uri="scripted:",
            area=self.settings.area,
            state=LinkState.CONNECTED if self.connected else LinkState.OFF,
            message="",
            doing="",
            since_seconds=0.0,
            reconnections=0,
            capabilities=self.capabilities,
            heard=is_heard(self),
            muted=self.muted,
            volume=self.volume,
            sounding=Sounding.MEDIA if self.done and self.done[-1] == ("play",) else None,
        )

    async def _play(self, how: str, sound: SharedSound) -> None:
        self._note(how)
        self.heard_bytes = 0
        async for piece in sound:
            self.heard_bytes += len(piece)
        self._note(f"{how} ended")

    def _note(self, *what: object) -> None:
        if not self.connected:
            raise DaemonUnreachable(f"{self.settings.name} is off", code="room-unreachable")
        self.done.append(what)


@dataclass
class House:
    """The parts that tests use."""

    rooms: dict[str, ScriptedHouseRoom]
    engine: ScriptedEngine
    stages: Stages
    bus: RunBus
    announcer: Announcer
    controls: RoomControls
    commands: RoomCommands
    browsers: BrowserRooms

    @asynccontextmanager
    async def wyoming(self) -> AsyncIterator[str]:
        """Serve the port of the command line, and yield its address."""
        server = Server(AllowedNetworks(), Timeouts(), max_connections=10)
        known = {"announce": self.announcer.announce, "room": self.commands.run}

        async def serve(connection: Connection) -> None:
            assert connection.is_local
            await Session(connection, self.stages, self.bus, ALL_STAGES, known).serve()

        try:
            yield f"tcp://127.0.0.1:{await server.listen('127.0.0.1', 0, serve)}"
        finally:
            await server.close()

    @asynccontextmanager
    async def http(self, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
        """Serve HTTP, and yield a client."""
        context = http_context(folder, self.stages, self.bus, self.announcer, self.controls, self.browsers)
        service = HttpService(context)
        try:
            port = await service.start(0)
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_SECONDS) as client:
                yield client
        finally:
            await service.stop()


def http_context(
    folder: Path,
    stages: Stages,
    bus: RunBus,
    announcer: Announcer,
    controls: RoomControls,
    browsers: BrowserRooms,
    **settings: Any,
) -> Context:
    """Return what an HTTP server over these parts needs; nobody asks it for the state of engines."""
    unused: Any = None
    rooms = browsers.hub.status
    status = Status(stages, unused, chat=unused, rooms=rooms, closed_ports=dict, certificate=lambda: None)
    return Context(
        settings=HttpSettings(**settings),
        stages=stages,
        bus=bus,
        status=status,
        store=Store(folder),
        announcer=announcer,
        controls=controls,
        browsers=browsers,
        queues=dict,
        runs=RunHistory(bus, kept=10, transcripts=False),
        rate=RateLimit(1000),
        work=Work(32),
    )


@asynccontextmanager
async def house(*names: str, **hub: Any) -> AsyncIterator[House]:
    """Yield rooms called `names`, with settings of `hub`."""
    engine = ScriptedEngine(tts_seconds=(0.0,))
    stages = scripted_stages(engine, hub=hub)
    bus = RunBus()
    rooms = {name: ScriptedHouseRoom(RoomSettings(name=name)) for name in names}
    context = RoomContext(stages, bus, Arbiter(0.0))
    served = Hub((), context, list(rooms.values()))
    browsers = BrowserRooms(served, context, list)
    sources = MediaSources(lambda: stages.config.hub)
    announcer = Announcer(served, stages, sources)
    intercom = Intercom(served, lambda: stages.config.hub)
    controls = RoomControls(served, announcer, sources, intercom, lambda: stages.config.hub)
    served.start()
    try:
        yield House(rooms, engine, stages, bus, announcer, controls, RoomCommands(controls), browsers)
    finally:
        await controls.close()
        await intercom.close()
        await served.stop()
        await sources.close()
        await stages.background.close()
