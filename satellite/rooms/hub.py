"""All rooms: each is kept connected, and announcements are played in several at once."""

import asyncio
from collections.abc import Sequence

from satellite.config.rooms import DialledRoomSettings, EsphomeRoomSettings, RoomSettings
from satellite.errors import SatelliteError, shown
from satellite.rooms.device import RoomContext
from satellite.rooms.esphome.esphome_room import EsphomeRoom
from satellite.rooms.esphome.incoming import IncomingDevices
from satellite.rooms.esphome.mdns import SharedMdns
from satellite.rooms.playback import SharedSound
from satellite.rooms.room import Room, RoomStatus, is_heard, why_silent
from satellite.rooms.wyoming import WyomingRoom
from satellite.tasks import Supervised, end_tasks


class Hub:
    """Keeps every configured satellite connected; one that is broken hurts no other."""

    def __init__(
        self,
        rooms: Sequence[RoomSettings],
        context: RoomContext,
        others: Sequence[Room] = (),
        incoming: IncomingDevices | None = None,
    ) -> None:
        """Prepare to drive the satellites of `rooms`, and `others`, rooms of another transport.

        ESPHome devices may dial `incoming`.
        """
        self._context = context
        self._incoming = incoming
        self._mdns = SharedMdns()
        self._others = list(others)
        self.satellites = [self._room(one) for one in _dialled(rooms)]
        self._tasks: dict[Room, Supervised] = {}
        self._started = False

    @property
    def rooms(self) -> list[Room]:
        """Return every room."""
        return [*self.satellites, *self._others]

    def room(self, name: str) -> Room:
        """Return the room called `name`. Raises `SatelliteError` (`unknown-room`) if there is none."""
        known = {room.settings.name: room for room in self.rooms}
        if name not in known:
            there = f"there are: {', '.join(known)}" if known else "there are none"
            raise SatelliteError(f"there is no room '{shown(name)}'; {there}", code="unknown-room")
        return known[name]

    def add(self, room: Room) -> None:
        """Keep a room that comes by itself, such as a browser. Raises `SatelliteError` if its name is taken."""
        name = room.settings.name
        if any(other.settings.name == name for other in self.rooms):
            raise SatelliteError(f"there is a room '{shown(name)}' already", code="room-name-taken")
        self._others.append(room)
        if self._started:
            self._begin(room)

    async def remove(self, room: Room) -> None:
        """Let a room go that was added; may be called twice."""
        if room in self._others:
            self._others.remove(room)
        if (task := self._tasks.pop(room, None)) is not None:
            await end_tasks(task.task)

    def start(self) -> None:
        """Begin to connect all rooms."""
        self._started = True
        for room in self.rooms:
            self._begin(room)

    async def apply(self, rooms: Sequence[RoomSettings]) -> None:
        """Drive the satellites of `rooms` from now on: one whose settings are the same stays connected."""
        self._context.arbiter.configure(self._context.stages.config.hub.arbitration_seconds)
        kept = {room.settings: room for room in self.satellites if room.settings in rooms}
        gone = [room for room in self.satellites if room.settings not in kept]
        self.satellites = [kept.get(one) or self._room(one) for one in _dialled(rooms)]
        # Before the new rooms are connected: one of them may be the same satellite by another name.
        await end_tasks(*(self._tasks.pop(room).task for room in gone))
        for satellite in self.satellites:
            if satellite not in self._tasks:
                self._begin(satellite)

    async def stop(self) -> None:
        """Let all rooms go; may be called twice."""
        self._started = False
        tasks, self._tasks = self._tasks, {}
        await end_tasks(*(task.task for task in tasks.values()))

    async def announce(self, names: list[str], sound: SharedSound) -> dict[str, str]:
        """Play a sound in the rooms called `names`, all if none; return why it was not heard, by room."""
        wanted = [room for room in self.rooms if not names or room.settings.name in names]
        # Not a task group, which would silence the others when one room fails.
        results = await asyncio.gather(*(_announce(room, sound) for room in wanted), return_exceptions=True)
        failed: dict[str, str] = {}
        for room, result in zip(wanted, results, strict=True):
            if isinstance(result, (SatelliteError, ConnectionError)):
                failed[room.settings.name] = str(result).removeprefix(f"{room.settings.name}: ")
            elif result is not None:
                raise result
        return failed

    def status(self) -> list[RoomStatus]:
        """Return the state of every room."""
        return [room.status() for room in self.rooms]

    def _room(self, settings: DialledRoomSettings) -> WyomingRoom | EsphomeRoom:
        if isinstance(settings, EsphomeRoomSettings):
            return EsphomeRoom(settings, self._context, self._incoming, self._mdns)
        return WyomingRoom(settings, self._context)

    def _begin(self, room: Room) -> None:
        self._tasks[room] = self._context.stages.background.run(f"room {room.settings.name}", room.run)


def _dialled(rooms: Sequence[RoomSettings]) -> list[DialledRoomSettings]:
    """Return the rooms that are connected to from here; browsers come by themselves."""
    return [room for room in rooms if isinstance(room, DialledRoomSettings)]


async def _announce(room: Room, sound: SharedSound) -> None:
    if not is_heard(room):
        raise SatelliteError(why_silent(room), code="room-unreachable")
    await room.announce(sound)
