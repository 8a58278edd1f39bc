"""Whole conversations with satellites of every kind, over real connections, and what they do when they misbehave."""

import asyncio

import numpy as np
import pytest

from satellite.audio.pcm import BYTES_PER_SECOND, AudioFormat
from satellite.config.rooms import WyomingRoomSettings
from satellite.rooms.playback import SharedSound
from satellite.rooms.room import LinkState
from tests.doubles.satellite import INVALID_PIPELINE, UNKNOWN, ScriptedSatellite
from tests.driven_rooms import NABU, PAUSE, hub_of, rooms, spoken, understood
from tests.running_daemon import RunningDaemon, on_loop_of
from tests.waiting import until

pytestmark = pytest.mark.models

ALL_FORMATS = [AudioFormat(44_100, 3, 2), AudioFormat(48_000, 4, 1), AudioFormat(8_000, 1, 1)]


@on_loop_of("daemon")
async def test_a_satellite_with_its_own_wake_word(daemon: RunningDaemon, question: bytes) -> None:
    """It detects, streams, is told to stop, and plays the answer."""
    async with ScriptedSatellite(mode="wake", pipeline="legacy") as satellite, rooms(daemon, satellite) as hub:
        await satellite.wake()
        await satellite.say(question)
        assert (await satellite.until("transcript", "error")).data["text"] == "What is the capital of France?"
        assert not satellite.streaming
        await satellite.until("audio-stop")
        assert "Paris" in await understood(daemon, satellite)
        await until(lambda: hub.satellites[0].status().doing == "idle")


@on_loop_of("daemon")
async def test_a_satellite_that_streams_all_the_time(daemon: RunningDaemon, question: bytes) -> None:
    """The wake word is heard here, again and again, and every run ends."""
    async with ScriptedSatellite(mode="always") as satellite, rooms(daemon, satellite):
        for _ in range(2):
            await satellite.say(NABU + PAUSE + question)
            await satellite.until("detection")
            assert (await satellite.until("transcript", "error")).data["text"] == "What is the capital of France?"
            await satellite.until("audio-stop")
            assert "Paris" in await understood(daemon, satellite)
            await satellite.until("detect")


@on_loop_of("daemon")
async def test_a_satellite_that_streams_when_somebody_speaks(daemon: RunningDaemon, question: bytes) -> None:
    """What it heard just before comes first, in one piece."""
    async with ScriptedSatellite(mode="vad", vad_timeout_seconds=30) as satellite, rooms(daemon, satellite):
        await satellite.say(NABU + PAUSE + question)
        await satellite.until("detection")
        assert (await satellite.until("transcript", "error")).data["text"] == "What is the capital of France?"
        assert not satellite.streaming
        await satellite.until("audio-stop")


@on_loop_of("daemon")
async def test_a_command_longer_than_the_satellite_cares_to_stream(daemon: RunningDaemon, question: bytes) -> None:
    """It stops amid the command and goes on at once: to the daemon that is one command."""
    async with ScriptedSatellite(mode="vad", vad_timeout_seconds=2.5) as satellite, rooms(daemon, satellite):
        await satellite.say(NABU + PAUSE + question)
        await satellite.until("detection")
        assert (await satellite.until("transcript", "error")).data["text"] == "What is the capital of France?"
        await satellite.until("audio-stop")
        assert "Paris" in await understood(daemon, satellite)


@on_loop_of("daemon")
async def test_people_who_talk_among_themselves_are_no_error(daemon: RunningDaemon, question: bytes) -> None:
    """A satellite that streams when somebody speaks gives up, and the daemon says nothing; then the call is heard."""
    async with ScriptedSatellite(mode="vad", vad_timeout_seconds=1) as satellite, rooms(daemon, satellite) as hub:
        await satellite.say(question)
        await until(lambda: hub.satellites[0].status().doing == "idle")
        satellite.vad_timeout_seconds = 30
        await satellite.say(NABU + PAUSE + question)
        await satellite.until("detection")
        assert (await satellite.until("transcript", "error")).data["text"] == "What is the capital of France?"


@on_loop_of("daemon")
async def test_a_satellite_without_a_speaker_gets_no_sound(daemon: RunningDaemon, question: bytes) -> None:
    """The answer ends before speech."""
    async with ScriptedSatellite(mode="wake", has_speaker=False) as satellite, rooms(daemon, satellite) as hub:
        await satellite.wake()
        await satellite.say(question)
        await satellite.until("handled")
        await until(lambda: hub.satellites[0].status().doing == "idle")
        assert not satellite.speaker.utterances


@on_loop_of("daemon")
async def test_a_satellite_that_only_says_that_it_was_called(daemon: RunningDaemon, question: bytes) -> None:
    """A bare `detection` is a request for a run."""
    async with ScriptedSatellite(mode="wake", send_run_pipeline=False) as satellite, rooms(daemon, satellite):
        await satellite.wake()
        await satellite.say(question)
        assert (await satellite.until("transcript", "error")).data["text"] == "What is the capital of France?"
        await satellite.until("audio-stop")


@pytest.mark.parametrize("sound", ALL_FORMATS)
@on_loop_of("daemon")
async def test_any_microphone_and_any_speaker(daemon: RunningDaemon, question: bytes, sound: AudioFormat) -> None:
    """Audio is understood in every format, and sent in the one that the speaker wants."""
    satellite = ScriptedSatellite(mode="wake", microphone_format=sound, speaker_format=sound)
    async with satellite, rooms(daemon, satellite):
        await satellite.wake()
        await satellite.say(question)
        assert "capital of France" in (await satellite.until("transcript", "error")).data["text"]
        await satellite.until("audio-stop")
        assert satellite.speaker.utterances[-1].formats == [sound]
        assert "Paris" in await understood(daemon, satellite)


@on_loop_of("daemon")
async def test_the_wake_word_silences_the_answer(daemon: RunningDaemon, question: bytes) -> None:
    """The sound stops in its middle, the new command is heard, and what was not heard is not remembered."""
    story = await spoken(daemon, "Tell me a long story about a horse and a dragon.")
    async with ScriptedSatellite(mode="always", name="parlour") as satellite, rooms(daemon, satellite) as hub:
        await satellite.say(NABU + PAUSE + story)
        await satellite.until("detection")
        await satellite.until("audio-start")
        await satellite.say(NABU)
        stopped = await satellite.until("audio-stop")
        again = await satellite.until("detection")
        assert again.at - stopped.at < 1
        remembered = daemon.daemon._stages.dialogue.beginning("room parlour")
        assert sum(len(message.content) for message in remembered if message.role == "assistant") < 100
        await satellite.say(PAUSE + question)
        await satellite.until("transcript")
        assert (await satellite.until("transcript", "error")).data.get("text") == "What is the capital of France?"
        await satellite.until("audio-stop")
        assert "Paris" in await understood(daemon, satellite)
        assert hub.satellites[0].state is LinkState.CONNECTED


@on_loop_of("daemon")
async def test_a_word_silences_the_answer(daemon: RunningDaemon) -> None:
    """“Stop” needs no wake word while the daemon speaks; other words do not interrupt."""
    story = await spoken(daemon, "Tell me a long story about a horse and a dragon.")
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
async def test_it_listens_again_without_the_wake_word(daemon: RunningDaemon, question: bytes) -> None:
    """After an answer the room may simply go on; if nobody does, that is no error."""
    async with ScriptedSatellite(mode="always") as satellite, rooms(daemon, satellite, follow_up="always"):
        await satellite.say(NABU + PAUSE + question)
        await satellite.until("audio-stop")
        await satellite.until("transcribe")
        await satellite.until("transcribe")
        await satellite.say(question)
        await satellite.until("transcript")
        assert (await satellite.until("transcript", "error")).data.get("text") == "What is the capital of France?"
        await satellite.until("audio-stop")
        assert (await satellite.until("transcript", "error")).data == {"text": ""}


@on_loop_of("daemon")
async def test_nobody_speaks_and_the_microphone_is_closed(daemon: RunningDaemon) -> None:
    """By a deadline, with an error, and it can be called again."""
    async with ScriptedSatellite(mode="wake") as satellite, rooms(daemon, satellite):
        await satellite.wake()
        assert (await satellite.until("transcript", "error")).data["code"] == "stt-no-speech"
        assert not satellite.streaming


@on_loop_of("daemon")
async def test_a_microphone_that_sends_nothing_is_closed(daemon: RunningDaemon) -> None:
    """The clock is a bound of its own."""
    async with ScriptedSatellite(mode="wake", silent_microphone=True) as satellite, rooms(daemon, satellite):
        await satellite.wake()
        assert (await satellite.until("transcript", "error")).type == "error"


@pytest.mark.parametrize("hangs_up", [True, False])
@on_loop_of("daemon")
async def test_a_satellite_of_another_server_is_told_apart(daemon: RunningDaemon, hangs_up: bool) -> None:
    """From one that is off, with what to do about it; when it is free, it is taken."""
    satellite = ScriptedSatellite(mode="wake", refuse=True, hangs_up=hangs_up)
    async with satellite, rooms(daemon, satellite) as hub:
        await until(lambda: hub.satellites[0].state is LinkState.HELD)
        assert "belongs to another server" in hub.satellites[0].summary
        satellite.refuse = False
        await until(lambda: hub.satellites[0].state is LinkState.CONNECTED)


@on_loop_of("daemon")
async def test_a_satellite_that_is_off_is_dialled_until_it_is_on(daemon: RunningDaemon) -> None:
    """And what is no satellite is told."""
    satellite = ScriptedSatellite(mode="wake")
    async with satellite:
        await satellite.stop()
        async with rooms(daemon, satellite) as hub:
            assert hub.satellites[0].state is LinkState.OFF
            await satellite.start()
            await until(lambda: hub.satellites[0].state is LinkState.CONNECTED)
    other = hub_of(daemon.daemon, WyomingRoomSettings(name="x", uri=daemon.uri))
    other.start()
    await until(lambda: other.satellites[0].state is LinkState.NO_SATELLITE)
    await other.stop()


@pytest.mark.parametrize("trouble", ["vanish", "hang", "garbage", "header", "reboot"])
@on_loop_of("daemon")
async def test_a_satellite_that_breaks_in_the_middle_comes_back(
    daemon: RunningDaemon, question: bytes, trouble: str
) -> None:
    """Whatever it does in the middle of a command, it is dialled again, and works."""
    async with ScriptedSatellite(mode="wake", refractory_seconds=0) as satellite, rooms(daemon, satellite) as hub:
        await satellite.wake()
        await satellite.say(question[:BYTES_PER_SECOND])
        match trouble:
            case "vanish":
                satellite.vanish()
            case "hang":
                satellite.hang()
            case "reboot":
                await satellite.reboot(0.5)
            case broken:
                await satellite.send_broken(broken)  # type: ignore[arg-type]
        await until(lambda: hub.satellites[0].state is not LinkState.CONNECTED or bool(hub.satellites[0].reconnections))
        satellite.thaw()
        await until(lambda: hub.satellites[0].state is LinkState.CONNECTED)
        await asyncio.sleep(0.1)
        await satellite.wake()
        await satellite.say(question)
        assert (await satellite.until("transcript")).data["text"] == "What is the capital of France?"


@on_loop_of("daemon")
async def test_nonsense_is_answered_and_costs_nothing(daemon: RunningDaemon, question: bytes) -> None:
    """A run that cannot be is an error, what is unknown is ignored, and the satellite stays connected."""
    async with ScriptedSatellite(mode="wake") as satellite, rooms(daemon, satellite) as hub:
        await satellite.send(UNKNOWN)
        await satellite.send(INVALID_PIPELINE)
        assert (await satellite.until("error")).data["code"] == "protocol-error"
        await satellite.wake()
        await satellite.say(question)
        await satellite.until("transcript")
        assert hub.satellites[0].reconnections == 0


@on_loop_of("daemon")
async def test_one_room_answers(daemon: RunningDaemon, question: bytes) -> None:
    """Both hear the wake word; the one that hears it better has the call, the other is released."""
    near, far = ScriptedSatellite(mode="always", name="near"), ScriptedSatellite(mode="always", name="far")
    async with near, far, rooms(daemon, near, far):
        faint = (np.frombuffer(NABU, np.int16) // 6).astype(np.int16).tobytes()
        await asyncio.sleep(3)  # the noise of the rooms has to be known
        await asyncio.gather(near.say(NABU + PAUSE + question), far.say(faint + PAUSE + question))
        await near.until("audio-stop")
        assert not far.speaker.utterances
        assert "Paris" in await understood(daemon, near)


@on_loop_of("daemon")
async def test_an_announcement_waits_for_a_conversation(daemon: RunningDaemon, question: bytes) -> None:
    """It is heard in every room, in one that speaks only after that."""
    busy, idle = ScriptedSatellite(mode="always", name="busy"), ScriptedSatellite(mode="wake", name="idle")
    async with busy, idle, rooms(daemon, busy, idle) as hub:
        speaking = asyncio.create_task(busy.say(NABU + PAUSE + question))
        await busy.until("detection")
        failed = await hub.announce([], SharedSound.complete(AudioFormat(22_050), bytes(22_050)))
        await speaking
        assert failed == {}
        assert len(busy.speaker.utterances) == 2
        assert len(idle.speaker.utterances) == 1
        await busy.stop()
        await until(lambda: hub.satellites[0].state is not LinkState.CONNECTED)
        assert list(await hub.announce([], SharedSound.complete(AudioFormat(22_050), bytes(2_204)))) == ["busy"]


@on_loop_of("daemon")
async def test_letting_go_pauses_the_satellite(daemon: RunningDaemon) -> None:
    """So that the next server may have it."""
    async with ScriptedSatellite(mode="always") as satellite:
        async with rooms(daemon, satellite):
            await satellite.until("detect")
        await satellite.until("pause-satellite")
        await until(lambda: not satellite.claimed)
