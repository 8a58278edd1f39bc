"""How often a ping may be sent, what a long one means, and when what failed is tried again."""

import pytest

from satellite.engines.chat.keepalive.intervals import Pace, Retry
from satellite.engines.chat.keepalive.loaded_models import Residency


@pytest.mark.parametrize(("ping_seconds", "gap_seconds"), [(0.001, 5.0), (0.07, 7.0), (0.1, 10.0), (3.0, 10.0)])
def test_pings_take_a_hundredth_of_the_servers_time(ping_seconds: float, gap_seconds: float) -> None:
    """And there is one in ten seconds at least, and one in five at most: each is a line in Ollama's log."""
    pace = Pace()
    assert pace.gap_seconds == 0
    for _ in range(3):
        pace.took(ping_seconds)
        assert pace.gap_seconds == pytest.approx(gap_seconds)


def test_what_takes_much_longer_than_usual_is_slow() -> None:
    """Fractions of a second never are, and the first ping is only the measure."""
    pace = Pace()
    assert not pace.took(0.07)
    assert pace.slow_seconds == pytest.approx(0.35)
    assert not pace.took(0.3)
    assert pace.took(2.0)
    assert not Pace().took(60)
    quick = Pace()
    assert not any(quick.took(seconds) for seconds in (0.001, 0.29))


def test_a_server_that_has_become_slow_is_soon_known_as_such() -> None:
    """Not every ping from then on means a load."""
    pace = Pace()
    pace.took(0.07)
    slow = [pace.took(0.5) for _ in range(20)]
    assert slow[0]
    assert sum(slow) <= 3
    assert not slow[-1]


def test_a_load_in_between_hardly_changes_what_is_usual() -> None:
    """The next one is recognised too."""
    pace = Pace()
    pace.took(0.07)
    assert pace.took(10)
    pace.took(0.07)
    assert pace.took(0.6)


def test_what_fails_is_tried_again_ever_more_rarely() -> None:
    """What is missing is looked for more often, and what is not there all the time."""
    retry = Retry()
    waits = []
    for _ in range(8):
        retry.failed(Residency.FAILING)
        waits.append(retry.seconds)
        assert retry.is_waiting
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]
    retry.at_once()
    assert not retry.is_waiting
    retry.failed(Residency.MODEL_MISSING)
    assert (retry.seconds, retry.is_waiting) == (2, True)
    retry.failed(Residency.UNREACHABLE)
    assert (retry.seconds, retry.is_waiting) == (0, False)
    retry.failed(Residency.FAILING)
    assert retry.seconds == 1
    retry.done()
    assert (retry.seconds, retry.is_waiting) == (0, False)
