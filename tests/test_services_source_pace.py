"""Live sound is told from a recording by when it comes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satellite.services.source_pace import SourcePace
from tests.virtual_clock import ManualClock


class Stream:
    """Sound that comes when it is told to."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.pace = SourcePace(self.clock(), self.clock)

    def live(self, seconds: float, chunk_seconds: float = 0.02) -> None:
        """Send sound as it is spoken."""
        for _ in range(round(seconds / chunk_seconds)):
            self.clock.now += chunk_seconds
            self.pace.add(chunk_seconds, self.clock())

    def at_once(self, seconds: float, chunk_seconds: float = 0.02, every_seconds: float = 0.001) -> None:
        """Send what was recorded."""
        for _ in range(round(seconds / chunk_seconds)):
            self.clock.now += every_seconds
            self.pace.add(chunk_seconds, self.clock())

    @property
    def is_live(self) -> bool:
        """Whether the end of what has come is that of what was said."""
        return not self.pace.doubt_seconds


@pytest.mark.parametrize("chunk_seconds", [0.01, 0.032, 0.064, 0.25, 1.0])
def test_what_comes_as_it_is_spoken_is_live(chunk_seconds: float) -> None:
    stream = Stream()
    for _ in range(10):
        stream.live(chunk_seconds, chunk_seconds)
        assert stream.is_live


@pytest.mark.parametrize("every_seconds", [0.0, 0.001, 0.005, 0.01])
def test_a_recording_is_never_live_while_it_comes(every_seconds: float) -> None:
    stream = Stream()
    stream.at_once(0.3, 0.02, every_seconds)
    for _ in range(500):
        stream.at_once(0.02, 0.02, every_seconds)
        assert not stream.is_live


@pytest.mark.parametrize("stall_seconds", [0.1, 0.3, 0.6, 1.5, 10.0])
def test_a_recording_that_stalls_is_not_live_when_it_goes_on(stall_seconds: float) -> None:
    stream = Stream()
    stream.at_once(3.0)
    stream.clock.now += stall_seconds
    for _ in range(100):
        stream.at_once(0.02)
        assert not stream.is_live


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


def test_a_recording_that_comes_behind_a_stall_is_not_live() -> None:
    stream = Stream()
    stream.clock.now += 10
    stream.at_once(0.5)
    for _ in range(200):
        stream.at_once(0.02)
        assert not stream.is_live


def test_when_nothing_more_comes_it_is_over() -> None:
    stream = Stream()
    stream.at_once(10.0)
    assert stream.pace.doubt_seconds == pytest.approx(2.0, abs=0.1)
    stream.clock.now += 2.1
    assert stream.is_live


@given(
    st.lists(st.floats(0.0, 0.09), min_size=50, max_size=200),
    st.sampled_from([0.01, 0.02, 0.064]),
)
def test_a_network_that_jitters_changes_nothing(delays: list[float], chunk_seconds: float) -> None:
    stream = Stream()
    began = stream.clock.now
    for index, delay in enumerate(delays, 1):
        stream.clock.now = max(stream.clock.now, began + index * chunk_seconds + delay)
        stream.pace.add(chunk_seconds, stream.clock())
        assert stream.is_live
