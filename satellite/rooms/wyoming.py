"""The daemon's connection to one satellite, kept for as long as both live."""

import asyncio
import logging
import time
from contextlib import suppress
from typing import Any

from wyoming.event import Event
from wyoming.info import Describe
from wyoming.ping import Ping, Pong
from wyoming.satellite import PauseSatellite, RunSatellite

from satellite.audio.pcm import AudioFormat
from satellite.backoff import Backoff
from satellite.config.rooms import HubSettings, WyomingRoomSettings
from satellite.errors import DaemonUnreachable, ProtocolError, SatelliteError
from satellite.events import RunBus
from satellite.pipeline.stages import Stages
from satellite.rooms.arbitration import Arbiter
from satellite.rooms.playback import Making
from satellite.rooms.room import LinkState, Reachability, RoomStatus
from satellite.rooms.wyoming_device import WyomingDevice
from satellite.skills.timers.scheduler import TimerScheduler
from satellite.tasks import Supervised, end_tasks
from satellite.wire.connection import Connection, Timeouts, dial
from satellite.wire.parsing import Faults

_LOGGER = logging.getLogger(__name__)

_PING_SECONDS = 2.0
_DEAD_SECONDS = 5.0
"""Home Assistant's figures (components/wyoming/assist_satellite.py): satellites are made for them."""

_FIRST_BACKOFF_SECONDS = 0.5
_LONGEST_BACKOFF_SECONDS = 30.0
_GOODBYE_SECONDS = 1.0
_FORGETFUL_SECONDS = 60.0
"""How long a satellite may take to notice that it has lost us, and turn us away as a second server."""


class WyomingRoom(Reachability):
    """One room: `run` it for as long as the daemon serves."""

    def __init__(
        self,
        room: WyomingRoomSettings,
        settings: HubSettings,
        stages: Stages,
        bus: RunBus,
        arbiter: Arbiter,
        scheduler: TimerScheduler | None = None,
    ) -> None:
        """Prepare to drive a room; the timers of `scheduler` that belong there ring there."""
        super().__init__(room, f"{room.name} is being dialled")
        self._uri = room.uri
        self._settings = settings
        self._stages = stages
        self._bus = bus
        self._arbiter = arbiter
        self._scheduler = scheduler
        self._faults = Faults()
        self._timers: Supervised | None = None
        self._device: WyomingDevice | None = None
        self._heartbeat: Ping | Describe = Ping()
        self._ours_until = float("-inf")
        self._backoff = Backoff(_FIRST_BACKOFF_SECONDS, _LONGEST_BACKOFF_SECONDS)

    async def run(self) -> None:
        """Keep the satellite connected until cancelled; then let it go, so that another server may have it."""
        while True:
            try:
                await self._connected_once()
            except (SatelliteError, ConnectionError) as error:
                if not isinstance(error, DaemonUnreachable):
                    self.become(LinkState.OFF, f"{self.room.name} is gone: {error}; it is dialled again")
            except Exception:
                self.become(LinkState.OFF, f"{self.room.name}: an unexpected failure, see the log")
                raise
            await asyncio.sleep(self._backoff.next())

    def configure(self, settings: HubSettings) -> None:
        """Take settings, which hold from the next connection on."""
        self._settings = settings

    async def announce(self, source: AudioFormat, pcm: bytes, more: Making | None = None) -> None:
        """Play `pcm` in the room, then `more`. Raises `DaemonUnreachable` when it is not connected."""
        if self._device is None:
            raise DaemonUnreachable(self.words, code="room-unreachable")
        await self._device.conversation.announce(source, pcm, more)

    def status(self) -> RoomStatus:
        """Return its present state."""
        return RoomStatus(
            room=self.room.name,
            uri=self._uri,
            area=self.room.area,
            state=self.state,
            words=self.words,
            doing=self._device.conversation.activity if self._device else "",
            since_seconds=round(time.monotonic() - self.since, 1),
            reconnections=self.reconnections,
        )

    async def _connected_once(self) -> None:
        """Dial, and serve the satellite until one of both leaves."""
        try:
            connection = await dial(self._uri, Timeouts(idle_seconds=_DEAD_SECONDS))
        except DaemonUnreachable as error:
            there = isinstance(error.__cause__, ConnectionRefusedError)
            hint = "the machine is on, its satellite is not running" if there else "is it switched on?"
            self.become(LinkState.OFF, f"{self.room.name}: {error}; {hint}")
            raise
        device = WyomingDevice(
            connection, self._stages, self._bus, self.room, self._settings, self._arbiter, self._scheduler
        )
        pings = self._stages.background.run(f"ping {self.room.name}", lambda: self._ping(connection))
        try:
            await self._serve(connection, device)
        finally:
            try:
                await self._let_go(connection, device, pings)
            finally:
                connection.abort()  # also when that is cut short

    async def _let_go(self, connection: Connection, device: WyomingDevice, pings: Supervised) -> None:
        tasks = [pings.task, *([self._timers.task] if self._timers else [])]
        for task in tasks:  # before anything is awaited: the room may end in the middle of this
            task.cancel()
        if self._device is not None:
            self._ours_until = time.monotonic()
        self._device = self._timers = None
        await device.close()
        await end_tasks(*tasks)
        with suppress(ConnectionError, ProtocolError, TimeoutError):
            async with asyncio.timeout(_GOODBYE_SECONDS):
                await connection.send(PauseSatellite())
        await connection.close()

    async def _serve(self, connection: Connection, device: WyomingDevice) -> None:
        described = claimed = False
        await connection.send(Describe())
        try:
            async for event in connection:
                if event.type == "info" and not described:
                    described = True
                    satellite = event.data.get("satellite")
                    if not isinstance(satellite, dict):
                        self.become(LinkState.NO_SATELLITE, f"{self._uri} is no satellite; is the port right?")
                        return
                    self._heartbeat = _heartbeat(satellite)
                    await connection.send(RunSatellite(), self._heartbeat)
                elif event.type == "ping":
                    text = event.data.get("text")
                    await connection.send(Pong(text=text if isinstance(text, str) else None))
                elif event.type != "info" or isinstance(self._heartbeat, Describe):
                    if not claimed:
                        claimed = True
                        self._welcome(device)
                    await self._take(device, event)
        except ProtocolError as error:
            if claimed or not described or error.code != "protocol-timeout":
                raise
        self._note_end(described=described, claimed=claimed)

    async def _take(self, device: WyomingDevice, event: Event) -> None:
        """Hand an event on; one that makes no sense costs a line in the log."""
        try:
            await device.take(event)
        except ProtocolError as error:
            level = self._faults.level(logging.WARNING)
            _LOGGER.log(level, "room %s: %s", self.room.name, error, extra={"room": self.room.name})

    async def _ping(self, connection: Connection) -> None:
        """Make sure that something is to be heard of a satellite that lives, also while sound plays."""
        with suppress(ConnectionError, ProtocolError):
            while True:
                await asyncio.sleep(_PING_SECONDS)
                if self.state is LinkState.CONNECTED:
                    await connection.send(self._heartbeat)

    def _welcome(self, device: WyomingDevice) -> None:
        self._device = device
        self.reconnections += self._ours_until > float("-inf")
        if device.ringing is not None:
            self._timers = self._stages.background.run(f"timers {self.room.name}", device.ringing.run)
        self._backoff.reset()
        self.become(LinkState.CONNECTED, f"{self.room.name} is connected")

    def _note_end(self, *, described: bool, claimed: bool) -> None:
        """Tell what the end of a connection means: who describes himself, but takes no orders, has another master."""
        if claimed:
            self.become(LinkState.OFF, f"{self.room.name} has hung up; it is dialled again")
        elif described and time.monotonic() - self._ours_until < _FORGETFUL_SECONDS:
            self.become(LinkState.OFF, f"{self.room.name} clings to the connection that was lost; it is dialled again")
        elif described:
            self.become(
                LinkState.HELD,
                f"{self.room.name} belongs to another server, such as Home Assistant: remove it there, or here",
            )
        else:
            self.become(LinkState.OFF, f"{self.room.name} hung up at once")


def _heartbeat(satellite: dict[str, Any]) -> Ping | Describe:
    """Return what a satellite that lives answers; wyoming-satellite 1.0 tells no version and knows no `ping`."""
    return Ping() if satellite.get("version") is not None else Describe()
