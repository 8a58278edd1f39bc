"""The host's own room, driven by a server that does what Home Assistant does, and what becomes of it without one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.ping import Ping
from wyoming.pipeline import PipelineStage, RunPipeline
from wyoming.timer import TimerFinished, TimerStarted

from satellite.audio.pcm import BYTES_PER_SECOND, CANONICAL, AudioFormat, read_wav, write_wav
from satellite.config.host import HomeAssistantSatelliteSettings
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
from tests.driven_rooms import NABU, PAUSE, QUESTION, transcribed
from tests.host_room import QUIETLY, Mouth, living, sound_seconds, speaking
from tests.running_daemon import CLEAR_VOICE, RunningDaemon, on_loop_of
from tests.waiting import PATIENCE_SECONDS, until
from tests.wyoming_client import connect

pytestmark = pytest.mark.models


@dataclass
class Inhabited:
    """The host's room, with somebody in it, and the port for Home Assistant."""

    room: HostRoom
    mouth: Mouth
    said: Path
    port: int
    daemon: RunningDaemon

    def assist(self, **how: Any) -> Assist:
        return Assist(self.port, self.daemon, **how)

    @property
    def doing(self) -> str:
        return self.room.status().doing

    @property
    def said_seconds(self) -> float:
        return sound_seconds(self.said)

    async def said_text(self) -> str:
        return (await transcribed(self.daemon, read_wav(self.said))).lower()

    async def asks_alone(self, question: bytes) -> None:
        """See that the room's own conversation hears and answers a question."""
        await until(lambda: self.doing == "waiting for the wake word")
        with self.daemon.daemon.bus.subscribe(accepts=lambda event: isinstance(event, SttEnd)) as events:
            await self.mouth.say(QUIETLY + NABU + PAUSE + question)
            assert (await anext(aiter(events))).text == QUESTION  # type: ignore[attr-defined]


@asynccontextmanager
async def house(daemon: RunningDaemon, tmp_path: Path, **settings: Any) -> AsyncIterator[Inhabited]:
    said, pipe = tmp_path / "said.wav", tmp_path / "mouth"
    how = HomeAssistantSatelliteSettings(enabled=True, **settings)
    server = Server(AllowedNetworks(), Timeouts(), max_connections=8)
    async with speaking(pipe) as mouth, living(daemon, {"file": pipe}, {"file": said}) as room:
        port = await server.listen("127.0.0.1", 0, SatelliteService(room, daemon.daemon._stages, how).serve)
        try:
            await until(lambda: room.state is LinkState.CONNECTED)
            yield Inhabited(room, mouth, said, port, daemon)
        finally:
            await server.close()


@on_loop_of("daemon")
async def test_a_command_works(daemon: RunningDaemon, question: bytes, tmp_path: Path) -> None:
    async with house(daemon, tmp_path) as home:
        with daemon.daemon.bus.subscribe() as events:
            async with home.assist() as assist:
                _check(Info.from_event(await assist.until("info")))
                await until(lambda: home.doing == "driven by Home Assistant")
                await home.mouth.say(QUIETLY + NABU + PAUSE + question)
                assert (await assist.until("heard")).data["text"] == QUESTION
                assert assist.kinds[:2] == ["detection", "run-pipeline"]
                assert (await assist.until("detection")).data["name"] == "okay_nabu"
                assert (await assist.until("run-pipeline")).data == {
                    "start_stage": "asr",
                    "end_stage": "tts",
                    "restart_on_end": False,
                    "wake_word_name": "okay_nabu",
                    "snd_format": {"rate": 22_050, "width": 2, "channels": 1},
                }
                await assist.until("played")
                played_seconds, bytes_ = home.said_seconds, assist.heard_bytes
                assert "home assistant says" in await home.said_text()
                await asyncio.sleep(1)  # it says and streams no more, and is alive
                assert home.said_seconds == played_seconds > 0.3
                assert (assist.heard_bytes, assist.broke) == (bytes_, None)
            assert events._queue.qsize() <= 3  # the room's own conversation took no part
        await home.asks_alone(question)


def _check(info: Info) -> None:
    satellite = info.satellite
    assert satellite is not None
    assert (satellite.name, satellite.area, satellite.installed) == ("study", "Study", True)
    assert (satellite.has_vad, satellite.active_wake_words, satellite.supports_trigger) == (False, ["okay_nabu"], False)
    assert satellite.max_active_wake_words
    assert "okay_nabu" in [model.name for model in info.wake[0].models]
    assert len(info.mic) == len(info.snd) == 1
    assert not info.asr + info.tts + info.handle + info.intent


@on_loop_of("daemon")
async def test_announcements_are_heard_and_a_timer_rings_until_somebody_calls(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    async with house(daemon, tmp_path) as home, home.assist() as assist:
        await assist.say("Dinner is ready.")
        await assist.until("played")
        assert "inner" in await home.said_text()
        before = home.said_seconds
        await assist.stream(AudioFormat(44_100, 4, 2), bytes(8 * 22_050))
        await assist.until("played", 2)
        assert home.said_seconds - before == pytest.approx(0.5, abs=0.05)
        before = home.said_seconds
        await assist.send(TimerStarted(id="1", total_seconds=1, name="pizza"), TimerFinished(id="1"))
        await until(lambda: home.said_seconds > before + 1)
        await home.room.announce(SharedSound.complete(AudioFormat(22_050), bytes(4410)))
        await until(lambda: home.said_seconds > before + 8)  # three rings would be over by now
        assert "pizza" in await home.said_text()
        await assist.send(TimerFinished(id="unknown"))
        await home.mouth.say(QUIETLY + NABU)
        await assist.until("run-pipeline")
        silent = home.said_seconds
        await home.mouth.say(5 * QUIETLY)
        assert home.said_seconds - silent < 0.15
        assert (assist.kinds.count("played"), assist.broke) == (2, None)


@on_loop_of("daemon")
async def test_the_wake_word_silences_the_answer(daemon: RunningDaemon, question: bytes, tmp_path: Path) -> None:
    async with house(daemon, tmp_path) as home, home.assist() as assist:
        await assist.say("This is a long announcement, which goes on and on, until somebody interrupts it. " * 3)
        await until(lambda: home.said_seconds > 0.5)
        await home.mouth.say(NABU)
        await assist.until("run-pipeline")
        assert assist.kinds == ["played", "detection", "run-pipeline"]
        silent = home.said_seconds
        await home.mouth.say(PAUSE)
        assert home.said_seconds - silent < 0.15
        await home.mouth.say(question)
        await assist.until("heard")
        await assist.until("played", 2)


@on_loop_of("daemon")
async def test_neither_nonsense_nor_a_second_server_costs_the_first_one_the_room(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    async with house(daemon, tmp_path) as home, home.assist() as assist:
        await assist.until("info")
        await assist.send(
            Event("gesture-seen", {"gesture": "wave"}),
            Event("audio-start", {"rate": "many"}),
            Event("audio-chunk", {"rate": 1, "width": 9, "channels": 0}, b"\0"),
            Event("audio-stop"),
            RunPipeline(PipelineStage.ASR, PipelineStage.TTS),
        )
        async with connect(home.port) as second:
            await second.send(Describe())
            await second.until("info")
            await second.send(Ping())
            assert await second.read() is None
        await asyncio.sleep(3)
        await assist.say("Still here.")
        await assist.until("played")


@pytest.mark.parametrize("way", ["vanish", "fall_silent"])
@on_loop_of("daemon")
async def test_a_home_assistant_that_dies_is_let_go(
    daemon: RunningDaemon, question: bytes, tmp_path: Path, way: str
) -> None:
    async with house(daemon, tmp_path) as home, home.assist(forgets=True) as assist:
        await asyncio.sleep(2.5)  # a first ping
        await home.mouth.say(NABU + PAUSE + question[:BYTES_PER_SECOND])
        await until(lambda: assist.heard_bytes)
        getattr(assist, way)()
        await home.asks_alone(question)
        async with home.assist():
            await until(lambda: home.doing == "driven by Home Assistant")


@on_loop_of("daemon")
async def test_a_run_that_is_never_ended_closes_the_microphone(
    daemon: RunningDaemon, question: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("satellite.rooms.host.remote_control._LONGEST_STREAM_SECONDS", 3.0)
    async with house(daemon, tmp_path) as home, home.assist(forgets=True) as assist:
        await home.mouth.say(QUIETLY + NABU + PAUSE + question)
        await assist.until("audio-stop")
        bytes_ = assist.heard_bytes
        await home.mouth.say(QUIETLY)
        assert assist.heard_bytes == bytes_
        await home.mouth.say(NABU)
        await assist.until("run-pipeline", 2)


@on_loop_of("daemon")
async def test_a_muted_room_hears_nothing(daemon: RunningDaemon, question: bytes, tmp_path: Path) -> None:
    async with house(daemon, tmp_path) as home, home.assist() as assist:
        await asyncio.sleep(2.5)  # a first ping
        await assist.mute()
        with daemon.daemon.bus.subscribe() as events:
            await home.mouth.say(3 * QUIETLY + NABU + PAUSE + question)
            assert home.doing == "muted by Home Assistant"
            assert events._queue.empty()
        assert "detection" not in assist.kinds
        assist.unmute()
        await home.mouth.say(QUIETLY + NABU + PAUSE + question)
        await assist.until("heard")


@on_loop_of("daemon")
async def test_it_says_that_it_listens(daemon: RunningDaemon, question: bytes, tmp_path: Path) -> None:
    awake, done = tmp_path / "awake.wav", tmp_path / "done.wav"
    write_wav(awake, b"\0\x10" * 32_000, CANONICAL)
    write_wav(done, b"\0\x10" * 4000, CANONICAL)
    async with house(daemon, tmp_path, awake_wav=awake, done_wav=done) as home, home.assist() as assist:
        await home.mouth.say(QUIETLY + NABU)
        await assist.until("run-pipeline")
        await until(lambda: home.said_seconds > 0.4)
        bytes_ = assist.heard_bytes
        await home.mouth.say(bytes(BYTES_PER_SECOND // 4))
        assert assist.heard_bytes == bytes_
        await until(lambda: assist.heard_bytes > bytes_)
        await home.mouth.say(question)
        await assist.until("heard")
        await assist.until("played")
        assert home.said_seconds > 3


def test_the_daemon_serves_it(models_directory: Path, tmp_path: Path) -> None:
    quiet, said = tmp_path / "quiet.wav", tmp_path / "said.wav"
    write_wav(quiet, QUIETLY, CANONICAL)
    config = parse(
        f"models: {{directory: {models_directory}}}\nzeroconf: {{enabled: false}}\nwyoming: {{host: 127.0.0.1}}\n"
        f"microphone: {{file: {quiet}}}\nspeaker: {{file: {said}}}\nhost_room: {{name: study}}\n"
        f"home_assistant_satellite: {{enabled: true}}\n{CLEAR_VOICE}"
    )

    async def use(running: RunningDaemon) -> None:
        (room,) = running.daemon.house.hub.rooms
        async with Assist(running.port("satellite_port"), running) as assist:
            await assist.until("info")
            await until(lambda: room.status().doing == "driven by Home Assistant")
            (status,) = (await client.status(running.uri))["rooms"]
            assert (status["room"], status["doing"]) == ("study", "driven by Home Assistant")
        heard = await client.command(running.uri, "announce", text="Dinner is ready", rooms=["study"])
        assert heard == {"heard": ["study"], "failed": {}}
        assert "inner" in await transcribed(running, read_wav(said))

    with RunningDaemon(config) as running:
        running.call(asyncio.wait_for(use(running), PATIENCE_SECONDS))
