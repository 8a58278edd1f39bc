"""The host's own room as a Wyoming satellite, which Home Assistant dials and drives.

It does what wyoming-satellite 1.4.1 does with a local wake word, but for what is noted here: an answer is silenced by
the wake word; it stops streaming when the server forgets to end the run; a server that has died is let go.
"""

import asyncio
import logging
import time
from contextlib import suppress
from typing import Any

from wyoming.audio import AudioFormat as WyomingFormat
from wyoming.event import Event
from wyoming.info import Info, MicProgram, Satellite, SndProgram
from wyoming.ping import Ping, Pong

from satellite import __version__
from satellite.audio.pcm import CANONICAL, AudioFormat
from satellite.config.host import HomeAssistantSatelliteSettings
from satellite.errors import ProtocolError, SatelliteError, Stage
from satellite.pipeline.stages import Stages
from satellite.rooms.host.host_room import HostRoom
from satellite.rooms.host.remote_control import SND_FORMAT, HomeAssistantController
from satellite.services.info import OURS, describe
from satellite.tasks import Supervised
from satellite.wire.connection import Connection
from satellite.wire.parsing import parsed

_LOGGER = logging.getLogger(__name__)

_PING_SECONDS = 2.0
_DEAD_SECONDS = 5.0
"""A server that has pinged once, and of whom nothing is heard for so long, is dead (as in wyoming-satellite)."""


class SatelliteService:
    """The port that Home Assistant dials; one server has the room, others are turned away."""

    def __init__(self, room: HostRoom, stages: Stages, settings: HomeAssistantSatelliteSettings) -> None:
        self._room = room
        self._stages = stages
        self._settings = settings
        self._owner: Connection | None = None
        self._refused = False
        self._pings = False
        """Whether the owner pings, or answers pings: one that does must go on doing so."""

    async def serve(self, connection: Connection) -> None:
        """Serve one connection. The first event but `describe` makes its sender the owner, until it leaves."""
        controller = HomeAssistantController(connection, self._room, self._stages, self._settings)
        watch: Supervised | None = None
        try:
            async for event in connection:
                if event.type == "describe":
                    await connection.send(self._info())
                    continue
                if self._owner is None:
                    self._owner, self._pings = connection, False
                    watch = self._stages.background.run(
                        f"ping {self._name}", lambda: self._ping(connection, controller)
                    )
                elif self._owner is not connection:
                    self._refuse(connection)
                    return
                self._pings = self._pings or event.type in ("ping", "pong")
                await self._take(connection, controller, event)
        finally:
            if watch is not None:
                await watch.stop()
            if self._owner is connection:
                self._owner = None
                self._refused = False
            await controller.close()

    async def _take(self, connection: Connection, controller: HomeAssistantController, event: Event) -> None:
        try:
            if event.type == "ping":
                await connection.send(Pong(text=parsed(Ping.from_event, event).text))
            elif event.type != "pong":
                await controller.take(event)
        except SatelliteError as error:
            _LOGGER.log(controller.faults.level(logging.WARNING), "%s: %s", connection.peer, error)

    def _refuse(self, connection: Connection) -> None:
        """Turn a second server away, as wyoming-satellite does; a warning for the first, however often it tries."""
        assert self._owner is not None
        _LOGGER.log(
            logging.DEBUG if self._refused else logging.WARNING,
            "%s is turned away: room %s is controlled by %s already",
            connection.peer,
            self._room.settings.name,
            self._owner.peer,
            extra={"room": self._room.settings.name},
        )
        self._refused = True

    async def _ping(self, connection: Connection, controller: HomeAssistantController) -> None:
        """Notice a server that has died.

        One that has muted the room reads nothing: it would be lost with the pings, and the room would hear again.
        """
        with suppress(ConnectionError, ProtocolError):
            while True:
                await asyncio.sleep(_PING_SECONDS)
                if controller.muted:
                    continue
                if self._pings and time.monotonic() - connection.last_event_at > _DEAD_SECONDS:
                    _LOGGER.warning(
                        "%s no longer answers; room %s goes on without it",
                        connection.peer,
                        self._name,
                        extra={"room": self._name},
                    )
                    break
                await connection.send(Ping())
        connection.abort()

    @property
    def _name(self) -> str:
        return self._settings.name or self._room.settings.name

    def _info(self) -> Info:
        room = self._room.settings
        info = describe(self._stages.engines, frozenset({Stage.WAKE}))
        info.wake = info.wake[:1]  # the one that listens here
        common: dict[str, Any] = {"attribution": OURS, "installed": True, "version": __version__}
        info.satellite = Satellite(
            name=self._name,
            description=f"{self._name}, the room of the host of satellite",
            area=self._settings.area or room.area,
            has_vad=False,
            active_wake_words=list(room.wake_words or self._stages.config.wake.words),
            max_active_wake_words=len(info.wake[0].models),
            supports_trigger=False,
            **common,
        )
        info.mic = [MicProgram(name="mic", description="microphone", mic_format=_layout(CANONICAL), **common)]
        if self._room.capabilities.speaker:
            info.snd = [SndProgram(name="snd", description="speaker", snd_format=_layout(SND_FORMAT), **common)]
        return info


def _layout(layout: AudioFormat) -> WyomingFormat:
    return WyomingFormat(layout.rate, layout.width, layout.channels)
