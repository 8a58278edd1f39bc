"""Windows that are there before they are needed, and no silence before the first word."""

import numpy as np
import pytest

from satellite.engines.tts.leading_silence import LeadingSilence
from satellite.engines.tts.windows import Timeline, WindowPlanner
from tests.virtual_clock import ManualClock

FRAME_SECONDS = 256 / 22_050
LEAD_FRAMES = 4


def planner(fixed_seconds: float = 0.014, frame_seconds: float = 0.0006) -> WindowPlanner:
    return WindowPlanner(fixed_seconds, frame_seconds, FRAME_SECONDS, LEAD_FRAMES)


def played(
    planner: WindowPlanner, frames: int, slower: float = 1.0, lead_seconds: float = 0.0
) -> tuple[float, float, list[int]]:
    """Speak on a host `slower` than planned for; return the time to the first sound, that of gaps, and the windows."""
    clock = ManualClock(50.0)
    timeline = Timeline(lead_seconds, clock=clock)
    first_seconds = stalled_seconds = 0.0
    sizes: list[int] = []
    held = planner.held(frames, lead_seconds)
    begun = held == 0
    at = 0
    while at < frames:
        size = min(held - at, 64) if at < held else planner.next(frames - at, timeline.left_seconds)
        left_seconds, cost_seconds = timeline.left_seconds, slower * planner.cost_seconds(size)
        clock.now += cost_seconds
        at += size
        if begun:
            stalled_seconds += max(0.0, cost_seconds - left_seconds)
            timeline.add((size - LEAD_FRAMES * (at == size)) * FRAME_SECONDS)
        elif at >= held:
            begun = True
            first_seconds = clock.now - 50
            timeline.add((at - LEAD_FRAMES) * FRAME_SECONDS)
        sizes.append(size)
    return first_seconds, stalled_seconds, sizes


@pytest.mark.parametrize("frames", [3, 60, 400, 2000])
@pytest.mark.parametrize("costs", [(0.001, 0.0001), (0.014, 0.0006), (0.1, 0.004), (0.3, 0.009), (0.2, 0.03)])
@pytest.mark.parametrize("lead_seconds", [0, 0.03, 0.5, 4])
def test_the_sound_never_runs_out(frames: int, costs: tuple[float, float], lead_seconds: float) -> None:
    first_seconds, stalled_seconds, sizes = played(planner(*costs), frames, lead_seconds=lead_seconds)
    assert stalled_seconds == 0
    assert sum(sizes) == frames
    assert first_seconds <= sum(planner(*costs).cost_seconds(size) for size in sizes) + 1e-6


def test_the_first_sound_does_not_wait_for_the_rest() -> None:
    short, long = played(planner(), 60), played(planner(), 2000)
    assert short[0] == long[0] == pytest.approx(planner().cost_seconds(12))
    assert long[2][:3] == [12, 32, 128]


def test_a_sentence_that_follows_sound_begins_with_long_windows() -> None:
    assert played(planner(), 2000, lead_seconds=2)[2][0] == 128


def test_a_host_half_as_fast_as_measured_keeps_up() -> None:
    assert played(planner(), 1000, slower=1.9)[1] == 0


def test_the_estimate_rises_at_once_and_falls_slowly() -> None:
    pace = planner(0.01, 0.001)
    usual = pace.cost_seconds(32)
    pace.note(32, 4 * usual)
    assert pace.cost_seconds(32) == pytest.approx(4 * usual)
    assert pace.held(1000) > 8 + LEAD_FRAMES
    pace.note(32, usual)
    assert pace.cost_seconds(32) > 3 * usual
    for _ in range(60):
        pace.note(32, usual / 2)
    assert pace.cost_seconds(32) == pytest.approx(usual / 2, rel=0.01)


def test_costs_follow_from_two_windows() -> None:
    pace = WindowPlanner.measured({64: 0.074, 16: 0.026}, FRAME_SECONDS, 0)
    assert [pace.cost_seconds(0), pace.cost_seconds(100)] == pytest.approx([0.010, 0.110])


def test_a_timeline_counts_what_is_left() -> None:
    clock = ManualClock(50.0)
    timeline = Timeline(clock=clock)
    left: list[float] = [timeline.left_seconds]
    for added, passed in ((0.5, 0.2), (1.0, 0), (0, 5), (0.1, 0)):
        timeline.add(added)
        clock.now += passed
        left.append(timeline.left_seconds)
    assert left == pytest.approx([0, 0.3, 1.3, 0, 0.1])
    assert Timeline(2.0, clock=clock).left_seconds == pytest.approx(2)


@pytest.mark.parametrize("piece", [50, 256, 5000])
def test_leading_silence_is_left_out(piece: int) -> None:
    noise = np.random.default_rng(1).uniform(-1, 1, 22_050).astype(np.float32)
    spoken = np.concatenate(
        (noise[:3000] * 1e-3, noise[3000:9000] * 0.5, np.zeros(3000, np.float32), noise[:2000] * 0.5)
    )
    silence = LeadingSilence(22_050)
    heard = np.concatenate([silence.trim(spoken[at : at + piece]) for at in range(0, len(spoken), piece)])
    kept = len(heard) - (len(spoken) - 3000)
    assert 0 <= kept <= 0.006 * 22_050
    assert heard[kept:].tolist() == spoken[3000:].tolist()
    assert heard[0] == 0


def test_sound_that_begins_at_once_or_is_meant_to_be_soft_is_kept() -> None:
    tone = np.sin(np.arange(1, 2000)).astype(np.float32)
    assert LeadingSilence(16_000).trim(tone).tolist() == tone.tolist()
    soft = 0.003 * np.sin(np.arange(2000)).astype(np.float32)
    assert len(LeadingSilence(16_000).trim(soft)) == 0
    assert len(LeadingSilence(16_000, volume=0.01).trim(soft)) == 2000
    silence = LeadingSilence(16_000)
    pieces = [silence.trim(np.zeros(8_000, np.float32)) for _ in range(4)]
    assert [len(one) > 0 for one in pieces] == [False, False, True, True]
