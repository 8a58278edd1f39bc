"""All rooms of the house."""

import asyncio
from typing import Any

from satellite.audio import AudioFormat
from satellite.config_rooms import Hub as HubSettings
from satellite.config_rooms import Room
from satellite.errors import SatelliteError
from satellite.events import EventBus
from satellite.rooms.arbitration import Arbiter
from satellite.rooms.link import RoomLink
from satellite.turn.stages import Stages


class Hub:
    """Keeps every configured satellite connected; one that is broken hurts no other."""

    def __init__(self, rooms: tuple[Room, ...], settings: HubSettings, stages: Stages, bus: EventBus) -> None:
        arbiter = Arbiter(settings.arbitration_seconds)
        self.links = [RoomLink(room, settings, stages, bus, arbiter) for room in rooms]
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to dial all rooms."""
        self._tasks = [asyncio.create_task(link.run(), name=f"link {link.room.name}") for link in self.links]

    async def stop(self) -> None:
        """Let all rooms go; may be called twice."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def announce(self, names: list[str], source: AudioFormat, pcm: bytes) -> dict[str, str]:
        """Play `pcm` in the rooms called `names`, all if there are none; return why it was not heard, by room."""
        wanted = [link for link in self.links if not names or link.room.name in names]
        results = await asyncio.gather(*(link.announce(source, pcm) for link in wanted), return_exceptions=True)
        failed: dict[str, str] = {}
        for link, result in zip(wanted, results, strict=True):
            if isinstance(result, (SatelliteError, ConnectionError)):
                failed[link.room.name] = str(result)
            elif result is not None:
                raise result
        return failed

    def described(self) -> list[dict[str, Any]]:
        """Return the state of every room, fit for JSON."""
        return [link.described() for link in self.links]
