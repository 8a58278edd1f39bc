"""The host's own room: whole conversations through files and pipes, and devices that come and go."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from wyoming.asr import Transcript
from wyoming.audio import AudioChunk, AudioStart
from wyoming.satellite import RunSatellite
from wyoming.timer import TimerFinished, TimerStarted

from satellite.audio.pcm import BYTES_PER_SECOND, CANONICAL, RATE, AudioFormat, read_wav, write_wav
from satellite.config.host import HomeAssistantSatelliteSettings, SoundDeviceSettings
from satellite.config.loader import parse
from satellite.errors import ConfigError, SatelliteError
from satellite.events import RunBus, SttEnd
from satellite.rooms.arbitration import Arbiter
from satellite.rooms.device import RoomContext
from satellite.rooms.host.host_room import HostRoom
from satellite.rooms.host.remote_control import HomeAssistantController
from satellite.rooms.host.speaker import HostSpeaker, SpeakerOutput
from satellite.rooms.hub import Hub
from satellite.rooms.playback import Playback, SharedSound
from satellite.rooms.room import LinkState
from satellite.skills.timers.scheduler import TimerScheduler
from satellite.skills.timers.timers import RING_SECONDS, Duration
from tests.driven_rooms import NABU, PAUSE, QUESTION, NotedConnection, spoken, transcribed
from tests.host_room import QUIETLY, host_room, living, running, sound_seconds, speaking
from tests.loudness import silence, speech
from tests.running_daemon import RunningDaemon, on_loop_of
from tests.scripted_engine import WAKE_WORD, ScriptedEngine, scripted_stages
from tests.virtual_clock import ManualClock
from tests.waiting import until

VOICE = AudioFormat(22_050)
SECOND = bytes(2 * 22_050)


@pytest.mark.models
@on_loop_of("daemon")
async def test_a_question_is_answered(daemon: RunningDaemon, question: bytes, tmp_path: Path) -> None:
    heard, said = tmp_path / "heard.wav", tmp_path / "said.wav"
    async with living(daemon, {"file": heard}, {"file": said}) as room:
        await until(lambda: room.state is LinkState.OFF)
        assert str(heard) in room.summary
        write_wav(heard, QUIETLY + NABU + PAUSE + question, CANONICAL)
        await until(lambda: room.status().doing == "speaking")
        await until(lambda: room.status().doing == "waiting for the wake word")
        assert "Paris" in await transcribed(daemon, read_wav(said))
        await until(lambda: room.status().message == "the recording is over")
        status = room.status()
        assert (status.room, status.area, status.state) == ("study", "Study", "connected")


@pytest.mark.models
@on_loop_of("daemon")
async def test_the_wake_word_silences_the_answer(daemon: RunningDaemon, question: bytes, tmp_path: Path) -> None:
    said, pipe = tmp_path / "said.wav", tmp_path / "mouth"
    story = await spoken(daemon, "Tell me a long story about a dragon.", quiet_seconds=1)
    async with speaking(pipe) as mouth, living(daemon, {"file": pipe}, {"file": said}, follow_up="never") as room:
        await until(lambda: room.state is LinkState.CONNECTED)
        await mouth.say(QUIETLY + NABU + PAUSE + story)
        await until(lambda: sound_seconds(said) > 0.3)
        saying = asyncio.create_task(mouth.say(NABU))
        await until(lambda: room.status().doing == "listening")
        silent = sound_seconds(said)
        await saying
        await mouth.say(PAUSE)
        assert sound_seconds(said) - silent < 0.15
        await mouth.say(question)
        await until(lambda: sound_seconds(said) > silent + 0.5)
        await until(lambda: room.status().doing == "waiting for the wake word")
        assert "Paris" in await transcribed(daemon, read_wav(said)[int(silent * 16_000) * 2 :])


@pytest.mark.models
@on_loop_of("daemon")
async def test_a_microphone_comes_back(
    daemon: RunningDaemon, question: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    pipe = tmp_path / "mouth"
    async with speaking(pipe) as mouth, living(daemon, {"file": pipe}) as room:
        await until(lambda: room.state is LinkState.CONNECTED)
        await mouth.say(QUIETLY + NABU + question[:BYTES_PER_SECOND])
        mouth.plugged = False
        await until(lambda: room.state is LinkState.OFF)
        assert "gives no sound" in room.summary
        await until(lambda: room.status().doing == "waiting for the wake word")
        mouth.plugged = True
        await until(lambda: room.state is LinkState.CONNECTED)
        with daemon.daemon.bus.subscribe(accepts=lambda event: isinstance(event, SttEnd)) as events:
            await mouth.say(QUIETLY + NABU + PAUSE + question)
            assert (await anext(aiter(events))).text == QUESTION  # type: ignore[attr-defined]
        assert room.reconnections == 1
        hub = Hub((), RoomContext(daemon.daemon._stages, daemon.daemon.bus, Arbiter(0.3)), [room])
        assert await hub.announce([], SharedSound.complete(VOICE, SECOND)) == {"study": "study has no speaker"}
    logged = [record.message for record in caplog.records if "study: it hears" in record.message]
    assert [":".join(message.split(":")[:2]) for message in logged] == [
        f"room study: it hears{how}" for how in ("", " nothing", "")
    ]


@pytest.mark.virtual_clock
async def test_what_the_speaker_cannot_play_fails_and_a_timer_was_not_heard(tmp_path: Path) -> None:
    clock = ManualClock()
    pipe = tmp_path / "speaker"
    os.mkfifo(pipe)
    scheduler = TimerScheduler(tmp_path, clock=clock)
    context = RoomContext(scripted_stages(ScriptedEngine()), RunBus(), Arbiter(0.0), scheduler)
    room = host_room(context, {"command": ["false"]}, {"file": pipe})
    assert room.conversation.ringing is not None
    async with running(room.speaker.run(), room.conversation.ringing.run()):
        await asyncio.sleep(0.1)
        with pytest.raises(SatelliteError):  # nothing reads the pipe
            await room.announce(SharedSound.complete(VOICE, SECOND))
        assert room.status().message.endswith(room.speaker.trouble)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        began = asyncio.get_running_loop().time()
        await room.announce(SharedSound.complete(VOICE, SECOND))
        assert asyncio.get_running_loop().time() - began >= 1
        assert os.read(reader, 100_000) == SECOND
        os.close(reader)
        scheduler.timers.start(Duration(seconds=1), place="study", language="en")
        clock.now += 1
        scheduler.timers.tick()
        await asyncio.sleep(30)
        clock.now += RING_SECONDS
        scheduler.timers.tick()
        assert len(scheduler.timers.missed("study")) == 1


@pytest.mark.virtual_clock
async def test_an_announcement_that_home_assistant_silences_holds_up_nothing(tmp_path: Path) -> None:
    said = tmp_path / "said.raw"
    stages = scripted_stages(ScriptedEngine())
    room = host_room(RoomContext(stages, RunBus(), Arbiter(0.0)), {"command": ["false"]}, {"file": said})
    connection = NotedConnection()
    controller = HomeAssistantController(connection, room, stages, HomeAssistantSatelliteSettings())
    async with running(room.speaker.run()):
        await controller.take(RunSatellite().event())
        announcing = asyncio.create_task(room.announce(SharedSound.complete(VOICE, 60 * SECOND)))
        await asyncio.sleep(2)
        await controller._called("ok_nabu")
        began = asyncio.get_running_loop().time()
        await announcing
        silent = said.stat().st_size
        await controller.take(Transcript("Thank you.").event())
        await room.announce(SharedSound.complete(VOICE, SECOND))
        assert asyncio.get_running_loop().time() - began < 2
        assert silent < 3 * len(SECOND)
        assert said.stat().st_size - silent == len(SECOND)
        await controller.close()


@pytest.mark.virtual_clock
@pytest.mark.parametrize("what", ["announcement", "answer", "timer"])
async def test_stop_ends_what_sounds_while_home_assistant_has_the_room(what: str, tmp_path: Path) -> None:
    said = tmp_path / "said.raw"
    stages = scripted_stages(ScriptedEngine({0: "Stop."}))
    room = host_room(RoomContext(stages, RunBus(), Arbiter(0.0)), {"command": ["false"]}, {"file": said})
    connection = NotedConnection()
    controller = HomeAssistantController(connection, room, stages, HomeAssistantSatelliteSettings())
    async with running(room.speaker.run()):
        await controller.take(RunSatellite().event())
        if what == "announcement":
            sounding = asyncio.create_task(room.announce(SharedSound.complete(VOICE, 60 * SECOND)))
        elif what == "answer":
            await controller.take(AudioStart(22_050, 2, 1).event())
            await controller.take(AudioChunk(22_050, 2, 1, 60 * SECOND).event())
        else:
            await controller.take(TimerStarted("1", 60).event())
            await controller.take(TimerFinished("1").event())
            await asyncio.sleep(4)  # in the pause after the first ring
        await asyncio.sleep(2)
        for at in range(0, 2 * RATE, 512):
            await controller.hear((silence(5) + speech(15) + silence(60))[at * 2 : at * 2 + 1024])
            await asyncio.sleep(512 / RATE)
        silent = said.stat().st_size
        await asyncio.sleep(20)
        assert said.stat().st_size == silent
        if what == "announcement":
            await sounding
        await controller.close()
        await stages.background.close()


@asynccontextmanager
async def taken_by_home_assistant(said: Path) -> AsyncIterator[tuple[HostRoom, HomeAssistantController]]:
    stages = scripted_stages(ScriptedEngine())
    room = host_room(RoomContext(stages, RunBus(), Arbiter(0.0)), {"command": ["false"]}, {"file": said})
    controller = HomeAssistantController(NotedConnection(), room, stages, HomeAssistantSatelliteSettings())
    async with running(room.speaker.run()):
        await controller.take(RunSatellite().event())
        yield room, controller
        await controller.close()


@pytest.mark.virtual_clock
async def test_a_sound_that_home_assistant_never_ends_keeps_no_announcement_waiting(tmp_path: Path) -> None:
    said = tmp_path / "said.raw"
    async with taken_by_home_assistant(said) as (room, controller):
        await controller.take(AudioStart(22_050, 2, 1).event())
        await controller.take(AudioChunk(22_050, 2, 1, SECOND).event())
        async with asyncio.timeout(60):
            await room.announce(SharedSound.complete(VOICE, SECOND))
        assert said.stat().st_size == 2 * len(SECOND)


@pytest.mark.virtual_clock
async def test_an_announcement_waits_for_a_command_to_home_assistant(tmp_path: Path) -> None:
    said = tmp_path / "said.raw"
    async with taken_by_home_assistant(said) as (room, controller):
        await controller.hear(WAKE_WORD)
        announcing = asyncio.create_task(room.announce(SharedSound.complete(VOICE, SECOND)))
        await asyncio.sleep(5)
        assert not said.exists()
        with pytest.raises(SatelliteError, match="another program"):
            await room.start()
        await controller.take(Transcript("Thank you.").event())
        await announcing
        assert said.stat().st_size == len(SECOND)


@pytest.mark.virtual_clock
async def test_a_sound_that_nobody_waits_for_any_more_holds_up_nothing(tmp_path: Path) -> None:
    said = tmp_path / "said.raw"
    speaker = HostSpeaker(SoundDeviceSettings(file=said))
    async with running(speaker.run()):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await speaker.play(VOICE, 60 * SECOND)
        silent = said.stat().st_size
        async with asyncio.timeout(2):
            await speaker.play(VOICE, SECOND)
        assert said.stat().st_size - silent == len(SECOND)


@pytest.mark.virtual_clock
async def test_the_speaker_is_woken_by_silence_whoever_plays(tmp_path: Path) -> None:
    said = tmp_path / "said.raw"
    speaker = HostSpeaker(SoundDeviceSettings(file=said), lead_in_seconds=0.5)
    tone = b"\1\2" * 22_050
    async with running(speaker.run()):
        conversation = Playback(SpeakerOutput(speaker), lambda: 0.5)
        await conversation.play(VOICE, tone)
        assert conversation.heard_seconds() == pytest.approx(0.5, abs=0.06)
        await conversation.finish()
        await speaker.play(VOICE, tone)  # as another program does that controls the room
        await asyncio.sleep(6)
        await speaker.play(VOICE, tone)
    assert said.read_bytes() == bytes(22_050) + tone + tone + bytes(22_050) + tone


def test_a_device_is_named_in_short() -> None:
    config = parse("microphone: USB\nspeaker: 3")
    assert (config.microphone.device, config.speaker.device) == ("USB", "3")
    assert parse("microphone:").microphone.given is False


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("microphone: {device: USB, file: x.wav}", r"c.yaml:1: microphone: .*one of device, file and command"),
        ("microphone:\n  fiel: x.wav", r"c.yaml:2: microphone.fiel: unknown key; did you mean 'file'"),
        (
            "home_assistant_satellite:\n  enabled: true",
            r"c.yaml:2: home_assistant_satellite.enabled: there is no microphone",
        ),
        (
            "microphone: USB\nhome_assistant_satellite: {enabled: true, port: 10600}",
            r"port 10600 is also wyoming\.port",
        ),
        ("microphone: USB\nrooms: [{name: host, uri: 'tcp://a:1'}]", "'host' is also the name of host_room"),
    ],
)
def test_mistakes_in_the_settings_of_devices_are_explained(text: str, error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        parse(text, name="c.yaml")
