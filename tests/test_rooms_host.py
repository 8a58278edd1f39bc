"""The host's own room: whole conversations through files and pipes, and devices that come and go."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest
from wyoming.satellite import RunSatellite

from satellite.audio.pcm import BYTES_PER_SECOND, CANONICAL, AudioFormat, read_wav, write_wav
from satellite.config.loader import parse
from satellite.errors import ConfigError, SatelliteError
from satellite.events import RunBus, SttEnd
from satellite.rooms.arbitration import Arbiter
from satellite.rooms.host.host_room import HostRoom
from satellite.rooms.host.remote_control import HomeAssistantController
from satellite.rooms.hub import Hub
from satellite.rooms.playback import SharedSound
from satellite.rooms.room import LinkState, RoomContext
from satellite.skills.timers.scheduler import TimerScheduler
from satellite.skills.timers.timers import RING_SECONDS, Duration
from tests.driven_rooms import NABU, PAUSE, NotedConnection, spoken, transcribed
from tests.host_room import QUIETLY, Mouth, configured, living, sound_seconds
from tests.running_daemon import RunningDaemon, on_loop_of
from tests.scripted_engine import ScriptedEngine, scripted_stages
from tests.waiting import until

VOICE = AudioFormat(22_050)
SECOND = bytes(2 * 22_050)


@pytest.mark.models
@on_loop_of("daemon")
async def test_a_question_is_answered(daemon: RunningDaemon, question: bytes, tmp_path: Path) -> None:
    heard, said = tmp_path / "heard.wav", tmp_path / "said.wav"
    write_wav(heard, QUIETLY + NABU + PAUSE + question, CANONICAL)
    config = configured({"file": heard}, {"file": said}, host_room={"name": "study", "area": "Study"})
    async with living(daemon, config) as room:
        await until(lambda: room.status().doing == "speaking")
        await until(lambda: room.status().doing == "waiting for the wake word")
        assert "Paris" in await transcribed(daemon, read_wav(said))
        status = room.status()
        assert (status.room, status.area, status.state) == ("study", "Study", "connected")
        assert status.summary == "study: the recording is over"


@pytest.mark.models
@on_loop_of("daemon")
async def test_the_wake_word_silences_the_answer(daemon: RunningDaemon, question: bytes, tmp_path: Path) -> None:
    said = tmp_path / "said.wav"
    story = await spoken(daemon, "Tell me a long story about a dragon.", quiet_seconds=1)
    async with Mouth(tmp_path / "mouth") as mouth:
        config = configured({"file": mouth.path}, {"file": said}, host_room={"follow_up": "never"})
        async with living(daemon, config) as room:
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
    with daemon.daemon.bus.subscribe() as events:
        async with Mouth(tmp_path / "mouth") as mouth, living(daemon, configured({"file": mouth.path})) as room:
            await until(lambda: room.state is LinkState.CONNECTED)
            await mouth.say(QUIETLY + NABU + question[:BYTES_PER_SECOND])
            mouth.plugged = False
            await until(lambda: room.state is LinkState.OFF)
            assert "gives no sound" in room.summary
            await until(lambda: room.status().doing == "waiting for the wake word")
            mouth.plugged = True
            await until(lambda: room.state is LinkState.CONNECTED)
            await mouth.say(QUIETLY + NABU + PAUSE + question)
            async for event in events:
                if isinstance(event, SttEnd) and event.text == "What is the capital of France?":
                    break
            assert room.reconnections == 1
    told = [record.message for record in caplog.records if "host hears" in record.message]
    assert [message.split(":")[0] for message in told] == [f"room host hears{how}" for how in ("", " nothing", "")]


@pytest.mark.models
@on_loop_of("daemon")
async def test_without_a_microphone_the_room_is_off(daemon: RunningDaemon, tmp_path: Path) -> None:
    heard = tmp_path / "heard.wav"
    async with living(daemon, configured({"file": heard})) as room:
        await until(lambda: room.state is LinkState.OFF)
        assert str(heard) in room.summary
        hub = Hub((), RoomContext(daemon.daemon._stages, daemon.daemon.bus, Arbiter(0.3)), [room])
        assert await hub.announce([], SharedSound.complete(VOICE, SECOND)) == {"host": "host has no speaker"}
        write_wav(heard, QUIETLY, CANONICAL)
        await until(lambda: room.state is LinkState.CONNECTED)


@pytest.mark.models
@on_loop_of("daemon")
async def test_an_announcement_is_heard_to_its_end(daemon: RunningDaemon, tmp_path: Path) -> None:
    pipe = tmp_path / "speaker"
    os.mkfifo(pipe)
    write_wav(tmp_path / "quiet.wav", QUIETLY, CANONICAL)
    async with living(daemon, configured({"file": tmp_path / "quiet.wav"}, {"file": pipe})) as room:
        await until(lambda: room.state is LinkState.CONNECTED)
        with pytest.raises(SatelliteError):
            await room.announce(SharedSound.complete(VOICE, SECOND))
        assert room.status().summary.endswith(room.speaker.trouble)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        began = time.monotonic()
        await room.announce(SharedSound.complete(VOICE, SECOND))
        assert time.monotonic() - began >= 1
        assert os.read(reader, 100_000) == SECOND
        os.close(reader)


@pytest.mark.virtual_clock
async def test_a_timer_that_the_speaker_cannot_play_was_not_heard(tmp_path: Path) -> None:
    now = 1000.0
    pipe = tmp_path / "speaker"
    os.mkfifo(pipe)  # which nothing reads
    config = configured({"command": ["false"]}, {"file": pipe}, host_room={"name": "study"})
    scheduler = TimerScheduler(tmp_path, clock=lambda: now)
    context = RoomContext(scripted_stages(ScriptedEngine()), RunBus(), Arbiter(0.0), scheduler)
    room = HostRoom(config.host_room, config.microphone, config.speaker, context)
    ringing = room.conversation.ringing
    assert ringing is not None
    tasks = [asyncio.create_task(work) for work in (room.speaker.run(), ringing.run())]
    try:
        await asyncio.sleep(0.1)
        scheduler.timers.start(Duration(seconds=1), place="study", language="en")
        now += 1
        scheduler.timers.tick()
        await asyncio.sleep(30)
        assert room.speaker.trouble
        now += RING_SECONDS
        scheduler.timers.tick()
        assert len(scheduler.timers.missed("study")) == 1
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.virtual_clock
async def test_an_announcement_that_home_assistant_silences_holds_up_nothing(tmp_path: Path) -> None:
    said = tmp_path / "said.raw"
    config = configured({"command": ["false"]}, {"file": said}, host_room={"name": "study"})
    stages = scripted_stages(ScriptedEngine())
    room = HostRoom(config.host_room, config.microphone, config.speaker, RoomContext(stages, RunBus(), Arbiter(0.0)))
    connection: Any = NotedConnection()
    controller = HomeAssistantController(connection, room, stages, config.home_assistant_satellite)
    speaking = asyncio.create_task(room.speaker.run())
    try:
        await controller.take(RunSatellite().event())
        announcing = asyncio.create_task(room.announce(SharedSound.complete(VOICE, 60 * SECOND)))
        await asyncio.sleep(2)
        await controller._called("ok_nabu")
        began = asyncio.get_running_loop().time()
        await announcing
        silent = said.stat().st_size
        await room.announce(SharedSound.complete(VOICE, SECOND))
        assert asyncio.get_running_loop().time() - began < 2
        assert silent < 3 * len(SECOND)
        assert said.stat().st_size - silent == len(SECOND)
    finally:
        await controller.close()
        speaking.cancel()
        await asyncio.gather(speaking, return_exceptions=True)


def test_a_device_is_named_in_short() -> None:
    config = parse("microphone: USB\nspeaker: 3")
    assert (config.microphone.device, config.speaker.device) == ("USB", "3")
    assert parse("microphone:").microphone.given is False
    with pytest.raises(ConfigError, match=r"c.yaml:1: microphone: .*one of device, file and command"):
        parse("microphone: {device: USB, file: x.wav}", name="c.yaml")
    with pytest.raises(ConfigError, match=r"c.yaml:2: microphone.fiel: unknown key; did you mean 'file'"):
        parse("microphone:\n  fiel: x.wav", name="c.yaml")
    with pytest.raises(ConfigError, match=r"c.yaml:2: home_assistant_satellite.enabled: there is no microphone"):
        parse("home_assistant_satellite:\n  enabled: true", name="c.yaml")
    with pytest.raises(ConfigError, match=r"port 10600 is also wyoming\.port"):
        parse("microphone: USB\nhome_assistant_satellite: {enabled: true, port: 10600}")
    with pytest.raises(ConfigError, match="'host' is also the name of host_room"):
        parse("microphone: USB\nrooms: [{name: host, uri: 'tcp://a:1'}]")
