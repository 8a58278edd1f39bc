"""All rooms: each is kept going, and announcements are played in several at once."""

import asyncio
from collections.abc import Sequence

from satellite.audio.pcm import AudioFormat
from satellite.config.rooms import HubSettings, WyomingRoomSettings
from satellite.errors import SatelliteError
from satellite.events import RunBus
from satellite.pipeline.stages import Stages
from satellite.rooms.arbitration import Arbiter
from satellite.rooms.playback import Making
from satellite.rooms.room import Room, RoomStatus
from satellite.rooms.wyoming import WyomingRoom
from satellite.skills.timers.scheduler import TimerScheduler
from satellite.tasks import Supervised, end_tasks


class Hub:
    """Keeps every configured satellite connected; one that is broken hurts no other."""

    def __init__(
        self,
        rooms: tuple[WyomingRoomSettings, ...],
        settings: HubSettings,
        stages: Stages,
        bus: RunBus,
        arbiter: Arbiter,
        scheduler: TimerScheduler | None = None,
        others: Sequence[Room] = (),
    ) -> None:
        """Prepare to drive the satellites of `rooms`, in which the timers of `scheduler` ring, and `others`.

        `others` are rooms that are reached in another way; they share `arbiter`.
        """
        self._settings = settings
        self._stages = stages
        self._bus = bus
        self._scheduler = scheduler
        self._arbiter = arbiter
        self._others = list(others)
        self.links = [self._link(room) for room in rooms]
        self._tasks: dict[Room, Supervised] = {}

    def start(self) -> None:
        """Begin to dial all rooms."""
        for link in self.all:
            self._begin(link)

    async def apply(self, rooms: tuple[WyomingRoomSettings, ...], settings: HubSettings) -> None:
        """Drive `rooms` from now on: one that is the same stays connected, the others are let go, and dialled.

        `settings` hold for a room from its next connection on.
        """
        self._settings = settings
        self._arbiter.configure(settings.arbitration_seconds)
        kept = {link.room: link for link in self.links if link.room in rooms}
        gone = [link for link in self.links if link.room not in kept]
        for link in kept.values():
            link.configure(settings)
        self.links = [kept.get(room) or self._link(room) for room in rooms]
        await self._end([self._tasks.pop(link) for link in gone])  # first: a new room may be a satellite of an old one
        for link in self.links:
            if link not in self._tasks:
                self._begin(link)

    @property
    def all(self) -> list[Room]:
        """Return every room."""
        return [*self.links, *self._others]

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

    def status(self) -> list[RoomStatus]:
        """Return the state of every room."""
        return [link.status() for link in self.all]

    def _link(self, room: WyomingRoomSettings) -> WyomingRoom:
        return WyomingRoom(room, self._settings, self._stages, self._bus, self._arbiter, self._scheduler)

    def _begin(self, link: Room) -> None:
        self._tasks[link] = self._stages.background.run(f"room {link.room.name}", link.run)

    async def _end(self, links: list[Supervised]) -> None:
        await end_tasks(*(link.task for link in links))
