"""Timers: what they do by the clock, that they survive a restart and a clock that is set, and who is told."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from satellite.rooms.wyoming_device import timer_event
from satellite.skills.timers.scheduler import TimerScheduler
from satellite.skills.timers.timers import (
    LATE_SECONDS,
    MISSED_SECONDS,
    RING_SECONDS,
    Duration,
    Timer,
    TimerEvent,
    TimerEventKind,
    TimerRefused,
    Timers,
    TimerState,
)
from satellite.skills.timers.wording import ended, refusal
from tests.virtual_clock import ManualClock
from tests.waiting import until

FIVE = Duration(minutes=5)


class WatchedTimers:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.events: list[TimerEvent] = []
        self.timers = Timers(self.clock, self.events.append)

    def later(self, seconds: float) -> list[TimerEventKind]:
        before = len(self.events)
        end = self.clock.now + seconds
        while (next_at := self.timers.next_at()) is not None and next_at <= end:
            self.clock.now = max(self.clock.now, next_at)
            self.timers.tick()
        self.clock.now = end
        return [event.kind for event in self.events[before:]]


# By the clock.


def test_a_timer_rings_until_it_is_silenced_or_for_a_while() -> None:
    house = WatchedTimers()
    house.timers.start(FIVE, place="kitchen")
    assert house.later(299) == []
    assert house.later(1) == [TimerEventKind.FINISHED]
    assert house.timers.silence("bedroom") == []
    assert len(house.timers.silence("kitchen")) == 1
    assert house.events[-1].kind is TimerEventKind.SILENCED
    assert house.timers.all() == []
    timer = house.timers.start(FIVE, place="kitchen")
    house.later(300)
    house.timers.heard([timer])
    assert house.later(RING_SECONDS) == [TimerEventKind.SILENCED]
    assert house.timers.all() == []


def test_a_timer_that_nobody_could_hear_is_missed_and_told_until_it_was_heard() -> None:
    house = WatchedTimers()
    timer = house.timers.start(FIVE, place="kitchen")
    assert house.later(300 + RING_SECONDS) == [TimerEventKind.FINISHED, TimerEventKind.MISSED]
    assert house.timers.outstanding("bedroom") == []
    assert [event.kind for event in house.timers.outstanding("kitchen")] == [TimerEventKind.MISSED]
    assert len(house.timers.outstanding(None)) == 1
    house.timers.heard([timer])
    assert house.timers.outstanding("kitchen") == []
    house.timers.start(FIVE, place="kitchen")
    house.later(300 + MISSED_SECONDS)
    assert house.timers.all() == []


def test_a_timer_that_was_changed_rings_when_it_is_due() -> None:
    house = WatchedTimers()
    timer = house.timers.start(FIVE, place="kitchen")
    house.later(100)
    timer = house.timers.pause(timer)
    house.later(1000)
    timer = house.timers.resume(house.timers.add(timer, 60))
    assert house.timers.left(timer) == 260
    house.timers.add(timer, -100)
    assert (house.later(159), house.later(1)) == ([], [TimerEventKind.FINISHED])
    house.timers.add(house.timers.start(FIVE, place="bedroom"), -600)
    assert house.later(0) == [TimerEventKind.FINISHED]


def test_several_at_once_ring_in_the_order_of_their_ends() -> None:
    house = WatchedTimers()
    house.timers.start(Duration(minutes=2), place="kitchen", name="second")
    house.timers.start(Duration(minutes=1), place="bedroom", name="first")
    house.later(120)
    assert [event.timer.name for event in house.events[2:]] == ["first", "second"]
    assert [timer.name for timer in house.timers.ringing("kitchen")] == ["second"]
    assert len(house.timers.silence()) == 2


def test_limits() -> None:
    house = WatchedTimers()
    for length in (Duration(), Duration(hours=24, seconds=1)):
        with pytest.raises(TimerRefused, match="too_long") as refused:
            house.timers.start(length, place="kitchen")
    assert refusal(refused.value.limit, "de") == "Ein Timer kann höchstens einen Tag laufen."
    assert refusal(refused.value.limit, "xx") is None


def test_what_satellites_are_sent() -> None:
    house = WatchedTimers()
    timer = house.timers.start(Duration(hours=1, minutes=30), place="kitchen", name="roast")
    house.later(60)
    timer = house.timers.pause(timer)
    timer = house.timers.resume(timer)
    house.timers.cancel(timer)
    other = house.timers.start(Duration(seconds=1), place="kitchen")
    house.later(1)
    house.timers.silence("kitchen")
    sent = [event.event() for one in house.events if (event := timer_event(one)) is not None]
    lasting = {"id": timer.id, "total_seconds": 5400, "name": "roast", "start_hours": 1, "start_minutes": 30}
    assert [(event.type, {k: v for k, v in event.data.items() if v is not None}) for event in sent] == [
        ("timer-started", lasting),
        ("timer-updated", {"id": timer.id, "is_active": False, "total_seconds": 5340}),
        ("timer-updated", {"id": timer.id, "is_active": True, "total_seconds": 5340}),
        ("timer-cancelled", {"id": timer.id}),
        ("timer-started", {"id": other.id, "total_seconds": 1, "start_seconds": 1}),
        ("timer-finished", {"id": other.id}),
    ]


@pytest.mark.parametrize(
    ("language", "name", "late", "words"),
    [
        ("en", "pizza", False, "Your pizza timer is done."),
        ("en", None, True, "A timer ended a while ago."),
        ("de-AT", None, False, "Der Timer ist abgelaufen."),
        ("pl", None, True, "Minutnik zakończył odliczanie."),
        ("xx", "pizza", False, "pizza"),
        ("xx", None, False, ""),
    ],
)
def test_what_is_said_of_a_timer_that_has_ended(language: str, name: str | None, late: bool, words: str) -> None:
    assert ended(Timer("1", "kitchen", FIVE, 0.0, 300, name, None, language), late=late) == words


# Across restarts.


class Machine:
    """A machine whose clocks are set: `steady` counts, `wall` can be wrong."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.steady = ManualClock(50.0)
        self.wall = ManualClock(1_000_000.0)

    def boot(self) -> TimerScheduler:
        return TimerScheduler(self.folder, clock=self.steady, wall=self.wall)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Timers]:
        scheduler = self.boot()
        await scheduler.open()
        watch = asyncio.create_task(scheduler.watch())
        try:
            yield scheduler.timers
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
            await scheduler.close()
            await scheduler.close()

    def later(self, seconds: float) -> None:
        self.steady.now += seconds
        self.wall.now += seconds

    def saved(self) -> str:
        file = self.folder / "timers.json"
        return file.read_text() if file.exists() else ""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr("satellite.skills.timers.scheduler._LONGEST_SLEEP_SECONDS", 0.005)
    return Machine(tmp_path)


async def test_timers_survive_a_restart(machine: Machine) -> None:
    async with machine.running() as timers:
        timers.start(FIVE, place="kitchen", name="Küchlein", room="Kitchen", language="de")
        timers.pause(timers.start(FIVE, place="bedroom"))
    machine.later(100)
    machine.steady.now = 7.0
    async with machine.running() as timers:
        first, second = timers.all()
        assert (first.name, first.room, first.language, first.place) == ("Küchlein", "Kitchen", "de", "kitchen")
        assert [timers.left(timer) for timer in (first, second)] == [200, 300]
        machine.later(200)
        await until(lambda: timers.ringing("kitchen"))
    async with machine.running() as timers:
        await until(lambda: timers.ringing("kitchen"))  # again
    assert json.loads(machine.saved())["version"] == 1


@pytest.mark.parametrize(
    ("off_seconds", "state"),
    [
        (301, TimerState.RINGING),
        (300 + LATE_SECONDS - 1, TimerState.RINGING),
        (300 + LATE_SECONDS, TimerState.MISSED),
        (300 + MISSED_SECONDS, None),
    ],
)
async def test_a_restart_during_which_a_timer_ended(
    machine: Machine, off_seconds: float, state: TimerState | None
) -> None:
    async with machine.running() as timers:
        timers.start(FIVE, place="kitchen")
    machine.later(off_seconds)
    async with machine.running() as timers:
        await until(lambda: [timer.state for timer in timers.all()] == ([state] if state else []))
        assert all(timers.late(timer) == (off_seconds > 300 + RING_SECONDS) for timer in timers.all())


async def test_a_power_cut_loses_nothing_that_is_older_than_a_moment(machine: Machine) -> None:
    async with machine.running() as timers:
        timer = timers.start(FIVE, place="kitchen")
        await until(lambda: timer.id in machine.saved())
        timers.cancel(timer)
        await until(lambda: timer.id not in machine.saved())


async def test_a_wall_clock_that_is_set_changes_no_timer(machine: Machine) -> None:
    async with machine.running() as timers:
        timer = timers.start(FIVE, place="kitchen")
        machine.later(100)
        for jump in (-86_400, 3600):
            machine.wall.now += jump
            await asyncio.sleep(0.03)
            assert timers.left(timer) == 200
    machine.later(50)
    async with machine.running() as timers:
        assert timers.left(timers.all()[0]) == 150


async def test_a_machine_that_learns_the_time_only_after_the_start(machine: Machine) -> None:
    async with machine.running() as timers:
        timers.start(FIVE, place="kitchen")
    machine.later(100)
    right = machine.wall.now
    machine.wall.now = 0.0
    async with machine.running() as timers:
        new = timers.start(Duration(minutes=1), place="kitchen")
        machine.wall.now = right
        await until(lambda: timers.left(timers.all()[0]) == 200)
        assert timers.left(new) == 60


async def test_a_second_daemon_leaves_the_file_alone(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    async with machine.running() as first:
        kept = first.start(FIVE, place="kitchen")
        async with machine.running() as second:
            second.start(FIVE, place="kitchen")
        await until(lambda: kept.id in machine.saved())
    assert len(json.loads(machine.saved())["timers"]) == 1
    assert "another process keeps its timers" in caplog.text


@pytest.mark.parametrize(
    "text", ["", "{", '{"version": 2, "timers": []}', '{"version": 1, "timers": [{"id": 1}]}', "\x00", "[]", "null"]
)
async def test_a_file_that_cannot_be_read_is_put_aside(
    machine: Machine, tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "timers.json").write_text(text)
    async with machine.running() as timers:
        assert timers.all() == []
        timer = timers.start(FIVE, place="kitchen")
        await until(lambda: timer.id in machine.saved())
    assert (tmp_path / "timers-unreadable-1.json").read_text() == text
    assert "timers-unreadable-1.json" in caplog.text


async def test_a_disk_that_cannot_be_written_is_told_once(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    blocked = machine.folder / "file"
    blocked.write_text("no folder")
    machine.folder = blocked / "below"
    async with machine.running() as timers:
        timers.start(FIVE, place="kitchen")
        machine.later(300)
        await until(lambda: bool(timers.ringing("kitchen")))
    [warning] = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "will not survive a restart" in warning


# Who is told.


async def test_a_room_hears_of_its_own_timers_first_of_those_that_ring_unless_it_falls_behind(machine: Machine) -> None:
    scheduler = machine.boot()
    scheduler.timers.start(Duration(seconds=1), place="kitchen")
    machine.later(1)
    scheduler.timers.tick()
    with scheduler.subscribe("kitchen") as kitchen:
        scheduler.timers.start(FIVE, place="bedroom")
        scheduler.timers.start(FIVE, place="kitchen")
        heard = [(await anext(aiter(kitchen))).kind for _ in range(2)]
        assert heard == [TimerEventKind.FINISHED, TimerEventKind.STARTED]
    with scheduler.subscribe("kitchen", size=2) as slow:
        scheduler.timers.start(FIVE, place="kitchen")
        scheduler.timers.start(FIVE, place="kitchen")
        assert slow.overflowed
        assert len([event async for event in slow]) == 1
