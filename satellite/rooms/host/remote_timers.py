"""The timers of a server that drives the room: it keeps them, and they ring here as the room's own do."""

import asyncio
import time
from collections.abc import Callable

from wyoming.event import Event
from wyoming.timer import TimerFinished, TimerStarted

from satellite.pipeline.stages import Stages
from satellite.rooms.host.room import LocalRoom
from satellite.rooms.ringing import PAUSE_SECONDS, ring_sound
from satellite.skills.timers.timer import Duration, Timer
from satellite.skills.timers.timers import MOST, RING_SECONDS
from satellite.skills.timers.wording import ended
from satellite.tasks import begin_task, end_tasks

_LONGEST_NAME = 200
_LISTENING_SECONDS = 0.25
"""How often it is looked whether the room still listens to a command."""


class GuestTimers:
    """Rings for those that have ended, until `hush` or for as long as ours do."""

    def __init__(self, room: LocalRoom, stages: Stages, listening: Callable[[], bool]) -> None:
        """Ring in `room`, never while it is `listening` to a command."""
        self._room = room
        self._stages = stages
        self._listening = listening
        self._names: dict[str, str] = {}
        self._ended: dict[str, str] = {}
        """What rings: the words by the timer's id."""

        self._ring: asyncio.Task[None] | None = None

    def take(self, event: Event) -> None:
        """Note what became of a timer."""
        if TimerStarted.is_type(event.type):
            started = TimerStarted.from_event(event)
            while len(self._names) >= MOST:
                del self._names[next(iter(self._names))]
            self._names[started.id] = str(started.name or "")[:_LONGEST_NAME]
        elif TimerFinished.is_type(event.type):
            self._finish(TimerFinished.from_event(event).id)
        elif event.type == "timer-cancelled":
            self._names.pop(str(event.data.get("id")), None)

    def hush(self) -> None:
        """Somebody called: whatever rings has done its duty."""
        self._ended.clear()
        if self._ring is not None:
            self._ring.cancel()

    async def close(self) -> None:
        """Fall silent; may be called twice."""
        self.hush()
        if self._ring is not None:
            await end_tasks(self._ring)

    def _finish(self, id_: str) -> None:
        if len(self._ended) >= MOST:
            return
        room = self._room.room
        name, language = self._names.pop(id_, None) or None, room.language or self._stages.config.stt.language
        timer = Timer(id_, room.name, Duration(), ends_at=0.0, total_seconds=0, name=name, language=language)
        self._ended[id_] = ended(timer, late=False)
        if self._ring is None or self._ring.done():
            self._ring = begin_task(self._rings(), f"ring {room.name}")

    async def _rings(self) -> None:
        until = time.monotonic() + RING_SECONDS
        made, sound = None, None
        while self._ended and time.monotonic() < until:
            if self._listening():
                await asyncio.sleep(_LISTENING_SECONDS)
                continue
            words = " ".join(self._ended.values())
            if sound is None or words != made:
                made, sound = words, await ring_sound(self._stages, self._room.room, words)
            await self._room.play(*sound)
            await asyncio.sleep(PAUSE_SECONDS)
        self._ended.clear()
