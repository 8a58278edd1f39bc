"""When the chat model is kept warm, and how often it is pinged."""

from datetime import datetime, time

import pytest

from satellite.config.chat import KeepAliveSettings
from satellite.engines.chat.keepalive.schedule import PingTiming, Schedule

LONG_AGO = 1e6


def at(text: str) -> datetime:
    """Return a moment of some day."""
    return datetime.combine(datetime(2026, 3, 1).date(), time.fromisoformat(text))


@pytest.mark.parametrize("idle_seconds", [0, LONG_AGO])
def test_always_is_always(idle_seconds: float) -> None:
    schedule = Schedule(KeepAliveSettings())
    assert schedule.wants_warm(at("03:00"), idle_seconds)
    assert schedule.described() == "always"


def test_after_activity_is_for_a_while_after_each_use() -> None:
    schedule = Schedule(KeepAliveSettings(when="after_activity", after_activity_seconds=90))
    assert schedule.wants_warm(at("03:00"), 0)
    assert schedule.wants_warm(at("03:00"), 89.9)
    assert not schedule.wants_warm(at("12:00"), 90)
    assert schedule.described() == "1.5 min after each use"


@pytest.mark.parametrize(
    ("hours", "inside", "outside"),
    [
        (["06:00-23:00"], ["06:00", "12:00", "22:59:59.999999"], ["05:59:59", "23:00", "00:00"]),
        (["22:00-01:00"], ["22:00", "23:59:59.5", "00:00", "00:59"], ["01:00", "12:00", "21:59"]),
        (["20:00-24:00"], ["20:00", "23:59:59"], ["00:00", "19:59"]),
        (["00:00-24:00"], ["00:00", "12:00", "23:59:59.999"], []),
        (["20:00-00:00"], ["20:00", "23:59:59.999999"], ["00:00", "19:59"]),
        (["06:00-09:00", "17:00-22:00"], ["06:00", "08:59", "17:00", "21:59"], ["09:00", "16:59", "22:00"]),
        (["06:00-12:00", "11:00-13:00"], ["11:30", "12:30"], ["13:00"]),
        ([], [], ["00:00", "12:00"]),
    ],
)
def test_hours_are_times_of_day(hours: list[str], inside: list[str], outside: list[str]) -> None:
    schedule = Schedule(KeepAliveSettings(when="hours", hours=tuple(hours)))
    assert [text for text in inside if not schedule.wants_warm(at(text), LONG_AGO)] == []
    assert [text for text in outside if schedule.wants_warm(at(text), LONG_AGO)] == []


def test_outside_its_hours_it_is_warm_after_a_use() -> None:
    schedule = Schedule(KeepAliveSettings(when="hours", hours=("06:00-23:00", "23:30-24:00")))
    assert schedule.wants_warm(at("03:00"), 60)
    assert not schedule.wants_warm(at("03:00"), 900)
    assert schedule.described() == "06:00-23:00, 23:30-24:00 and 15 min after each use"


@pytest.mark.parametrize(("ping_seconds", "gap_seconds"), [(0.001, 5.0), (0.07, 7.0), (0.1, 10.0), (3.0, 10.0)])
def test_pings_take_a_hundredth_of_the_servers_time(ping_seconds: float, gap_seconds: float) -> None:
    pace = PingTiming()
    assert pace.gap_seconds == 0
    for _ in range(3):
        pace.took(ping_seconds)
        assert pace.gap_seconds == pytest.approx(gap_seconds)


def test_what_takes_much_longer_than_usual_is_slow() -> None:
    pace = PingTiming()
    assert not pace.took(0.07)
    assert pace.slow_seconds == pytest.approx(0.35)
    assert not pace.took(0.3)
    assert pace.took(2.0)
    assert not PingTiming().took(60)
    quick = PingTiming()
    assert not any(quick.took(seconds) for seconds in (0.001, 0.29))


def test_a_server_that_has_become_slow_is_soon_known_as_such() -> None:
    pace = PingTiming()
    pace.took(0.07)
    slow = [pace.took(0.5) for _ in range(20)]
    assert slow[0]
    assert sum(slow) <= 3
    assert not slow[-1]


def test_a_load_in_between_hardly_changes_what_is_usual() -> None:
    pace = PingTiming()
    pace.took(0.07)
    assert pace.took(10)
    pace.took(0.07)
    assert pace.took(0.6)
