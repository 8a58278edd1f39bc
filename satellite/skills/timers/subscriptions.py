"""Who is told what happens to timers: rooms, each of its own, as events that a Wyoming satellite understands."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from wyoming.event import Eventable
from wyoming.timer import TimerCancelled, TimerFinished, TimerStarted, TimerUpdated

from satellite.skills.timers.timer import TimerEvent, TimerEventKind, TimerState


class TimerSubscription:
    """One watcher's bounded outbox; iterate it. A watcher that falls behind is dropped, never waited for."""

    def __init__(self, place: str | None, size: int) -> None:
        self.place = place
        self._queue: asyncio.Queue[TimerEvent | None] = asyncio.Queue(size)
        self.overflowed = False

    def offer(self, event: TimerEvent) -> None:
        """Queue `event` if it is of this place; past the bound the subscription ends instead."""
        if self.overflowed or self.place not in (None, event.timer.place):
            return
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            self.overflowed = True
            self._queue.get_nowait()  # room for the end marker
            self._queue.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[TimerEvent]:
        """Yield events until the subscription overflows."""
        while (event := await self._queue.get()) is not None:
            yield event


class TimerBus:
    """Fan-out of timer events; `publish` never blocks and never fails."""

    def __init__(self) -> None:
        self._subscriptions: set[TimerSubscription] = set()

    def publish(self, event: TimerEvent) -> None:
        """Hand `event` to the subscriptions of its place."""
        for subscription in self._subscriptions:
            subscription.offer(event)

    @contextmanager
    def subscribe(self, place: str | None, size: int = 64) -> Iterator[TimerSubscription]:
        """Receive the events of a place, or of all with None, inside the `with`, up to `size` unread ones."""
        subscription = TimerSubscription(place, size)
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)


def wyoming_event(event: TimerEvent) -> Eventable | None:
    """Return what to send to a satellite; None for what Wyoming has no event for."""
    timer = event.timer
    match event.kind:
        case TimerEventKind.STARTED:
            return TimerStarted(
                id=timer.id,
                total_seconds=timer.total_seconds,
                name=timer.name,
                start_hours=timer.start.hours,
                start_minutes=timer.start.minutes,
                start_seconds=timer.start.seconds,
            )
        case TimerEventKind.UPDATED:
            return TimerUpdated(
                id=timer.id, is_active=timer.state is TimerState.RUNNING, total_seconds=event.seconds_left
            )
        case TimerEventKind.CANCELLED:
            return TimerCancelled(id=timer.id)
        case TimerEventKind.FINISHED:
            return TimerFinished(id=timer.id)
        case TimerEventKind.SILENCED | TimerEventKind.MISSED:
            return None
