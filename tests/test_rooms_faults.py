"""What users of satellites have suffered for years: long sound, open microphones, runaway retries, log noise."""

import logging
import subprocess
import sys
import time
from pathlib import Path

import pytest

from satellite.audio.pcm import AudioFormat
from satellite.rooms.playback import SharedSound
from satellite.rooms.room import LinkState
from tests.doubles.satellite import ScriptedSatellite
from tests.driven_rooms import rooms
from tests.running_daemon import RunningDaemon, on_loop_of
from tests.waiting import PATIENCE_SECONDS, until

pytestmark = pytest.mark.models

SOUND = AudioFormat(22_050)


@on_loop_of("daemon")
async def test_a_link_survives_sound_that_is_longer_than_its_patience(daemon: RunningDaemon) -> None:
    """Pings go on while sound is played (wyoming-satellite#278, home-assistant/core#137135)."""
    async with ScriptedSatellite(mode="wake") as satellite, rooms(daemon, satellite) as hub:
        assert await hub.announce([], SharedSound.complete(SOUND, bytes(2 * 22_050 * 7))) == {}
        assert satellite.speaker.utterances[-1].pcm.count(b"\0") == 2 * 22_050 * 7
        assert (hub.satellites[0].state, hub.satellites[0].reconnections) == (LinkState.CONNECTED, 0)


@on_loop_of("daemon")
async def test_a_satellite_that_never_plays_holds_nobody_up(daemon: RunningDaemon, question: bytes) -> None:
    """`played` is awaited with a bound (wyoming-satellite#154)."""
    async with ScriptedSatellite(mode="wake", refractory_seconds=0) as satellite, rooms(daemon, satellite) as hub:
        satellite.never_plays = True
        await satellite.wake()
        await satellite.say(question)
        await satellite.until("audio-stop")
        await until(lambda: hub.satellites[0].status().doing == "idle")
        satellite.never_plays = False
        await satellite.wake()
        await satellite.say(question)
        await satellite.until("audio-stop")


@on_loop_of("daemon")
async def test_a_failing_stage_closes_the_microphone(daemon: RunningDaemon, question: bytes) -> None:
    """Whatever breaks, the run ends (wyoming-satellite#195, #190)."""
    async with ScriptedSatellite(mode="wake") as satellite, rooms(daemon, satellite, voice="nobody"):
        await satellite.wake()
        await satellite.say(question)
        assert (await satellite.until("transcript")).data["text"] == "What is the capital of France?"
        assert (await satellite.until("error")).data["code"].startswith("tts-")
        assert not satellite.streaming


@on_loop_of("daemon")
async def test_a_microphone_that_does_not_close_is_told_again(daemon: RunningDaemon, question: bytes) -> None:
    """Until it does: wyoming-satellite 1.0 heeds a `transcript`, but no `error`."""
    satellite = ScriptedSatellite(mode="wake", never_stops_streaming=True)
    async with satellite, rooms(daemon, satellite, voice="nobody"):
        await satellite.wake()
        await satellite.say(question)
        await satellite.until("transcript")
        await satellite.until("error")
        for _ in range(2):
            assert (await satellite.until("transcript")).data["text"] == ""
        satellite.never_stops_streaming = False
        await satellite.until("transcript")
        await until(lambda: not satellite.streaming)


@on_loop_of("daemon")
async def test_a_run_that_fails_at_once_is_tried_ever_more_rarely(
    daemon: RunningDaemon, caplog: pytest.LogCaptureFixture
) -> None:
    """A satellite that wants runs without end must not get them without end (home-assistant/core#136494)."""
    async with ScriptedSatellite(mode="always") as satellite, rooms(daemon, satellite, wake_words=("nonsense",)):
        began = time.monotonic()
        for _ in range(3):
            await satellite.until("error")
        assert time.monotonic() - began >= 1.4  # 0.5 s, then 1 s
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 0


@on_loop_of("daemon")
async def test_a_room_that_is_off_holds_up_nobody(daemon: RunningDaemon, question: bytes) -> None:
    """Not the start, not the other rooms (wyoming-satellite#114); and it is told once (OHF-Voice/wyoming#48)."""
    off, on = ScriptedSatellite(mode="wake", name="off"), ScriptedSatellite(mode="wake", name="on")
    async with off, on:
        await off.stop()
        async with rooms(daemon, off, on) as hub:
            await on.wake()
            await on.say(question)
            await on.until("audio-stop")
            assert [link.state for link in hub.satellites] == [LinkState.OFF, LinkState.CONNECTED]


@on_loop_of("daemon")
async def test_a_normal_end_is_no_noise_in_the_log(daemon: RunningDaemon, caplog: pytest.LogCaptureFixture) -> None:
    """A satellite that goes and comes is two lines, without a traceback."""
    with caplog.at_level(logging.INFO):
        async with ScriptedSatellite(mode="always") as satellite, rooms(daemon, satellite) as hub:
            await until(lambda: hub.satellites[0].state is LinkState.CONNECTED)
            caplog.clear()
            await satellite.reboot(0.2)
            await until(lambda: hub.satellites[0].state is not LinkState.CONNECTED)
            await until(lambda: hub.satellites[0].state is LinkState.CONNECTED)
    told = [record for record in caplog.records if "kitchen" in record.getMessage()]
    assert 1 < len(told) <= 4
    assert not any(record.exc_info for record in caplog.records)


def test_a_link_that_swallows_everything_is_found_dead() -> None:
    """Packets are dropped without a word, in a network of its own: both ends believe that the other one is there."""
    command = [sys.executable, "-m", "tests.half_open"]
    done = subprocess.run(
        command, cwd=Path(__file__).parent.parent, capture_output=True, timeout=PATIENCE_SECONDS, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["connected", "off", "connected"]
