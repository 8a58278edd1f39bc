"""The timers of a server that controls the room: the server keeps them, and they ring here as the room's own do."""

import asyncio
import logging
import time

from wyoming.event import Event
from wyoming.timer import TimerFinished, TimerStarted

from satellite.errors import SatelliteError
from satellite.pipeline.stages import Stages
from satellite.rooms.host.host_room import HostRoom
from satellite.rooms.playback import SharedSound
from satellite.rooms.ringing import PAUSE_SECONDS, ring
from satellite.skills.timers.timers import MOST, RING_SECONDS, Duration, Timer
from satellite.skills.timers.wording import ended
from satellite.tasks import begin_task, end_tasks

_LOGGER = logging.getLogger(__name__)

_LONGEST_NAME = 200


class RemoteTimers:
    """Rings for those that have ended, until `silence` or for as long as the room's own timers do."""

    def __init__(self, room: HostRoom, stages: Stages) -> None:
        """Ring in `room`, as an announcement."""
        self._room = room
        self._stages = stages
        self._names: dict[str, str] = {}
        self._ended: dict[str, str] = {}
        """What rings: the text that is spoken, by the timer's id."""

        self._ring: asyncio.Task[None] | None = None

    def take(self, event: Event) -> None:
        """Take what has happened to a timer."""
        if TimerStarted.is_type(event.type):
            started = TimerStarted.from_event(event)
            while len(self._names) >= MOST:  # a server may start timers without end, and finish none
                del self._names[next(iter(self._names))]
            self._names[started.id] = str(started.name or "")[:_LONGEST_NAME]
        elif TimerFinished.is_type(event.type):
            self._finish(TimerFinished.from_event(event).id)
        elif event.type == "timer-cancelled":
            self._names.pop(str(event.data.get("id")), None)

    @property
    def ringing(self) -> bool:
        """Whether it rings, also between one ring and the next."""
        return bool(self._ended)

    def silence(self) -> None:
        """Be silent, since somebody speaks with the room."""
        self._ended.clear()
        if self._ring is not None:
            self._ring.cancel()

    async def close(self) -> None:
        """Fall silent; may be called twice."""
        self.silence()
        if self._ring is not None:
            await end_tasks(self._ring)

    def _finish(self, id_: str) -> None:
        if len(self._ended) >= MOST:
            return
        room = self._room.settings
        name, language = self._names.pop(id_, None) or None, self._language
        timer = Timer(id_, room.name, Duration(), ends_at=0.0, total_seconds=0, name=name, language=language)
        self._ended[id_] = ended(timer, late=False)
        if self._ring is None or self._ring.done():
            self._ring = begin_task(self._rings(), f"ring {room.name}")

    @property
    def _language(self) -> str | None:
        return self._room.settings.language or next(iter(self._stages.config.spoken_languages), None)

    async def _rings(self) -> None:
        until = time.monotonic() + RING_SECONDS
        await ring(
            self._stages,
            self._room.settings,
            lambda: (" ".join(self._ended.values()) if time.monotonic() < until else "", self._language),
            self._ring_once,
        )
        self._ended.clear()

    async def _ring_once(self, sound: SharedSound) -> float:
        try:
            await self._room.conversation.ring(sound)
        except SatelliteError as error:
            name = self._room.settings.name
            _LOGGER.debug("room %s: a timer could not ring: %s", name, error, extra={"room": name})
        return PAUSE_SECONDS
