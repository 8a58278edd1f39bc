"""All rooms of the house."""

import asyncio
from typing import Any, Protocol

from satellite.audio.pcm import AudioFormat
from satellite.config.rooms import Hub as HubSettings
from satellite.config.rooms import Place, Room
from satellite.errors import SatelliteError
from satellite.events import EventBus
from satellite.pipeline.stages import Stages
from satellite.rooms.arbitration import Arbiter
from satellite.rooms.playback import Making
from satellite.rooms.wyoming import RoomLink
from satellite.skills.timers.clock import Clockwork
from satellite.tasks import Supervised, end_tasks


class Link(Protocol):
    """A room, however it is reached."""

    @property
    def room(self) -> Place:
        """Return what is configured for it."""

    async def run(self) -> None:
        """Keep it going until cancelled."""

    async def announce(self, source: AudioFormat, pcm: bytes, more: Making | None = None) -> None:
        """Play `pcm` in the room, and `more` behind it. Raises `SatelliteError` when that cannot be."""

    def described(self) -> dict[str, Any]:
        """Return its state, fit for JSON."""


class Hub:
    """Keeps every configured satellite connected; one that is broken hurts no other."""

    def __init__(
        self,
        rooms: tuple[Room, ...],
        settings: HubSettings,
        stages: Stages,
        bus: EventBus,
        clockwork: Clockwork | None = None,
    ) -> None:
        """Prepare to drive `rooms`, in which the timers of `clockwork` ring."""
        self._settings = settings
        self._stages = stages
        self._bus = bus
        self._clockwork = clockwork
        self.arbiter = Arbiter(settings.arbitration_seconds)
        self.links = [self._link(room) for room in rooms]
        self.others: list[Link] = []
        """Rooms that are reached in another way; to be filled before the start."""

        self._tasks: dict[Link, Supervised] = {}

    def start(self) -> None:
        """Begin to dial all rooms."""
        for link in self.all:
            self._begin(link)

    async def apply(self, rooms: tuple[Room, ...], settings: HubSettings) -> None:
        """Drive `rooms` from now on: one that is the same stays connected, the others are let go, and dialled.

        `settings` hold for a room from its next connection on.
        """
        self._settings = settings
        self.arbiter.window_seconds = settings.arbitration_seconds
        kept = {link.room: link for link in self.links if link.room in rooms}
        gone = [link for link in self.links if link.room not in kept]
        for link in kept.values():
            link.hub = settings
        self.links = [kept.get(room) or self._link(room) for room in rooms]
        await self._end([self._tasks.pop(link) for link in gone])  # first: a new room may be a satellite of an old one
        for link in self.links:
            if link not in self._tasks:
                self._begin(link)

    @property
    def all(self) -> list[Link]:
        """Return every room."""
        return [*self.links, *self.others]

    async def stop(self) -> None:
        """Let all rooms go; may be called twice."""
        tasks, self._tasks = self._tasks, {}
        await self._end(list(tasks.values()))

    async def announce(
        self, names: list[str], source: AudioFormat, pcm: bytes, more: Making | None = None
    ) -> dict[str, str]:
        """Play `pcm`, and `more`, in the rooms called `names`, all if none; return why it was not heard, by room."""
        wanted = [link for link in self.all if not names or link.room.name in names]
        results = await asyncio.gather(*(link.announce(source, pcm, more) for link in wanted), return_exceptions=True)
        failed: dict[str, str] = {}
        for link, result in zip(wanted, results, strict=True):
            if isinstance(result, (SatelliteError, ConnectionError)):
                failed[link.room.name] = str(result).removeprefix(f"{link.room.name}: ")
            elif result is not None:
                raise result
        return failed

    def described(self) -> list[dict[str, Any]]:
        """Return the state of every room, fit for JSON."""
        return [link.described() for link in self.all]

    def _link(self, room: Room) -> RoomLink:
        return RoomLink(room, self._settings, self._stages, self._bus, self.arbiter, self._clockwork)

    def _begin(self, link: Link) -> None:
        self._tasks[link] = self._stages.background.run(f"room {link.room.name}", link.run)

    async def _end(self, links: list[Supervised]) -> None:
        await end_tasks(*(link.task for link in links))
