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
from satellite.config.settings import Config
from satellite.errors import ProtocolError, SatelliteError, Stage
from satellite.pipeline.stages import Stages
from satellite.rooms.host.remote_control import LONGEST_STREAM_SECONDS, SND_FORMAT, HomeAssistantGuest
from satellite.rooms.host.room import LocalRoom
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

    def __init__(
        self,
        room: LocalRoom,
        stages: Stages,
        config: Config,
        *,
        longest_stream_seconds: float = LONGEST_STREAM_SECONDS,
    ) -> None:
        """Serve `room`; a command that the server has not ended after `longest_stream_seconds` is over."""
        self._room = room
        self._stages = stages
        self._config = config
        self._longest_stream_seconds = longest_stream_seconds
        self._owner: Connection | None = None
        self._refused = False

    async def serve(self, connection: Connection) -> None:
        """Serve one connection. The first event but `describe` makes its sender the owner, until it leaves."""
        guest = HomeAssistantGuest(connection, self._room, self._stages, self._config, self._longest_stream_seconds)
        pings: Supervised | None = None
        try:
            async for event in connection:
                if event.type == "describe":
                    await connection.send(self._info())
                    continue
                if self._owner is None:
                    self._owner = connection
                    pings = self._stages.background.run(f"ping {self._name}", lambda: self._ping(connection, guest))
                elif self._owner is not connection:
                    self._refuse(connection)
                    return
                guest.pings = guest.pings or event.type in ("ping", "pong")
                await self._take(connection, guest, event)
        finally:
            if pings is not None:
                await pings.stop()
            if self._owner is connection:
                self._owner = None
                self._refused = False
            await guest.close()

    async def _take(self, connection: Connection, guest: HomeAssistantGuest, event: Event) -> None:
        try:
            if event.type == "ping":
                await connection.send(Pong(text=parsed(Ping.from_event, event).text))
            elif event.type != "pong":
                await guest.take(event)
        except SatelliteError as error:
            _LOGGER.log(guest.faults.level(logging.WARNING), "%s: %s", connection.peer, error)

    def _refuse(self, connection: Connection) -> None:
        """Turn a second server away, as wyoming-satellite does; told once."""
        assert self._owner is not None
        _LOGGER.log(
            logging.DEBUG if self._refused else logging.WARNING,
            "%s wants to drive room %s, but %s does already; it is turned away",
            connection.peer,
            self._room.room.name,
            self._owner.peer,
            extra={"room": self._room.room.name},
        )
        self._refused = True

    async def _ping(self, connection: Connection, guest: HomeAssistantGuest) -> None:
        """Notice a server that has died.

        One that has muted the room reads nothing: it would be lost with the pings, and the room would hear again.
        """
        with suppress(ConnectionError, ProtocolError):
            while True:
                await asyncio.sleep(_PING_SECONDS)
                if guest.muted:
                    continue
                if guest.pings and time.monotonic() - connection.last_event_at > _DEAD_SECONDS:
                    _LOGGER.warning(
                        "%s says nothing any more; room %s goes on alone",
                        connection.peer,
                        self._name,
                        extra={"room": self._name},
                    )
                    break
                await connection.send(Ping())
        connection.abort()

    @property
    def _name(self) -> str:
        return self._config.home_assistant_satellite.name or self._room.room.name

    def _info(self) -> Info:
        room = self._room.room
        info = describe(self._stages.engines, frozenset({Stage.WAKE}))
        info.wake = info.wake[:1]  # the one that listens here
        common: dict[str, Any] = {"attribution": OURS, "installed": True, "version": __version__}
        info.satellite = Satellite(
            name=self._name,
            description=f"{self._name}, the room of the host of satellite",
            area=self._config.home_assistant_satellite.area or room.area,
            has_vad=False,
            active_wake_words=list(room.wake_words or self._config.wake.words),
            max_active_wake_words=len(info.wake[0].models),
            supports_trigger=False,
            **common,
        )
        info.mic = [MicProgram(name="mic", description="microphone", mic_format=_layout(CANONICAL), **common)]
        if self._room.speaker is not None:
            info.snd = [SndProgram(name="snd", description="speaker", snd_format=_layout(SND_FORMAT), **common)]
        return info


def _layout(layout: AudioFormat) -> WyomingFormat:
    return WyomingFormat(layout.rate, layout.width, layout.channels)
