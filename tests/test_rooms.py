"""Conversations with satellites of every kind, over real connections, and what their users have suffered from."""

import asyncio
import logging
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from wyoming.event import Event
from wyoming.info import Describe

from satellite.audio.pcm import BYTES_PER_SECOND, AudioFormat
from satellite.config.rooms import WyomingRoomSettings
from satellite.rooms.playback import SharedSound
from satellite.rooms.room import LinkState
from tests.doubles.satellite import ScriptedSatellite
from tests.driven_rooms import NABU, PAUSE, QUESTION, ask, hub_of, rooms, spoken, understood
from tests.host_room import running
from tests.running_daemon import RunningDaemon, on_loop_of
from tests.waiting import PATIENCE_SECONDS, until
from tests.wyoming_client import connect

pytestmark = pytest.mark.models

VOICE = AudioFormat(22_050)
STORY = "Tell me a long story about a horse and a dragon."


def silence(seconds: float) -> SharedSound:
    return SharedSound.complete(VOICE, bytes(2 * round(seconds * VOICE.rate)))


@pytest.mark.parametrize(
    ("microphone", "speaker", "settings"),
    [
        pytest.param(AudioFormat(44_100, 3, 2), AudioFormat(44_100, 3, 2), {"mode": "wake"}, id="own wake word"),
        pytest.param(
            AudioFormat(8_000, 1, 1), VOICE, {"mode": "wake", "send_run_pipeline": False}, id="a bare detection"
        ),
        pytest.param(
            AudioFormat(48_000, 4, 1), AudioFormat(48_000, 4, 1), {"mode": "always"}, id="streams all the time"
        ),
        pytest.param(
            AudioFormat(),
            AudioFormat(8_000, 1, 1),
            {"mode": "vad", "vad_timeout_seconds": 30},
            id="streams when somebody speaks",
        ),
        pytest.param(
            AudioFormat(), VOICE, {"mode": "vad", "vad_timeout_seconds": 2.5}, id="stops in the middle of the command"
        ),
    ],
)
@on_loop_of("daemon")
async def test_a_question_is_answered(
    daemon: RunningDaemon, question: bytes, microphone: AudioFormat, speaker: AudioFormat, settings: dict[str, Any]
) -> None:
    satellite = ScriptedSatellite(microphone_format=microphone, speaker_format=speaker, **settings)
    async with satellite, rooms(daemon, satellite) as hub:
        for _ in range(2):
            assert await ask(satellite, question) == QUESTION
            assert satellite.streaming is (satellite.mode == "always")
            await satellite.until("audio-stop")
            assert "Paris" in await understood(daemon, satellite)
            assert satellite.speaker.utterances[-1].formats == [speaker]
            await until(lambda: hub.satellites[0].status().doing in ("idle", "waiting for the wake word"))


@on_loop_of("daemon")
async def test_people_who_talk_among_themselves_are_no_error(daemon: RunningDaemon, question: bytes) -> None:
    async with ScriptedSatellite(mode="vad", vad_timeout_seconds=1) as satellite, rooms(daemon, satellite) as hub:
        await satellite.say(question)
        await until(lambda: hub.satellites[0].status().doing == "idle")
        satellite.vad_timeout_seconds = 30
        assert await ask(satellite, question) == QUESTION


@on_loop_of("daemon")
async def test_a_run_ends_whatever_a_satellite_lacks(daemon: RunningDaemon, question: bytes) -> None:
    """`played` is awaited with a bound (wyoming-satellite#154)."""
    async with ScriptedSatellite(has_speaker=False) as satellite, rooms(daemon, satellite) as hub:
        assert await ask(satellite, question) == QUESTION
        await satellite.until("handled")
        await until(lambda: hub.satellites[0].status().doing == "idle")
        assert not satellite.speaker.utterances
        satellite.has_speaker, satellite.never_plays = True, True
        for _ in range(2):
            assert await ask(satellite, question) == QUESTION
            await satellite.until("audio-stop")
            await until(lambda: hub.satellites[0].status().doing == "idle")
            satellite.never_plays = False
        assert await ask(satellite, b"") == "stt-no-speech"
        assert not satellite.streaming
        satellite.silent_microphone = True
        await satellite.wake()
        assert (await satellite.until("transcript", "error")).type == "error"


@on_loop_of("daemon")
async def test_the_wake_word_silences_the_answer(daemon: RunningDaemon, question: bytes) -> None:
    story = await spoken(daemon, STORY)
    async with ScriptedSatellite(mode="always", name="parlour") as satellite, rooms(daemon, satellite) as hub:
        await ask(satellite, story)
        await satellite.until("audio-start")
        await satellite.say(NABU)
        stopped = await satellite.until("audio-stop")
        again = await satellite.until("detection")
        assert stopped.at <= again.at
        remembered = daemon.daemon._stages.dialogue.beginning("room parlour")
        assert sum(len(message.content) for message in remembered if message.role == "assistant") < 100
        await satellite.say(PAUSE + question)
        assert (await satellite.until("transcript", "error")).data.get("text") == QUESTION
        await satellite.until("audio-stop")
        assert "Paris" in await understood(daemon, satellite)
        assert hub.satellites[0].state is LinkState.CONNECTED


@on_loop_of("daemon")
async def test_a_word_silences_the_answer(daemon: RunningDaemon) -> None:
    story = await spoken(daemon, STORY)
    stop = await spoken(daemon, "Stop.")
    spoken_already = await spoken(daemon, "Lovely.", quiet_seconds=0)
    async with ScriptedSatellite(mode="always") as satellite, rooms(daemon, satellite):
        await satellite.say(NABU + PAUSE + story)
        await satellite.until("audio-start")
        await satellite.say(spoken_already + PAUSE)
        assert "audio-stop" not in [event.type for event in satellite.events]
        await satellite.say(stop)
        await satellite.until("audio-stop")
        await satellite.until("detect")
        await satellite.say(NABU)
        await satellite.until("detection")


@on_loop_of("daemon")
@pytest.mark.parametrize("how", ["announce", "play"])
async def test_a_word_ends_a_sound_and_a_question_is_answered_without_the_wake_word(
    how: str, daemon: RunningDaemon
) -> None:
    stop, yes = await spoken(daemon, "Stop."), await spoken(daemon, "Yes, please.")
    long = SharedSound.complete(VOICE, bytes(300 * 44_100))
    async with ScriptedSatellite(mode="always") as satellite, rooms(daemon, satellite) as hub:
        room = hub.room(satellite.name)
        sounding = asyncio.create_task(getattr(room, how)(long))
        await satellite.until("audio-start")
        await satellite.say(PAUSE + stop)
        await satellite.until("audio-stop")
        await sounding
        asking = asyncio.create_task(room.ask(SharedSound.complete(VOICE, bytes(22_050))))
        await satellite.until("audio-stop")
        await until(lambda: room.status().doing == "listening")
        await satellite.say(PAUSE + yes)
        assert "yes" in (await asking).text.lower()


@on_loop_of("daemon")
async def test_it_listens_again_without_the_wake_word(daemon: RunningDaemon, question: bytes) -> None:
    async with ScriptedSatellite(mode="always") as satellite, rooms(daemon, satellite, follow_up="always"):
        await ask(satellite, question)
        await satellite.until("audio-stop")
        for _ in range(2):
            await satellite.until("transcribe")
        await satellite.say(question)
        assert (await satellite.until("transcript", "error")).data.get("text") == QUESTION
        await satellite.until("audio-stop")
        assert (await satellite.until("transcript", "error")).data == {"text": ""}


@pytest.mark.parametrize("hangs_up", [True, False])
@on_loop_of("daemon")
async def test_a_satellite_of_another_server_is_told_apart(daemon: RunningDaemon, hangs_up: bool) -> None:
    async with ScriptedSatellite(refuse=True, hangs_up=hangs_up) as satellite, rooms(daemon, satellite) as hub:
        await until(lambda: hub.satellites[0].state is LinkState.HELD)
        assert "belongs to another server" in hub.satellites[0].summary
        satellite.refuse = False
        await until(lambda: hub.satellites[0].state is LinkState.CONNECTED)


@on_loop_of("daemon")
async def test_what_is_no_satellite_is_reported(daemon: RunningDaemon) -> None:
    hub = hub_of(daemon.daemon, WyomingRoomSettings(name="x", uri=daemon.uri))
    hub.start()
    await until(lambda: hub.satellites[0].state is LinkState.NO_SATELLITE)
    await hub.stop()


@pytest.mark.parametrize("trouble", ["vanish", "hang", "garbage", "header", "reboot"])
@on_loop_of("daemon")
async def test_a_satellite_that_breaks_in_the_middle_comes_back(
    daemon: RunningDaemon, question: bytes, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with ScriptedSatellite() as satellite, rooms(daemon, satellite) as hub:
        (room,) = hub.satellites
        await satellite.wake()
        await satellite.say(question[:BYTES_PER_SECOND])
        match trouble:
            case "vanish":
                satellite.vanish()
            case "hang":
                satellite.hang()
            case "reboot":
                await satellite.stop()
                await satellite.start()
            case broken:
                await satellite.send_broken(broken)  # type: ignore[arg-type]
        await until(lambda: room.state is not LinkState.CONNECTED or bool(room.reconnections))
        satellite.thaw()
        await until(lambda: room.state is LinkState.CONNECTED)
        await until(lambda: satellite.claimed)
        await satellite.wake()
        await satellite.say(question)
        assert (await satellite.until("transcript")).data["text"] == QUESTION
    assert 2 < len([record for record in caplog.records if "room kitchen" in record.getMessage()]) <= 5
    assert not any(record.exc_info for record in caplog.records)


@on_loop_of("daemon")
async def test_a_link_survives_nonsense_and_long_sound_and_is_given_back(
    daemon: RunningDaemon, question: bytes
) -> None:
    """Pings go on while sound is played (wyoming-satellite#278, home-assistant/core#137135)."""
    async with ScriptedSatellite() as satellite:
        async with rooms(daemon, satellite) as hub:
            await satellite.send(Event("gesture-seen", {"gesture": "thumbs-up"}, b"picture"))
            await satellite.send(Event("run-pipeline", {"start_stage": "tts", "end_stage": "wake"}))
            assert (await satellite.until("error")).data["code"] == "protocol-error"
            assert await ask(satellite, question) == QUESTION
            await satellite.until("audio-stop")
            assert await hub.announce([], silence(7)) == {}  # longer than the satellite waits for a ping
            assert len(satellite.speaker.utterances[-1].pcm) == 2 * 22_050 * 7
            assert (hub.satellites[0].state, hub.satellites[0].reconnections) == (LinkState.CONNECTED, 0)
        await satellite.until("pause-satellite")
        await until(lambda: not satellite.claimed)


@on_loop_of("daemon")
async def test_broken_rooms_disturb_no_other_and_what_waits_for_an_engine_is_bounded(
    daemon: RunningDaemon, question: bytes
) -> None:
    good = [ScriptedSatellite(mode="always", name=name) for name in ("hall", "kitchen", "study")]
    broken = [ScriptedSatellite(mode="always", name=name) for name in ("garbage", "stalls", "vanishes")]
    garbage, stalls, vanishes = broken

    async def disturb() -> None:
        stalls.hang()
        while True:
            await garbage.send_broken("garbage")
            vanishes.vanish()
            await asyncio.sleep(0.3)

    async with (
        good[0],
        good[1],
        good[2],
        garbage,
        stalls,
        vanishes,
        rooms(daemon, *good, *broken, follow_up="never") as hub,
    ):
        for satellite in (*good, *broken):
            await satellite.until("detect")
        async with running(disturb()), connect(daemon.port()) as client:
            assert await ask(good[0], question) == QUESTION
            await client.send(Describe())
            await client.until("info")
        # The wake word engine does nothing for longer than a queue may hold.
        await daemon.daemon._workers["wake"].run(time.sleep, 6.5)
        devices = [link._device for link in hub.satellites[:3]]
        assert all(
            device is not None and device.conversation._inbox._bytes <= 5.5 * BYTES_PER_SECOND for device in devices
        )
        # A busy machine catches up first: what is said meanwhile would lie beyond the bound.
        await until(lambda: all(d is not None and d.conversation._inbox._bytes < BYTES_PER_SECOND for d in devices))
        assert await ask(good[1], question) == QUESTION
        assert [(link.state, link.reconnections) for link in hub.satellites[:3]] == [(LinkState.CONNECTED, 0)] * 3


@on_loop_of("daemon")
async def test_one_room_answers(daemon: RunningDaemon, question: bytes) -> None:
    near, far = ScriptedSatellite(mode="always", name="near"), ScriptedSatellite(mode="always", name="far")
    async with near, far, rooms(daemon, near, far):
        faint = (np.frombuffer(NABU, np.int16) // 6).astype(np.int16).tobytes()
        await asyncio.sleep(3)  # the noise of the rooms has to be known
        await asyncio.gather(near.say(NABU + PAUSE + question), far.say(faint + PAUSE + question))
        await near.until("audio-stop")
        assert not far.speaker.utterances
        assert "Paris" in await understood(daemon, near)


@on_loop_of("daemon")
async def test_an_announcement_waits_for_a_conversation_but_nobody_for_a_room_that_is_off(
    daemon: RunningDaemon, question: bytes
) -> None:
    """Neither the start nor the other rooms wait (wyoming-satellite#114); it is dialled until it is on."""
    busy, idle = ScriptedSatellite(mode="always", name="busy"), ScriptedSatellite(name="idle")
    async with busy, idle:
        await idle.stop()
        async with rooms(daemon, busy, idle) as hub:
            speaking = asyncio.create_task(busy.say(NABU + PAUSE + question))
            await busy.until("detection")
            assert list(await hub.announce([], silence(0.5))) == ["idle"]
            await speaking
            assert (await busy.until("transcript", "error")).data.get("text") == QUESTION
            assert [room.state for room in hub.satellites] == [LinkState.CONNECTED, LinkState.OFF]
            await idle.start()
            await until(lambda: hub.satellites[1].state is LinkState.CONNECTED)
            assert await hub.announce([], silence(0.05)) == {}
            assert [len(one.speaker.utterances) for one in (busy, idle)] == [3, 1]


@on_loop_of("daemon")
async def test_a_microphone_that_does_not_close_is_told_again(daemon: RunningDaemon, question: bytes) -> None:
    """Whatever breaks, the run ends (wyoming-satellite#195, #190); 1.0 heeds a `transcript`, but no `error`."""
    satellite = ScriptedSatellite(never_stops_streaming=True)
    async with satellite, rooms(daemon, satellite, voice="nobody"):
        assert await ask(satellite, question) == QUESTION
        assert (await satellite.until("error")).data["code"].startswith("tts-")
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
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_link_that_swallows_everything_is_found_dead() -> None:
    command = [sys.executable, "-m", "tests.half_open"]
    done = subprocess.run(
        command, cwd=Path(__file__).parent.parent, capture_output=True, timeout=PATIENCE_SECONDS, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["connected", "off", "connected"]
