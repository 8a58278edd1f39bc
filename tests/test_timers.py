"""Timers: what they do by the clock, that they survive a restart and a clock that is set, and who is told."""

import asyncio
import json
import logging
from pathlib import Path

import pytest

from satellite.rooms.wyoming_device import timer_event
from satellite.skills.timers.scheduler import TimerScheduler
from satellite.skills.timers.timers import (
    LATE_SECONDS,
    MISSED_SECONDS,
    MOST,
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
    """Timers by a clock that is set, and what was told of them."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.told: list[TimerEvent] = []
        self.timers = Timers(self.clock, self.told.append)

    def later(self, seconds: float) -> list[TimerEventKind]:
        """Let time pass; return what was told meanwhile."""
        before = len(self.told)
        end = self.clock.now + seconds
        while (next_at := self.timers.next_at()) is not None and next_at <= end:
            self.clock.now = max(self.clock.now, next_at)
            self.timers.tick()
        self.clock.now = end
        return [event.kind for event in self.told[before:]]


def states(timers: Timers) -> list[TimerState]:
    """Return what the timers do."""
    return [timer.state for timer in timers.all()]


# By the clock.


def test_a_timer_rings_until_it_is_silenced() -> None:
    house = WatchedTimers()
    house.timers.start(FIVE, place="kitchen")
    assert house.later(299) == []
    assert house.later(1) == [TimerEventKind.FINISHED]
    assert house.timers.silence("bedroom") == []
    assert len(house.timers.silence("kitchen")) == 1
    assert house.told[-1].kind is TimerEventKind.SILENCED
    assert house.timers.all() == []


def test_a_timer_that_nobody_stops_ends_by_itself() -> None:
    house = WatchedTimers()
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


def test_pausing_extending_and_shortening() -> None:
    house = WatchedTimers()
    timer = house.timers.start(FIVE, place="kitchen")
    house.later(100)
    timer = house.timers.pause(timer)
    house.later(1000)
    assert house.timers.left(timer) == 200
    timer = house.timers.add(timer, 60)
    timer = house.timers.resume(timer)
    assert house.timers.left(timer) == 260
    timer = house.timers.add(timer, -100)
    assert house.later(159) == []
    assert house.later(1) == [TimerEventKind.FINISHED]
    other = house.timers.start(FIVE, place="bedroom")
    house.timers.add(other, -600)
    assert house.later(0) == [TimerEventKind.FINISHED]


def test_several_at_once_ring_in_the_order_of_their_ends() -> None:
    house = WatchedTimers()
    house.timers.start(Duration(minutes=2), place="kitchen", name="second")
    house.timers.start(Duration(minutes=1), place="bedroom", name="first")
    house.later(120)
    assert [event.timer.name for event in house.told[2:]] == ["first", "second"]
    assert [timer.name for timer in house.timers.ringing("kitchen")] == ["second"]
    assert len(house.timers.silence()) == 2


def test_limits() -> None:
    house = WatchedTimers()
    for length in (Duration(), Duration(hours=24, seconds=1)):
        with pytest.raises(TimerRefused, match="too_long"):
            house.timers.start(length, place="kitchen")
    timer = house.timers.start(Duration(hours=24), place="kitchen")
    with pytest.raises(TimerRefused, match="too_long") as refused:
        house.timers.add(timer, 1)
    assert refusal(refused.value.limit, "de") == "Ein Timer kann höchstens einen Tag laufen."
    assert refusal(refused.value.limit, "xx") is None
    for _ in range(MOST - 1):
        house.timers.start(FIVE, place="kitchen")
    with pytest.raises(TimerRefused, match="too_many"):
        house.timers.start(FIVE, place="kitchen")


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
    sent = [event.event() for told in house.told if (event := timer_event(told)) is not None]
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
        """Start anew: the steady clock begins again somewhere."""
        return TimerScheduler(self.folder, clock=self.steady, wall=self.wall, longest_sleep_seconds=0.005)

    def later(self, seconds: float) -> None:
        """Let time pass."""
        self.steady.now += seconds
        self.wall.now += seconds


@pytest.fixture
async def machine(tmp_path: Path) -> Machine:
    """A machine, made on the event loop."""
    return Machine(tmp_path)


class Running:
    """A scheduler that is watched meanwhile."""

    def __init__(self, scheduler: TimerScheduler) -> None:
        self.scheduler = scheduler

    async def __aenter__(self) -> Timers:
        await self.scheduler.open()
        self._task = asyncio.create_task(self.scheduler.watch())
        return self.scheduler.timers

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.scheduler.close()
        await self.scheduler.close()


async def test_timers_survive_a_restart(machine: Machine, tmp_path: Path) -> None:
    async with Running(machine.boot()) as timers:
        timers.start(FIVE, place="kitchen", name="Küchlein", room="Kitchen", language="de")
        timers.pause(timers.start(FIVE, place="bedroom"))
    machine.later(100)
    machine.steady.now = 7.0
    async with Running(machine.boot()) as timers:
        first, second = timers.all()
        assert (first.name, first.room, first.language, first.place) == ("Küchlein", "Kitchen", "de", "kitchen")
        assert [timers.left(timer) for timer in (first, second)] == [200, 300]
        machine.later(200)
        await until(lambda: bool(timers.ringing("kitchen")))
    assert json.loads((tmp_path / "timers.json").read_text())["version"] == 1


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
    async with Running(machine.boot()) as timers:
        timers.start(FIVE, place="kitchen")
    machine.later(off_seconds)
    async with Running(machine.boot()) as timers:
        if state is None:
            await until(lambda: not timers.all())
        else:
            await until(lambda: states(timers) == [state])
            assert timers.late(timers.all()[0]) == (off_seconds > 300 + RING_SECONDS)


async def test_a_timer_that_rang_rings_again_after_a_restart(machine: Machine) -> None:
    for restart in (False, True):
        async with Running(machine.boot()) as timers:
            if not restart:
                timers.start(FIVE, place="kitchen")
                machine.later(300)
            await until(lambda timers=timers: states(timers) == [TimerState.RINGING])  # type: ignore[misc]


async def test_a_power_cut_loses_nothing_that_is_older_than_a_moment(machine: Machine, tmp_path: Path) -> None:
    async with Running(machine.boot()) as timers:
        timer = timers.start(FIVE, place="kitchen")
        await until(lambda: timer.id in _text(tmp_path))
        timers.cancel(timer)
        await until(lambda: timer.id not in _text(tmp_path))


def _text(folder: Path) -> str:
    file = folder / "timers.json"
    return file.read_text() if file.exists() else ""


async def test_a_wall_clock_that_is_set_changes_no_timer(machine: Machine) -> None:
    async with Running(machine.boot()) as timers:
        timer = timers.start(FIVE, place="kitchen")
        machine.later(100)
        for jump in (-86_400, 3600):
            machine.wall.now += jump
            await asyncio.sleep(0.03)
            assert timers.left(timer) == 200
    machine.later(50)
    async with Running(machine.boot()) as timers:
        assert timers.left(timers.all()[0]) == 150


async def test_a_machine_that_learns_the_time_only_after_the_start(machine: Machine) -> None:
    async with Running(machine.boot()) as timers:
        timers.start(FIVE, place="kitchen")
    machine.later(100)
    right = machine.wall.now
    machine.wall.now = 0.0
    async with Running(machine.boot()) as timers:
        new = timers.start(Duration(minutes=1), place="kitchen")
        machine.wall.now = right
        await until(lambda: timers.left(timers.all()[0]) == 200)
        assert timers.left(new) == 60


async def test_a_second_daemon_leaves_the_file_alone(
    machine: Machine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Running(machine.boot()) as first:
        kept = first.start(FIVE, place="kitchen")
        async with Running(machine.boot()) as second:
            second.start(FIVE, place="kitchen")
        await until(lambda: kept.id in _text(tmp_path))
    assert len(json.loads(_text(tmp_path))["timers"]) == 1
    assert "another process keeps its timers" in caplog.text


@pytest.mark.parametrize(
    "text", ["", "{", '{"version": 2, "timers": []}', '{"version": 1, "timers": [{"id": 1}]}', "\x00", "[]", "null"]
)
async def test_a_file_that_cannot_be_read_is_put_aside(
    machine: Machine, tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "timers.json").write_text(text)
    async with Running(machine.boot()) as timers:
        assert timers.all() == []
        timer = timers.start(FIVE, place="kitchen")
        await until(lambda: timer.id in _text(tmp_path))
    assert (tmp_path / "timers-unreadable-1.json").read_text() == text
    assert "timers-unreadable-1.json" in caplog.text


async def test_a_disk_that_cannot_be_written_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    machine = Machine(blocked / "below")
    async with Running(machine.boot()) as timers:
        timers.start(FIVE, place="kitchen")
        machine.later(300)
        await until(lambda: bool(timers.ringing("kitchen")))
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "will not survive a restart" in warnings[0].getMessage()


# Who is told.


async def test_a_room_hears_of_its_own_timers_first_of_those_that_ring(machine: Machine) -> None:
    scheduler = machine.boot()
    scheduler.timers.start(Duration(seconds=1), place="kitchen")
    machine.later(1)
    scheduler.timers.tick()
    with scheduler.subscribe("kitchen") as kitchen:
        scheduler.timers.start(FIVE, place="bedroom")
        scheduler.timers.start(FIVE, place="kitchen")
        heard = [(await anext(aiter(kitchen))).kind for _ in range(2)]
        assert heard == [TimerEventKind.FINISHED, TimerEventKind.STARTED]


async def test_a_listener_that_falls_behind_is_dropped(machine: Machine) -> None:
    scheduler = machine.boot()
    with scheduler.subscribe("kitchen", size=2) as slow:
        for _ in range(3):
            scheduler.timers.start(FIVE, place="kitchen")
        assert slow.overflowed
        assert len([event async for event in slow]) == 1
