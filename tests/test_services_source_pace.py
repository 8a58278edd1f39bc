"""Live sound is told from a recording by when it comes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satellite.services.source_pace import SourcePace
from tests.virtual_clock import ManualClock


class Stream:
    """Sound that comes when it is sent."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.pace = SourcePace(self.clock(), self.clock)

    def send(self, seconds: float, every_seconds: float, chunk_seconds: float = 0.02) -> None:
        for _ in range(round(seconds / chunk_seconds)):
            self.clock.now += every_seconds
            self.pace.add(chunk_seconds, self.clock())

    def live(self, seconds: float) -> None:
        self.send(seconds, 0.02)

    def at_once(self, seconds: float) -> None:
        self.send(seconds, 0.001)

    @property
    def is_live(self) -> bool:
        return not self.pace.doubt_seconds

    def goes_on_and_is_never_live(self, every_seconds: float = 0.001) -> bool:
        for _ in range(500):
            self.send(0.02, every_seconds)
            if self.is_live:
                return False
        return True


@pytest.mark.parametrize("chunk_seconds", [0.01, 0.032, 0.064, 0.25, 1.0])
def test_what_comes_as_it_is_spoken_is_live(chunk_seconds: float) -> None:
    stream = Stream()
    for _ in range(10):
        stream.send(chunk_seconds, chunk_seconds, chunk_seconds)
        assert stream.is_live


@pytest.mark.parametrize("every_seconds", [0.0, 0.001, 0.005, 0.01])
def test_a_recording_is_never_live_while_it_comes(every_seconds: float) -> None:
    stream = Stream()
    stream.send(0.3, every_seconds)
    assert stream.goes_on_and_is_never_live(every_seconds)


@pytest.mark.parametrize(
    ("first_seconds", "stall_seconds", "then_seconds"),
    [(3.0, 0.1, 0), (3.0, 0.3, 0), (3.0, 0.6, 0), (3.0, 1.5, 0), (3.0, 10.0, 0), (0, 10.0, 0.5)],
)
def test_a_recording_that_stalls_is_not_live_when_it_goes_on(
    first_seconds: float, stall_seconds: float, then_seconds: float
) -> None:
    stream = Stream()
    stream.at_once(first_seconds)
    stream.clock.now += stall_seconds
    stream.at_once(then_seconds)
    assert stream.goes_on_and_is_never_live()


@pytest.mark.parametrize("begun_seconds", [0.2, 0.5, 1.0])
def test_a_stream_that_begins_with_what_had_to_wait_is_live_soon(begun_seconds: float) -> None:
    stream = Stream()
    stream.at_once(begun_seconds)
    stream.live(begun_seconds + 0.1)
    assert stream.is_live


@pytest.mark.parametrize("stall_seconds", [0.3, 0.8, 3.0])
def test_a_stream_that_stalls_is_live_again(stall_seconds: float) -> None:
    stream = Stream()
    stream.live(2.0)
    for _ in range(5):
        stream.clock.now += stall_seconds
        stream.at_once(stall_seconds)
        assert not stream.is_live
        stream.live(stall_seconds / 2 + 0.05)
        assert stream.is_live


def test_when_nothing_more_comes_it_is_over() -> None:
    stream = Stream()
    stream.at_once(10.0)
    assert stream.pace.doubt_seconds == pytest.approx(2.0, abs=0.1)
    stream.clock.now += 2.1
    assert stream.is_live


@given(st.lists(st.floats(0.0, 0.09), min_size=50, max_size=200), st.sampled_from([0.01, 0.02, 0.064]))
def test_a_network_that_jitters_changes_nothing(delays: list[float], chunk_seconds: float) -> None:
    stream = Stream()
    began = stream.clock.now
    for index, delay in enumerate(delays, 1):
        stream.clock.now = max(stream.clock.now, began + index * chunk_seconds + delay)
        stream.pace.add(chunk_seconds, stream.clock())
        assert stream.is_live
