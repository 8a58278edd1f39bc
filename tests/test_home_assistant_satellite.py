"""The host's own room, driven by a server that does what Home Assistant does, and what becomes of it without one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from wyoming.client import AsyncTcpClient
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.ping import Ping
from wyoming.pipeline import PipelineStage, RunPipeline
from wyoming.timer import TimerFinished, TimerStarted

from satellite.audio.pcm import BYTES_PER_SECOND, CANONICAL, AudioFormat, read_wav, write_wav
from satellite.config.loader import parse
from satellite.events import SttEnd
from satellite.rooms.host.host_room import HostRoom
from satellite.rooms.host.satellite_server import SatelliteService
from satellite.rooms.playback import SharedSound
from satellite.rooms.room import LinkState
from satellite.wire import client
from satellite.wire.connection import Timeouts
from satellite.wire.server import AllowedNetworks, Server
from tests.assist_satellite import Assist
from tests.driven_rooms import NABU, PAUSE, transcribed
from tests.host_room import QUIETLY, Mouth, configured, living, sound_seconds
from tests.running_daemon import RunningDaemon, on_loop_of
from tests.waiting import PATIENCE_SECONDS, until

pytestmark = pytest.mark.models

QUESTION = "What is the capital of France?"


@dataclass
class Inhabited:
    """The host's room, with somebody in it, and the port for Home Assistant."""

    room: HostRoom
    mouth: Mouth
    said: Path
    port: int
    daemon: RunningDaemon
    server: Server

    def assist(self, **how: Any) -> Assist:
        """Return a Home Assistant."""
        return Assist(self.port, self.daemon, **how)

    @property
    def doing(self) -> str:
        """What the room does."""
        return str(self.room.status().doing)

    async def asks_alone(self, question: bytes) -> None:
        """See that the room's own conversation hears and answers a question."""
        await until(lambda: self.doing == "waiting for the wake word")
        with self.daemon.daemon.bus.subscribe() as events:
            await self.mouth.say(QUIETLY + NABU + PAUSE + question)
            async for event in events:
                if isinstance(event, SttEnd):
                    assert event.text == QUESTION
                    return


@asynccontextmanager
async def house(
    daemon: RunningDaemon, tmp_path: Path, longest_stream_seconds: float = 30.0, **settings: Any
) -> AsyncIterator[Inhabited]:
    """Serve the host's room."""
    said = tmp_path / "said.wav"
    satellite = {"enabled": True, **settings}
    config = configured(
        {"file": tmp_path / "mouth"},
        {"file": said},
        host_room={"name": "study", "area": "Study"},
        home_assistant_satellite=satellite,
    )
    server = Server(AllowedNetworks(), Timeouts(), max_connections=8)
    async with Mouth(tmp_path / "mouth") as mouth, living(daemon, config) as room:
        stages, how = daemon.daemon._stages, config.home_assistant_satellite
        service = SatelliteService(room, stages, how, longest_stream_seconds=longest_stream_seconds)
        port = await server.listen("127.0.0.1", 0, service.serve)
        try:
            await until(lambda: room.state is LinkState.CONNECTED)
            yield Inhabited(room, mouth, said, port, daemon, server)
        finally:
            await server.close()


@on_loop_of("daemon")
async def test_a_command_works(daemon: RunningDaemon, question: bytes, tmp_path: Path) -> None:
    async with house(daemon, tmp_path) as home:
        with daemon.daemon.bus.subscribe() as events:
            async with home.assist() as assist:
                await assist.until(lambda: assist.info is not None)
                _check(assist.info)
                await until(lambda: home.doing == "driven by Home Assistant")
                await home.mouth.say(QUIETLY + NABU + PAUSE + question)
                await assist.until(lambda: assist.came("heard") == 1)
                kinds = [event.type for event in assist.events if event.type != "info"]
                assert kinds[:2] == ["detection", "run-pipeline"]
                detection, pipeline = [event for event in assist.events if event.type != "info"][:2]
                assert detection.data["name"] == "okay_nabu"
                assert pipeline.data == {
                    "start_stage": "asr",
                    "end_stage": "tts",
                    "restart_on_end": False,
                    "wake_word_name": "okay_nabu",
                    "snd_format": {"rate": 22_050, "width": 2, "channels": 1},
                }
                heard = next(event for event in assist.events if event.type == "heard")
                assert heard.data["text"] == QUESTION
                await assist.until(lambda: assist.played == 1)
                played_seconds, bytes_ = sound_seconds(home.said), assist.heard_bytes
                assert "Home Assistant says" in await transcribed(daemon, read_wav(home.said))
                await asyncio.sleep(1)  # it says and streams no more, and is alive
                assert sound_seconds(home.said) == played_seconds > 0.3
                assert (assist.heard_bytes, assist.broke) == (bytes_, None)
            assert events._queue.qsize() <= 3  # the room's own conversation took no part
        await home.asks_alone(question)


def _check(info: Info | None) -> None:
    assert info is not None
    assert info.satellite is not None
    satellite = info.satellite
    assert (satellite.name, satellite.area, satellite.installed) == ("study", "Study", True)
    assert (satellite.has_vad, satellite.active_wake_words, satellite.supports_trigger) == (False, ["okay_nabu"], False)
    assert satellite.max_active_wake_words
    assert "okay_nabu" in [model.name for model in info.wake[0].models]
    assert len(info.mic) == len(info.snd) == 1
    assert not info.asr + info.tts + info.handle + info.intent


@on_loop_of("daemon")
async def test_announcements_and_timers_are_heard(daemon: RunningDaemon, tmp_path: Path) -> None:
    async with house(daemon, tmp_path) as home, home.assist() as assist:
        await assist.say("Dinner is ready.")
        await assist.until(lambda: assist.played == 1)
        assert "inner" in await transcribed(daemon, read_wav(home.said))
        before = sound_seconds(home.said)
        await assist.stream(AudioFormat(44_100, 4, 2), bytes(8 * 22_050))
        await assist.until(lambda: assist.played == 2)
        assert sound_seconds(home.said) - before == pytest.approx(0.5, abs=0.05)
        before = sound_seconds(home.said)
        await assist.send(TimerStarted(id="1", total_seconds=1, name="pizza"), TimerFinished(id="1"))
        await until(lambda: sound_seconds(home.said) > before + 1)
        assert assist.played == 2
        await home.room.announce(SharedSound.complete(AudioFormat(22_050), bytes(4410)))
        assert assist.broke is None


@on_loop_of("daemon")
async def test_a_timer_of_home_assistants_rings_until_somebody_calls(daemon: RunningDaemon, tmp_path: Path) -> None:
    async with house(daemon, tmp_path) as home, home.assist() as assist:
        await assist.send(TimerStarted(id="1", total_seconds=1, name="pizza"), TimerFinished(id="1"))
        await until(lambda: sound_seconds(home.said) > 8)  # three rings would be over by now
        assert "pizza" in (await transcribed(daemon, read_wav(home.said))).lower()
        await assist.send(TimerFinished(id="unknown"))
        await home.mouth.say(QUIETLY + NABU)
        await assist.until(lambda: assist.came("run-pipeline") == 1)
        silent = sound_seconds(home.said)
        await home.mouth.say(5 * QUIETLY)
        assert sound_seconds(home.said) - silent < 0.15
        assert assist.broke is None


@on_loop_of("daemon")
async def test_the_wake_word_silences_the_answer(daemon: RunningDaemon, question: bytes, tmp_path: Path) -> None:
    async with house(daemon, tmp_path) as home, home.assist() as assist:
        await assist.say("This is a long announcement, which goes on and on, until somebody interrupts it. " * 3)
        await until(lambda: sound_seconds(home.said) > 0.5)
        await home.mouth.say(NABU)
        await assist.until(lambda: assist.came("run-pipeline") == 1)
        kinds = [event.type for event in assist.events if event.type != "info"]
        assert kinds == ["played", "detection", "run-pipeline"]
        silent = sound_seconds(home.said)
        await home.mouth.say(PAUSE)
        assert sound_seconds(home.said) - silent < 0.15
        await home.mouth.say(question)
        await assist.until(lambda: assist.came("heard") == 1)
        await assist.until(lambda: assist.played == 2)


@on_loop_of("daemon")
async def test_a_second_server_is_turned_away(daemon: RunningDaemon, tmp_path: Path) -> None:
    async with house(daemon, tmp_path) as home, home.assist() as assist:
        await assist.until(lambda: assist.info is not None)
        second = AsyncTcpClient("127.0.0.1", home.port)
        await second.connect()
        await second.write_event(Describe().event())
        answer = await second.read_event()
        assert answer is not None
        assert answer.type == "info"
        await second.write_event(Ping().event())
        assert await second.read_event() is None
        await second.disconnect()
        await asyncio.sleep(3)
        assert assist.broke is None


@on_loop_of("daemon")
async def test_nonsense_costs_a_line_in_the_log(daemon: RunningDaemon, tmp_path: Path) -> None:
    async with house(daemon, tmp_path) as home, home.assist() as assist:
        for event in (
            Event("gesture-seen", {"gesture": "wave"}),
            Event("audio-start", {"rate": "many"}),
            Event("audio-chunk", {"rate": 1, "width": 9, "channels": 0}, b"\0"),
            Event("audio-stop"),
            RunPipeline(PipelineStage.ASR, PipelineStage.TTS).event(),
        ):
            await assist._client.write_event(event)
        await assist.say("Still here.")
        await assist.until(lambda: assist.played == 1)


@pytest.mark.parametrize("way", ["vanish", "fall_silent"])
@on_loop_of("daemon")
async def test_a_home_assistant_that_dies_is_let_go(
    daemon: RunningDaemon, question: bytes, tmp_path: Path, way: str
) -> None:
    async with house(daemon, tmp_path) as home, home.assist(forgets=True) as assist:
        await asyncio.sleep(2.5)  # a first ping
        await home.mouth.say(NABU + PAUSE + question[:BYTES_PER_SECOND])
        await assist.until(lambda: assist.heard_bytes > 0)
        getattr(assist, way)()
        await home.asks_alone(question)
        async with home.assist() as another:
            await another.until(lambda: another.info is not None)
            await until(lambda: home.doing == "driven by Home Assistant")


@on_loop_of("daemon")
async def test_a_run_that_is_never_ended_closes_the_microphone(
    daemon: RunningDaemon, question: bytes, tmp_path: Path
) -> None:
    async with house(daemon, tmp_path, 3.0) as home, home.assist(forgets=True) as assist:
        await home.mouth.say(QUIETLY + NABU + PAUSE + question)
        await assist.until(lambda: assist.came("audio-stop") == 1)
        bytes_ = assist.heard_bytes
        await home.mouth.say(QUIETLY)
        assert assist.heard_bytes == bytes_
        await home.mouth.say(NABU)
        await assist.until(lambda: assist.came("run-pipeline") == 2)


@on_loop_of("daemon")
async def test_a_muted_room_hears_nothing(daemon: RunningDaemon, question: bytes, tmp_path: Path) -> None:
    async with house(daemon, tmp_path) as home, home.assist() as assist:
        await asyncio.sleep(2.5)  # a first ping
        await assist.mute()
        with daemon.daemon.bus.subscribe() as events:
            await home.mouth.say(3 * QUIETLY + NABU + PAUSE + question)
            assert home.doing == "muted by Home Assistant"
            assert events._queue.empty()
        assert not assist.came("detection")
        await assist.unmute()
        await home.mouth.say(QUIETLY + NABU + PAUSE + question)
        await assist.until(lambda: assist.came("heard") == 1)


@on_loop_of("daemon")
async def test_it_says_that_it_listens(daemon: RunningDaemon, question: bytes, tmp_path: Path) -> None:
    awake, done = tmp_path / "awake.wav", tmp_path / "done.wav"
    write_wav(awake, b"\0\x10" * 32_000, CANONICAL)
    write_wav(done, b"\0\x10" * 4000, CANONICAL)
    async with house(daemon, tmp_path, awake_wav=awake, done_wav=done) as home, home.assist() as assist:
        await home.mouth.say(QUIETLY + NABU)
        await assist.until(lambda: assist.came("run-pipeline") == 1)
        await until(lambda: sound_seconds(home.said) > 0.4)
        bytes_ = assist.heard_bytes
        await home.mouth.say(bytes(BYTES_PER_SECOND // 4))
        assert assist.heard_bytes == bytes_
        await assist.until(lambda: assist.heard_bytes > bytes_)
        await home.mouth.say(question)
        await assist.until(lambda: assist.came("heard") == 1)
        await assist.until(lambda: assist.played == 1)
        assert sound_seconds(home.said) > 3


def test_the_daemon_serves_it(models_directory: Path, tmp_path: Path) -> None:
    quiet, said = tmp_path / "quiet.wav", tmp_path / "said.wav"
    write_wav(quiet, QUIETLY, CANONICAL)
    config = parse(
        f"models: {{directory: {models_directory}}}\nzeroconf: {{enabled: false}}\nwyoming: {{host: 127.0.0.1}}\n"
        f"microphone: {{file: {quiet}}}\nspeaker: {{file: {said}}}\nhost_room: {{name: study}}\n"
        "home_assistant_satellite: {enabled: true}\ntts: {noise_scale: 0, noise_w_scale: 0}"
    )

    async def use(running: RunningDaemon) -> None:
        assert [room["room"] for room in (await client.status(running.uri))["rooms"]] == ["study"]
        async with Assist(running.port("satellite_port"), running) as assist:
            await assist.until(lambda: assist.info is not None)
            while (await client.status(running.uri))["rooms"][0]["doing"] != "driven by Home Assistant":
                await asyncio.sleep(0.05)
        told = await client.command(running.uri, "announce", text="Dinner is ready", rooms=["study"])
        assert told == {"heard": ["study"], "failed": {}}
        assert "inner" in await transcribed(running, read_wav(said))

    with RunningDaemon(config) as running:
        running.call(asyncio.wait_for(use(running), PATIENCE_SECONDS))
