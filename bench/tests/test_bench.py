"""The parts of the benchmark that all measurements share: statistics, playback, memory, servers in turn."""

import asyncio
import subprocess
import sys
import time

import psutil
import pytest
from satellite_bench import memory, synthetic
from satellite_bench.contest import Outcome, Pair, compete, turns
from satellite_bench.memory import Memory, MemoryState
from satellite_bench.server import Command, Server, free_port, started
from satellite_bench.stats import Compared, as_json, summarise
from satellite_bench.tts import Playback
from wyoming.audio import AudioChunk

from satellite.errors import SatelliteError

OURS, THEIRS = Server("ours", 1, 1), Server("theirs", 2, 2)


def test_one_value_is_its_own_summary() -> None:
    summary = summarise([7.0])
    assert (summary.n, summary.median, summary.p95, summary.max, summary.mean) == (1, 7.0, 7.0, 7.0, 7.0)


def test_nothing_measured_has_no_summary() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        summarise([])


def test_a_comparison_tells_how_ours_relates_to_theirs() -> None:
    assert Compared(summarise([50.0]), summarise([200.0])).median_ratio == 0.25
    assert Compared(summarise([50.0])).median_ratio is None
    assert as_json(Compared(summarise([0.0]), summarise([0.0])))["ratio"] == {"median": None, "p95": None}


def test_the_synthetic_corpus_has_some_sixty_different_phrases() -> None:
    assert 55 <= len(synthetic.PHRASES) == len(set(synthetic.PHRASES))
    assert not any(character.isdigit() for phrase in synthetic.PHRASES for character in phrase)


def _chunk(*levels: int, repeat: int = 1) -> AudioChunk:
    """Return a millisecond of each level, `repeat` times."""
    pcm = b"".join(4 * level.to_bytes(2, "little", signed=True) for level in levels) * repeat
    return AudioChunk(rate=4000, width=2, channels=1, audio=pcm)


def test_silence_before_the_words_takes_its_time() -> None:
    playback = Playback()
    playback.take(_chunk(0, repeat=100), 50.0)
    playback.take(_chunk(0, 0, 327, -328), 60.0)
    assert playback.first_audio_ms == 50.0
    assert playback.first_audible_ms == pytest.approx(50 + 100 + 3)
    assert playback.audio_ms == pytest.approx(104)
    assert playback.stall_ms == 0.0


def test_a_chunk_that_comes_late_is_a_gap() -> None:
    playback = Playback()
    playback.take(_chunk(9000, repeat=100), 10.0)
    playback.take(_chunk(9000, repeat=100), 150.0)
    playback.take(_chunk(9000, repeat=100), 160.0)
    assert playback.stall_ms == pytest.approx(40.0)


def test_silence_alone_is_never_audible() -> None:
    playback = Playback()
    playback.take(_chunk(0, repeat=10), 5.0)
    assert playback.first_audible_ms is None


def test_the_order_swaps_with_every_item_and_every_repeat() -> None:
    first = [(item, servers[0].name) for item, servers in turns(Pair(OURS, THEIRS), ["a", "b"], 2)]
    assert first == [("a", "ours"), ("b", "theirs"), ("a", "theirs"), ("b", "ours")]


def test_a_failed_request_is_counted_and_the_contest_goes_on() -> None:
    async def request(server: Server, item: str) -> float:
        if server is THEIRS and item == "b":
            raise SatelliteError("out of order")
        return float(server.port)

    outcome = asyncio.run(compete(Pair(OURS, THEIRS), ["a", "b"], request, repeats=1))
    assert outcome.ours == [("a", 1.0), ("b", 1.0)]
    assert outcome.theirs == [("a", 2.0), ("b", None)]
    assert outcome.failures == ["theirs: out of order"]
    compared = outcome.compared(lambda result: result)
    assert compared.theirs is not None
    assert (compared.ours.n, compared.theirs.n) == (2, 1)


def test_a_side_that_never_answered_has_no_figure() -> None:
    outcome: Outcome[str, float] = Outcome(ours=[("a", None)], failures=["ours: down"])
    with pytest.raises(SatelliteError, match="ours: down"):
        outcome.compared(lambda result: result)


def test_memory_is_that_of_all_processes() -> None:
    with subprocess.Popen([sys.executable, "-c", "import subprocess; subprocess.run(['sleep', '60'])"]) as parent:
        while not (children := psutil.Process(parent.pid).children()):
            time.sleep(0.01)
        try:
            both, alone = (memory.of(Server("it", 1, process)) for process in (parent.pid, children[0].pid))
        finally:
            children[0].kill()
    assert 0 < alone.rss_mib < both.rss_mib <= both.peak_rss_mib
    assert 0 < both.pss_mib <= both.rss_mib


def test_a_server_that_has_ended_has_no_memory_to_be_proud_of() -> None:
    with pytest.raises(SatelliteError, match="gone cannot be read"):
        memory.of(Server("gone", 1, process_id=2**22 + 1))


def test_their_memory_is_the_sum_of_their_processes() -> None:
    theirs = {"stt": Memory(10.0, 20.0), "tts": Memory(1.0, 2.0)}
    assert MemoryState(Memory(1.0, 1.0), theirs).their_sum == Memory(11.0, 22.0)
    assert MemoryState(Memory(1.0, 1.0), {}).their_sum is None


def test_a_server_that_ends_at_once_shows_its_log() -> None:
    async def run() -> None:
        async with started(Command("broken", free_port(), ["sh", "-c", "echo no such model; exit 3"])):
            pytest.fail("it cannot have answered")

    with pytest.raises(SatelliteError, match=r"(?s)broken ended with status 3.*no such model"):
        asyncio.run(run())
