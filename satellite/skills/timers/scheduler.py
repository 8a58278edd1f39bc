"""Runs the timers of the house: a task that sleeps until the next one ends, a task that saves them, and a bus."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from satellite.events import EventBus, Subscription
from satellite.skills.timers.storage import TimerFile
from satellite.skills.timers.timers import Timer, TimerEvent, Timers

_LOGGER = logging.getLogger(__name__)

_LONGEST_SLEEP_SECONDS = 30.0
"""Longest sleep: it does not count time during which the machine is suspended, as `steady_seconds` does."""

_JUMP_SECONDS = 2.0
"""A wall clock that moves by more than this against the steady one has been set."""

_RETRY_SECONDS = 30.0


def steady_seconds() -> float:
    """Return a monotonic clock that runs on while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class TimerScheduler:
    """Ends timers on time, keeps them across restarts, and publishes their events."""

    def __init__(
        self,
        directory: Path | None = None,
        *,
        clock: Callable[[], float] = steady_seconds,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Save timers in `directory`, None is the default one; they run by `clock`, and by `wall` across restarts."""
        self.timers = Timers(clock, self._publish)
        self._bus: EventBus[TimerEvent] = EventBus()
        self._clock = clock
        self._wall = wall
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
        """Restore the saved timers, once; further calls do nothing."""
        async with self._opening:
            if self._opened:
                return
            try:
                kept = await asyncio.to_thread(self._file.open)
                self._keeping = True
            except OSError as error:
                kept = []
                _LOGGER.warning("timers will not survive a restart: %s", error)
            self._offset = self._wall() - self._clock()
            self._restored = {timer.id for timer in kept}
            self.timers.restore(replace(timer, ends_at=timer.ends_at - self._offset) for timer in kept)
            self._opened = True

    @contextmanager
    def subscribe(self, place: str, size: int = 64) -> Iterator[Subscription[TimerEvent]]:
        """Receive the events of a place, up to `size` unread ones; first those that are outstanding."""
        with self._bus.subscribe(size, accepts=lambda event: event.timer.place == place) as subscription:
            # Published while nobody listened; in the same step as the subscription, so none comes twice.
            for event in self.timers.outstanding(place):
                subscription.offer(event)
            yield subscription

    async def watch(self) -> None:
        """End timers on time, and save them, until cancelled."""
        await self.open()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tick(), name="timers")
            tasks.create_task(self._keep(), name="timers on disk")

    async def close(self) -> None:
        """Save what is not saved yet, and release the file; may be called twice."""
        if self._changed.is_set():
            await self._save()
        if self._keeping:
            self._keeping = False
            await asyncio.to_thread(self._file.close)

    def _publish(self, event: TimerEvent) -> None:
        self._restored.discard(event.timer.id)
        self._wake.set()
        self._changed.set()
        self._bus.publish(event)

    async def _tick(self) -> None:
        while True:
            # Before looking, so that a change from now on ends the wait below.
            self._wake.clear()
            self._follow_wall()
            if self.timers.tick():
                self._changed.set()
            next_at = self.timers.next_at()
            seconds = _LONGEST_SLEEP_SECONDS
            if next_at is not None:
                seconds = min(seconds, max(0.0, next_at - self._clock()))
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._wake.wait()

    def _follow_wall(self) -> None:
        """Follow a wall clock that was set: the ends in the file, and those restored from it, are by the wall clock."""
        jump = self._wall() - self._clock() - self._offset
        if abs(jump) < _JUMP_SECONDS:
            return
        _LOGGER.info("the wall clock was set by %+.0f s", jump)
        self._offset += jump
        # A machine without a battery starts with a wrong wall clock, by which the timers were restored.
        self.timers.shift(self._restored, -jump)
        self._changed.set()

    async def _keep(self) -> None:
        while True:
            await self._changed.wait()
            if not await self._save():
                await asyncio.sleep(_RETRY_SECONDS)

    async def _save(self) -> bool:
        # Before the snapshot, so that a change during the write is saved next.
        self._changed.clear()
        if not self._keeping:
            return True
        # Numbered, since a write that is still under way in a thread must not replace a later one.
        self._snapshots += 1
        timers = [self._by_wall(timer) for timer in self.timers.all()]
        try:
            await asyncio.to_thread(self._file.write, timers, self._snapshots)
        except OSError as error:
            level = logging.DEBUG if self._failing else logging.WARNING
            _LOGGER.log(level, "timers cannot be saved in %s: %s", self._file.path, error)
            self._failing = True
            self._changed.set()
            return False
        except asyncio.CancelledError:
            self._changed.set()  # whether it was written is unknown, so `close` saves again
            raise
        if self._failing:
            self._failing = False
            _LOGGER.info("timers are saved in %s again", self._file.path)
        return True

    def _by_wall(self, timer: Timer) -> Timer:
        return replace(timer, ends_at=timer.ends_at + self._offset)
