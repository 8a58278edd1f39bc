"""A Wyoming satellite as a room: the daemon dials it, and dials again whenever the connection is lost."""

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import suppress

from wyoming.event import Event
from wyoming.info import Describe
from wyoming.ping import Ping, Pong
from wyoming.satellite import PauseSatellite, RunSatellite

from satellite.backoff import Backoff
from satellite.config.rooms import WyomingRoomSettings
from satellite.errors import DaemonUnreachable, ProtocolError, SatelliteError
from satellite.rooms.conversation import Conversation
from satellite.rooms.device import RoomContext
from satellite.rooms.room import BaseRoom, LinkState
from satellite.rooms.wyoming_device import WyomingDevice
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
_STEADY_SECONDS = 5.0
"""A satellite that stays connected for so long is no longer dialled more and more slowly."""

_FORGETFUL_SECONDS = 60.0
"""How long a satellite may take to notice that it has lost us, and turn us away as a second server."""


class WyomingRoom(BaseRoom):
    """One satellite: `run` it for as long as the daemon serves."""

    capabilities = WyomingDevice.capabilities

    def __init__(self, settings: WyomingRoomSettings, context: RoomContext) -> None:
        super().__init__(settings, settings.uri, "being dialled")
        self._context = context
        self._faults = Faults()
        self._timers: Supervised | None = None
        self._device: WyomingDevice | None = None
        self._heartbeat: Ping | Describe = Ping()
        self._ours_until = float("-inf")
        """When the latest connection ended that the satellite had accepted, by `time.monotonic`."""

        self._backoff = Backoff(_FIRST_BACKOFF_SECONDS, _LONGEST_BACKOFF_SECONDS)

    async def run(self) -> None:
        """Keep the satellite connected until cancelled; then let it go, so that another server may have it."""
        while True:
            await self._connected_once()
            await asyncio.sleep(self._backoff.next())

    @property
    def current(self) -> Conversation | None:
        """Return the conversation with the satellite while it is connected."""
        return None if self._device is None else self._device.conversation

    def _doing(self) -> str:
        return self._device.conversation.activity if self._device else ""

    async def _connected_once(self) -> None:
        """Dial, and serve the satellite until the connection ends."""
        try:
            connection = await dial(self._uri, Timeouts(idle_seconds=_DEAD_SECONDS))
        except DaemonUnreachable as error:
            there = isinstance(error.__cause__, ConnectionRefusedError)
            hint = "the machine is on, its satellite is not running" if there else "is it switched on?"
            self.become(LinkState.OFF, f"{error}; {hint}")
            return
        device = WyomingDevice(connection, self.settings, self._context, self.modes)
        pings = self._context.stages.background.run(f"ping {self.settings.name}", lambda: self._ping(connection))
        began = time.monotonic()
        try:
            await self._serve(connection, device)
        except (SatelliteError, ConnectionError) as error:
            self.become(LinkState.OFF, f"gone: {error}; it is dialled again")
        finally:
            if self._device is not None and time.monotonic() - began >= _STEADY_SECONDS:
                self._backoff.reset()
            try:
                await self._let_go(connection, device, pings)
            finally:
                connection.abort()  # also when saying goodbye was cancelled

    async def _let_go(self, connection: Connection, device: WyomingDevice, pings: Supervised) -> None:
        tasks = [pings.task, *([self._timers.task] if self._timers else [])]
        # Before anything is awaited: this room may be cancelled in the middle of it, and they must not outlive it.
        for task in tasks:
            task.cancel()
        if self._device is not None:
            self._ours_until = time.monotonic()
        if self.state is LinkState.CONNECTED:  # cancelled, or failed: then the supervisor of this task logs it
            self.become(LinkState.OFF, "disconnected; the log says why", log=False)
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
                    device.described(satellite)
                    self._heartbeat = _heartbeat(satellite)
                    await connection.send(RunSatellite(), self._heartbeat)
                elif event.type == "ping":
                    text = event.data.get("text")
                    await connection.send(Pong(text=text if isinstance(text, str) else None))
                elif event.type != "info" or isinstance(self._heartbeat, Describe):
                    # Only now it is ours: one that another server has describes itself, and then hangs up or is silent.
                    if not claimed:
                        claimed = True
                        await self._welcome(device)
                    await self._take(device, event)
        except ProtocolError as error:
            # Silence after `info` is how a satellite on Python before 3.13 turns a second server away.
            if claimed or not described or error.code != "protocol-timeout":
                raise
        self._note_end(described=described, claimed=claimed)

    async def _take(self, device: WyomingDevice, event: Event) -> None:
        """Hand an event on; one that makes no sense costs a line in the log."""
        try:
            await device.take(event)
        except ProtocolError as error:
            level = self._faults.level(logging.WARNING)
            _LOGGER.log(level, "room %s: %s", self.settings.name, error, extra={"room": self.settings.name})

    async def _ping(self, connection: Connection) -> None:
        """Keep a satellite answering, also while it only plays: one that sends nothing for 5 s counts as lost."""
        with suppress(ConnectionError, ProtocolError):
            while True:
                await asyncio.sleep(_PING_SECONDS)
                if self.state is LinkState.CONNECTED:
                    await connection.send(self._heartbeat)

    async def _welcome(self, device: WyomingDevice) -> None:
        self._device = device
        self.reconnections += self._ours_until > float("-inf")
        if (ringing := device.conversation.ringing) is not None:
            self._timers = self._context.stages.background.run(f"timers {self.settings.name}", ringing.run)
        await device.conversation.restore()
        self.become(LinkState.CONNECTED, "connected")

    def _note_end(self, *, described: bool, claimed: bool) -> None:
        """Report the end of a connection; a satellite that describes itself and ends it there has another server."""
        if claimed:
            self.become(LinkState.OFF, "it has hung up, and is dialled again")
        elif described and time.monotonic() - self._ours_until < _FORGETFUL_SECONDS:
            self.become(LinkState.OFF, "it still holds the lost connection, and is dialled again")
        elif described:
            self.become(
                LinkState.HELD,
                "it belongs to another server, such as Home Assistant: remove it there, or here",
            )
        else:
            self.become(LinkState.OFF, "it hung up at once")


def _heartbeat(satellite: Mapping[str, object]) -> Ping | Describe:
    """Return what keeps a satellite answering: wyoming-satellite 1.0, which tells no version, knows no `ping`."""
    return Ping() if satellite.get("version") is not None else Describe()
