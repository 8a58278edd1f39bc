"""What makes timers tick: one task that sleeps until the next end, one that writes them down, and who is told."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from satellite.events import EventBus, Subscription
from satellite.skills.timers.storage import TimerFile
from satellite.skills.timers.timer import Timer, TimerEvent
from satellite.skills.timers.timers import Timers

_LOGGER = logging.getLogger(__name__)

_LONGEST_SLEEP_SECONDS = 30.0
"""A sleep does not count the time that the machine was suspended, so none is longer than this."""

_JUMP_SECONDS = 2.0
"""A wall clock that moves by more than this against the other one has been set."""

_RETRY_SECONDS = 30.0


def steady_seconds() -> float:
    """Return a clock that nobody sets, and that goes on while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Clockwork:
    """The timers of the house, alive: they end on time, survive a restart, and rooms are told of them."""

    def __init__(
        self,
        directory: Path | None = None,
        *,
        clock: Callable[[], float] = steady_seconds,
        wall: Callable[[], float] = time.time,
        longest_sleep_seconds: float = _LONGEST_SLEEP_SECONDS,
    ) -> None:
        """Keep timers in `directory`; null is the default one. They run by `clock`, and by `wall` across restarts."""
        self.timers = Timers(clock, self._tell)
        self._bus: EventBus[TimerEvent] = EventBus()
        self._clock = clock
        self._wall = wall
        self._longest_sleep_seconds = longest_sleep_seconds
        self._file = TimerFile(directory)
        self._keeping = False
        self._opening = asyncio.Lock()
        self._opened = False
        self._offset = wall() - clock()
        self._restored: set[str] = set()
        self._snapshots = 0
        self._failing = False
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()

    async def open(self) -> None:
        """Take back the timers of before; may be called again, to no effect."""
        async with self._opening:
            if self._opened:
                return
            try:
                kept = await asyncio.to_thread(self._file.open)
                self._keeping = True
            except OSError as error:
                kept = []
                _LOGGER.warning("Timers will not survive a restart: %s", error)
            self._offset = self._wall() - self._clock()
            self._restored = {timer.id for timer in kept}
            self.timers.restore(replace(timer, ends_at=timer.ends_at - self._offset) for timer in kept)
            self._opened = True

    @contextmanager
    def subscribe(self, place: str, size: int = 64) -> Iterator[Subscription[TimerEvent]]:
        """Receive what happens to the timers of a place, up to `size` unread events; first what rings or was missed."""
        with self._bus.subscribe(size, accepts=lambda event: event.timer.place == place) as subscription:
            for event in self.timers.owed(place):
                subscription.offer(event)
            yield subscription

    async def watch(self) -> None:
        """Let timers end on time, and write them down, until cancelled."""
        await self.open()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tick(), name="timers")
            tasks.create_task(self._keep(), name="timers on disk")

    async def close(self) -> None:
        """Write down what is not written yet; may be called twice."""
        if self._changed.is_set():
            await self._save()
        if self._keeping:
            self._keeping = False
            await asyncio.to_thread(self._file.close)

    def _tell(self, event: TimerEvent) -> None:
        self._restored.discard(event.timer.id)
        self._wake.set()
        self._changed.set()
        self._bus.publish(event)

    async def _tick(self) -> None:
        while True:
            self._wake.clear()
            self._follow_wall()
            if self.timers.tick():
                self._changed.set()
            next_at = self.timers.next_at()
            seconds = self._longest_sleep_seconds
            if next_at is not None:
                seconds = min(seconds, max(0.0, next_at - self._clock()))
            try:
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def _follow_wall(self) -> None:
        """Notice a wall clock that was set: it is what the file goes by, and what was read from the file went by."""
        jump = self._wall() - self._clock() - self._offset
        if abs(jump) < _JUMP_SECONDS:
            return
        _LOGGER.info("The wall clock was set by %+.0f s", jump)
        self._offset += jump
        # A machine without a battery begins with a wrong clock, and what was restored by it was restored wrongly.
        self.timers.shift(self._restored, -jump)
        self._changed.set()

    async def _keep(self) -> None:
        while True:
            await self._changed.wait()
            if not await self._save():
                await asyncio.sleep(_RETRY_SECONDS)

    async def _save(self) -> bool:
        self._changed.clear()
        if not self._keeping:
            return True
        self._snapshots += 1
        timers = [self._by_wall(timer) for timer in self.timers.all()]
        try:
            await asyncio.to_thread(self._file.write, timers, self._snapshots)
        except OSError as error:
            level = logging.DEBUG if self._failing else logging.WARNING
            _LOGGER.log(level, "Timers could not be written to %s: %s", self._file.path, error)
            self._failing = True
            self._changed.set()
            return False
        except asyncio.CancelledError:
            self._changed.set()  # for `close`, as nobody knows whether it was written
            raise
        if self._failing:
            self._failing = False
            _LOGGER.info("Timers are written to %s again", self._file.path)
        return True

    def _by_wall(self, timer: Timer) -> Timer:
        return replace(timer, ends_at=timer.ends_at + self._offset)
