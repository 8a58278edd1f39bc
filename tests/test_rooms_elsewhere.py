"""Rooms that are heard elsewhere: in another room, or by a media player of Home Assistant."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from wyoming.pipeline import PipelineStage, RunPipeline

from satellite.audio.decoder import SoundDecoder
from satellite.config.home_assistant import HomeAssistantSettings
from satellite.config.rooms import RoomSettings, SpeakerSettings
from satellite.errors import SatelliteError, TextToSpeechError
from satellite.pipeline.dialogue import Question
from satellite.rooms.call import Call
from satellite.rooms.controls import RoomControls
from satellite.rooms.elsewhere import PlayerOutput, RoomOutput, Speakers
from satellite.rooms.media_listener import MediaListener
from satellite.rooms.media_sources import MediaReference
from satellite.rooms.playback import Playback, SharedSound
from satellite.skills.home_assistant.players import HomeAssistantPlayers
from satellite.skills.timers.scheduler import TimerScheduler
from satellite.skills.timers.timers import Duration
from tests.doubles.esphome import EsphomeDevice
from tests.doubles.home_assistant import Fault, HomeAssistantServer
from tests.esphome_rooms import LoudEngine, turn
from tests.esphome_rooms import house as esphome_house
from tests.house import house
from tests.loudness import silence, sound, speech
from tests.media_server import sound_file
from tests.scripted_engine import FORMAT, WAKE_WORD, ScriptedEngine, ScriptedResponder, scripted_stages
from tests.scripted_rooms import SATELLITES, WINDOW_SECONDS, ScriptedRoom, StreamingSatellite, scripted_room, tone
from tests.virtual_clock import ManualClock
from tests.waiting import until

ANSWER_SECONDS = 6
ENTITY = "media_player.kitchen"
ELSEWHERE = SpeakerSettings(room="kitchen")
_TONE = (8000 * np.sin(2 * np.pi * 440 * np.arange(FORMAT.rate // 10) / FORMAT.rate)).astype(np.int16).tobytes()
STOP = (silence(5), speech(15), silence(10))
unused: Any = None


class SilentSatellite(StreamingSatellite):
    """A satellite without a speaker, which asks for no sound."""

    run = RunPipeline(start_stage=PipelineStage.WAKE, end_stage=PipelineStage.HANDLE, restart_on_end=True)


@dataclass
class TwoRooms:
    bath: ScriptedRoom
    kitchen: ScriptedRoom
    clock: ManualClock
    scheduler: TimerScheduler

    async def begin(self, what: str) -> asyncio.Task[None]:
        """Begin in the bath what is heard in the kitchen; return what ends once it is over."""
        if what == "media":
            return asyncio.create_task(self.kitchen.conversation.play(tone(60)))
        if what == "announcement":
            return self.bath.announce(60)
        if what == "call":
            call = Call("bath", "study")
            joined = asyncio.create_task(self._join(call))
            await call.sides[1].ready()
            return joined
        self.scheduler.timers.start(Duration(seconds=1), place="bath", language="en")
        self.clock.now += 1
        self.scheduler.timers.tick()
        return asyncio.create_task(until(lambda: not self.scheduler.timers.all()))

    async def _join(self, call: Call) -> None:
        joined = asyncio.create_task(self.bath.conversation.join(call.sides[0]))
        while not call.over:
            call.sides[1].say(sound(1, 1000))
            await asyncio.sleep(WINDOW_SECONDS)
        await joined


async def hushed(question: Question) -> str | None:
    return "" if question.text == "Stop." else None


@pytest.fixture(params=["satellite", "silent", "host"])
async def rooms(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[TwoRooms]:
    monkeypatch.setitem(SATELLITES, "silent", SilentSatellite)
    engine = ScriptedEngine({0: "Stop.", 25: "Tell me a story."}, answer=["One two three four five six."])
    stages = scripted_stages(engine, ScriptedResponder("stop", hushed))
    scheduler = TimerScheduler(tmp_path, clock=(clock := ManualClock()))
    speakers = Speakers(lambda _, sound: kitchen.conversation.announce(sound), unused, unused)
    async with AsyncExitStack() as stack:
        parts: dict[str, Any] = {"scheduler": scheduler, "speakers": speakers}
        kitchen = await stack.enter_async_context(scripted_room("satellite", stages, tmp_path, **parts))
        bath = scripted_room(request.param, stages, tmp_path, name="bath", speaker=ELSEWHERE, **parts)
        yield TwoRooms(await stack.enter_async_context(bath), kitchen, clock, scheduler)


@pytest.mark.virtual_clock
async def test_an_answer_is_heard_in_the_other_room_alone(rooms: TwoRooms) -> None:
    rooms.bath.say(WAKE_WORD, silence(10), speech(30))
    await until(lambda: rooms.kitchen.seconds() >= ANSWER_SECONDS)
    await asyncio.sleep(3)
    assert rooms.kitchen.seconds() == pytest.approx(ANSWER_SECONDS, abs=0.1)
    assert rooms.bath.seconds() == 0
    await rooms.bath.announce(2)
    assert rooms.kitchen.seconds() == pytest.approx(ANSWER_SECONDS + 2, abs=0.1)


@pytest.mark.virtual_clock
@pytest.mark.parametrize("where", ["bath", "kitchen"])
async def test_an_answer_is_stopped_in_either_room(rooms: TwoRooms, where: str) -> None:
    rooms.bath.say(WAKE_WORD, silence(10), speech(30))
    await until(lambda: rooms.kitchen.seconds() >= 2)
    getattr(rooms, where).say(*STOP)
    await until(lambda: not rooms.bath.said + rooms.kitchen.said)
    before = rooms.kitchen.seconds()
    await asyncio.sleep(5)
    assert rooms.kitchen.seconds() - before < 1
    assert rooms.kitchen.seconds() < ANSWER_SECONDS
    assert not rooms.bath.conversation.engaged


@pytest.mark.virtual_clock
@pytest.mark.parametrize("where", ["bath", "kitchen"])
@pytest.mark.parametrize("words", [STOP, (WAKE_WORD, *STOP, silence(90))], ids=["stop", "after the wake word"])
@pytest.mark.parametrize("what", ["announcement", "media", "call", "ring", "ring's pause"])
async def test_what_sounds_there_is_stopped_in_either_room(
    rooms: TwoRooms, what: str, words: tuple[bytes, ...], where: str
) -> None:
    over = await rooms.begin(what)
    await until(lambda: rooms.kitchen.seconds() >= 3)
    if what == "ring's pause":
        await until(lambda: rooms.kitchen.conversation.own_sounding is None)
    sounding = what.partition("'")[0].replace("ring", "timer")
    assert rooms.bath.conversation.sounding == sounding
    getattr(rooms, where).say(*words)
    await until(lambda: not rooms.bath.said + rooms.kitchen.said)
    before = rooms.kitchen.seconds()
    await asyncio.wait_for(over, 1)
    await asyncio.sleep(30)
    assert rooms.kitchen.seconds() - before < 1
    assert {room.conversation.sounding for room in (rooms.bath, rooms.kitchen)} == {None}


async def test_a_room_that_cannot_be_heard_is_reported() -> None:
    async def announce(_: SharedSound) -> None:
        raise SatelliteError("kitchen is off", code="room-unreachable")

    playback = Playback(output := RoomOutput(announce), lambda: 0.5)
    with pytest.raises(TextToSpeechError, match="kitchen is off"):
        for _ in range(20):
            await playback.play(FORMAT, bytes(3200))
    assert output.trouble == "kitchen is off"


@pytest.mark.virtual_clock
async def test_a_sound_does_not_wait_for_the_end_of_a_call_in_the_other_room() -> None:
    output = RoomOutput(lambda sound: asyncio.sleep(900))
    playback = Playback(output, lambda: 0.5)
    await playback.play(FORMAT, _TONE)
    began = asyncio.get_running_loop().time()
    await playback.finish()
    assert asyncio.get_running_loop().time() - began < 60
    assert output.trouble == "somebody speaks with the room where it was to be heard"


async def test_media_of_a_room_is_that_of_the_room_where_it_is_heard(tmp_path: Path) -> None:
    async with house("bath", "kitchen") as home:
        home.rooms["bath"].settings = RoomSettings(name="bath", speaker=ELSEWHERE)
        controls: RoomControls = home.controls
        await controls.play(["bath"], MediaReference(data=await sound_file("wav")))
        await until(lambda: home.rooms["kitchen"].done == [("play",), ("play ended",)])
        assert home.rooms["bath"].done == []


class Player:
    """A media player of a scripted Home Assistant."""

    def __init__(self, server: HomeAssistantServer, token: str) -> None:
        self.server = server
        self.listener = MediaListener(0)
        settings = HomeAssistantSettings.model_validate({"url": server.url, "token": token})
        self.players = HomeAssistantPlayers(settings)
        self.speakers = Speakers(unused, self.listener, self.players)
        output = self.speakers.output(SpeakerSettings(entity=ENTITY))
        assert isinstance(output, PlayerOutput)
        self.output = output
        self.playback = Playback(output, lambda: 0.5)

    async def play(self, seconds: float) -> None:
        for _ in range(round(seconds * 10)):
            await self.playback.play(FORMAT, _TONE)
        await self.playback.finish()

    @property
    def actions(self) -> list[str]:
        return [action for action, _ in self.server.calls]

    def heard(self) -> int:
        """Return how many samples were loud."""
        decoder = SoundDecoder(io.BytesIO(bytes(self.server.fetched[ENTITY])), code="x")
        samples = np.frombuffer(b"".join(iter(decoder.read, b"")), np.int16).astype(int)
        return int((np.abs(samples) > 500).sum())


@pytest.fixture
async def player() -> AsyncIterator[Player]:
    async with HomeAssistantServer() as server:
        one = Player(server, server.token)
        yield one
        await one.listener.close()
        await one.players.close()


async def test_a_media_player_fetches_what_is_said(player: Player) -> None:
    await player.play(1)
    (action, data), *more = player.server.calls
    assert (action, more) == ("play_media", [])
    assert data["entity_id"] == ENTITY
    assert data["announce"] is True
    assert data["media_content_id"].startswith("http://127.0.0.1:")
    await until(lambda: not player.server._fetching)
    assert player.heard() > 48_000 * 0.8
    await player.playback.silence()  # which a conversation does at each command: nothing is to be stopped
    assert player.actions == ["play_media"]


async def test_a_media_player_is_stopped(player: Player) -> None:
    playing = asyncio.create_task(player.play(60))
    await until(lambda: ENTITY in player.server.fetched)
    playing.cancel()
    await asyncio.wait([playing])
    await player.playback.silence()
    await until(lambda: player.actions == ["play_media", "media_stop"])
    await until(lambda: not player.server._fetching)


@pytest.mark.virtual_clock
@pytest.mark.parametrize("where", [0, 1])
async def test_media_on_a_media_player_is_stopped_in_each_room_that_is_heard_there(
    player: Player, where: int, tmp_path: Path
) -> None:
    stages = scripted_stages(ScriptedEngine({0: "Stop."}))
    parts: dict[str, Any] = {"speaker": SpeakerSettings(entity=ENTITY), "speakers": player.speakers}
    async with AsyncExitStack() as stack:
        rooms = [
            await stack.enter_async_context(scripted_room("satellite", stages, tmp_path, name=name, **parts))
            for name in ("bath", "hall")
        ]
        playing = asyncio.create_task(rooms[0].conversation.play(tone(60)))
        await until(lambda: ENTITY in player.server.fetched)
        await asyncio.sleep(2)
        rooms[where].say(*STOP)
        await asyncio.wait_for(playing, 5)
        await until(lambda: player.actions[-1] == "media_stop")


@pytest.mark.parametrize("how", ["refused", "never fetched", "off", "no such host"])
async def test_a_media_player_that_does_not_play_is_reported(
    player: Player, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("satellite.rooms.elsewhere._PLAYER_SECONDS", 0.5)
    if how == "refused":
        player.server.token = "another"
    elif how == "never fetched":
        player.server.fetches = False
    elif how == "off":
        player.server.fault = Fault.CRASH
    else:
        player.players._host = "nowhere.invalid"
    with pytest.raises(TextToSpeechError):
        await player.play(60)
    assert player.output.trouble


async def test_an_esphome_device_ends_its_turn_while_another_room_is_heard() -> None:
    heard: list[bytes] = []

    async def announce(_: str, sound: SharedSound) -> None:
        heard.extend([pcm async for pcm in sound])

    async with esphome_house(LoudEngine(answer=["Late."])) as home, EsphomeDevice() as device:
        home.context = replace(home.context, speakers=Speakers(announce, unused, unused))
        async with home.room(device, speaker=ELSEWHERE):
            taken = [one.type for one in await turn(device)]
            assert taken[-1] == "RUN_END"
            assert not {"INTENT_PROGRESS", "TTS_END", "ERROR"} & set(taken)
            await until(lambda: sum(map(len, heard)) >= 2 * FORMAT.rate)
