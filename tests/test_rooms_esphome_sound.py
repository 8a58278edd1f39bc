"""What ESPHome devices do outside turns: announcements, media, calls, timers, mute, volume, wake words."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aioesphomeapi.model import VoiceAssistantFeature

from satellite.audio.pcm import CANONICAL
from satellite.errors import SatelliteError
from satellite.rooms import media_listener
from satellite.rooms.elsewhere import Speakers
from satellite.rooms.esphome.esphome_room import EsphomeRoom
from satellite.rooms.hub import Hub
from satellite.rooms.intercom import Intercom
from satellite.rooms.playback import SharedSound
from satellite.rooms.room import LinkState
from satellite.skills.timers.scheduler import TimerScheduler
from satellite.skills.timers.timers import Duration
from tests.doubles.esphome import EsphomeDevice
from tests.doubles.esphome_assistant import State
from tests.esphome_rooms import COMMAND, NOISE, LoudEngine, house, turn
from tests.virtual_clock import ManualClock
from tests.waiting import until

pytestmark = pytest.mark.virtual_clock


class NoPlayers:
    """A house without Home Assistant."""

    async def address(self) -> str:
        raise AssertionError

    async def play(self, entity: str, url: str) -> None:
        raise AssertionError

    async def stop(self, entity: str) -> None:
        raise AssertionError


@asynccontextmanager
async def room_of(device: EsphomeDevice, **settings: object) -> AsyncIterator[EsphomeRoom]:
    async with device, house() as home, home.room(device, **settings) as room:
        yield room


def seconds_of_noise(seconds: int) -> SharedSound:
    return SharedSound.complete(CANONICAL, NOISE * seconds)


@pytest.mark.parametrize("success", [True, False])
async def test_an_announcement_is_heard_whatever_the_device_reports(success: bool) -> None:
    device = EsphomeDevice(announce_success=success)
    async with room_of(device) as room:
        began = asyncio.get_running_loop().time()
        for number in range(1, 3):
            await room.announce(seconds_of_noise(4))
            assert asyncio.get_running_loop().time() - began == pytest.approx(4.3 * number, abs=0.4 * number)
            assert device.heard[-1].seconds == pytest.approx(4, abs=0.3)
            assert device.state is State.IDLE


async def test_an_announcement_that_is_not_fetched_has_failed() -> None:
    device = EsphomeDevice(never_fetches=True)
    async with room_of(device) as room:
        with pytest.raises(SatelliteError, match="did not fetch"):
            await room.announce(seconds_of_noise(4))
        assert "hub.media_port" in room.status().message


@pytest.mark.parametrize("where", ["here", "there", "button"])
async def test_an_announcement_may_be_stopped_here_and_at_the_device(where: str) -> None:
    device = EsphomeDevice()
    async with room_of(device) as room:
        announcing = asyncio.create_task(room.announce(seconds_of_noise(60)))
        await until(lambda: device.assistant.player.announcements.sounding)
        await asyncio.sleep(2)
        if where == "here":
            assert await room.stop()
        elif where == "there":
            await device.wake()
        else:
            device.assistant.player.command("STOP", announcement=True)
        began = asyncio.get_running_loop().time()
        await announcing
        assert asyncio.get_running_loop().time() - began < 2
        await until(lambda: device.heard[0].ended_at is not None)
        assert room.status().sounding is None
        await until(lambda: device.state is State.IDLE)
        assert (await turn(device))[-1].type == "RUN_END"


async def test_media_plays_beside_what_is_said_and_is_stopped() -> None:
    device = EsphomeDevice()
    async with room_of(device) as room:
        playing = asyncio.create_task(room.play(seconds_of_noise(60)))
        await until(lambda: device.assistant.player.media.sounding)
        (media,) = device.assistant.player.media.heard
        assert (media.layout.rate, media.layout.channels, media.announcement) == (48_000, 2, False)
        await room.announce(seconds_of_noise(1))
        await turn(device)
        await until(lambda: device.state is State.IDLE)
        assert media.ended_at is None
        assert media.gap_seconds == 0
        assert await room.stop()
        await playing
        await until(lambda: media.ended_at is not None)


async def test_media_that_is_stopped_at_the_device_is_over_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_listener, "_AGAIN_SECONDS", 0.01)
    device = EsphomeDevice()
    async with room_of(device) as room:
        playing = asyncio.create_task(room.play(seconds_of_noise(60)))
        await until(lambda: device.assistant.player.media.sounding)
        announcing = asyncio.create_task(room.announce(seconds_of_noise(4)))
        await until(lambda: device.assistant.player.announcements.sounding)
        device.assistant.player.command("STOP", announcement=False)
        await playing
        assert not announcing.done()
        await announcing
        assert device.heard[-1].seconds > 3.5


async def test_two_devices_hear_each_other_in_a_call() -> None:
    kitchen, study = EsphomeDevice(), EsphomeDevice(name="study")
    async with kitchen, study, house() as home, home.room(kitchen) as one, home.room(study) as two:
        intercom = Intercom(Hub((), home.context, [one, two]), lambda: home.stages.config.hub)
        call = await intercom.call("kitchen", "study")
        await until(lambda: kitchen.streaming and study.streaming)
        await kitchen.say(NOISE * 2)
        await until(lambda: study.assistant.player.media.heard[-1].seconds > 2)
        assert study.assistant.player.media.heard[-1].gap_seconds == 0
        assert kitchen.streaming
        assert study.streaming
        assert await one.stop()
        await until(lambda: call.over)
        await until(lambda: kitchen.state is study.state is State.IDLE)
        await intercom.close()
        await kitchen.until("RUN_END")
        assert (await turn(kitchen))[-1].type == "RUN_END"


async def test_timers_are_shown_and_rung_by_the_device_and_stopped(tmp_path: Path) -> None:
    clock = ManualClock()
    scheduler = TimerScheduler(tmp_path, clock=clock)
    timers = scheduler.timers
    device = EsphomeDevice()
    async with device, house(scheduler=scheduler) as home, home.room(device) as room:
        assert room.current is not None
        pasta = timers.start(Duration(minutes=5), place="kitchen", name="pasta")
        other = timers.start(Duration(minutes=6), place="kitchen")
        await until(lambda: len(device.timers) == 2)
        shown = device.timers[pasta.id]
        assert (shown.name, shown.total_seconds, shown.seconds_left, shown.is_active) == ("pasta", 300, 300, True)
        clock.now += 60
        timers.pause(pasta)
        await until(lambda: not device.timers[pasta.id].is_active)
        assert device.timers[pasta.id].seconds_left == 240
        await device.reboot()
        await until(lambda: len(device.timers) == 2)
        assert device.timers[pasta.id].seconds_left == 240
        timers.cancel(pasta)
        await until(lambda: len(device.timers) == 1)
        clock.now += 300
        scheduler.timers.tick()
        await until(lambda: device.ringing)
        assert other.id not in device.timers
        assert not device.heard, "the device rings by itself"
        await until(lambda: room.status().sounding == "timer")
        await room.stop()
        assert (await device.until("MediaPlayerCommandRequest")).data["announcement"]
        assert not timers.ringing()
        device.ringing = False
        await room.announce(seconds_of_noise(1))
        await until(lambda: device.state is State.IDLE)
        assert len(device.heard) == 1, "it repeats no more"


@pytest.mark.parametrize("is_lva", [False, True])
async def test_a_timer_rings_after_the_answer_that_it_would_end(tmp_path: Path, is_lva: bool) -> None:
    scheduler = TimerScheduler(tmp_path, clock=(clock := ManualClock()))
    device = EsphomeDevice(is_lva=is_lva)
    async with device, house(scheduler=scheduler) as home, home.room(device):
        scheduler.timers.start(Duration(minutes=5), place="kitchen")
        command = asyncio.create_task(turn(device))
        await until(lambda: device.heard)
        clock.now += 300
        scheduler.timers.tick()
        await command
        await until(lambda: device.ringing)
        (heard,) = device.heard
        assert heard.seconds == pytest.approx(5, abs=0.3)
        assert scheduler.timers.ringing("kitchen")
        await device.wake()
        assert not device.ringing


async def test_linux_voice_assistant_is_left_for_a_moment_which_ends_its_ring(tmp_path: Path) -> None:
    scheduler = TimerScheduler(tmp_path, clock=(clock := ManualClock()))
    device = EsphomeDevice(is_lva=True, formats=())
    async with device, house(scheduler=scheduler) as home, home.room(device) as room:
        for _ in range(2):
            scheduler.timers.start(Duration(minutes=5), place="kitchen")
            clock.now += 300
            scheduler.timers.tick()
            await until(lambda: device.ringing)
            await until(lambda: room.status().sounding == "timer")
            await room.stop()
            await until(lambda: not device.ringing and room.state is not LinkState.CONNECTED)
            await until(lambda: room.state is LinkState.CONNECTED)
        scheduler.timers.start(Duration(minutes=5), place="kitchen")
        clock.now += 300
        scheduler.timers.tick()
        await until(lambda: device.ringing)
        assert (await turn(device))[-1].type == "RUN_END"
        assert not scheduler.timers.ringing()
        assert room.reconnections == 2, "the wake word has silenced it"


async def test_mute_and_volume_are_set_at_the_device_and_seen_from_there() -> None:
    device = EsphomeDevice()
    async with room_of(device) as room:
        await until(lambda: room.status().volume == 0.5)
        await room.set_volume(0.3)
        await until(lambda: device.assistant.player.volume == pytest.approx(0.3))
        device.assistant.player.volume = 0.7
        device.assistant.player.command("UNMUTE", announcement=False)
        await until(lambda: room.status().volume == pytest.approx(0.7))
        await room.set_muted(True)
        await until(lambda: device.assistant.muted)
        assert not await device.wake()
        await room.set_muted(False)
        await until(lambda: not device.assistant.muted)
        assert not room.status().muted
        await device.reboot()
        await until(lambda: room.reconnections == 1)
        assert room.status().volume == 0.5, "the device keeps its own"
        assert (await turn(device))[-1].type == "RUN_END"


@pytest.mark.parametrize("shows_timers", [True, False])
async def test_a_bare_speaker_says_that_it_plays_nothing_but_answers(tmp_path: Path, shows_timers: bool) -> None:
    device = EsphomeDevice(output="speaker", shows_timers=shows_timers)
    async with device, house(scheduler=TimerScheduler(tmp_path)) as home, home.room(device) as room:
        assert room.current is not None
        assert (room.current.ringing is not None, room.capabilities.rings) == (shows_timers, shows_timers)
        status = "connected; it plays nothing but answers, since it has no media player"
        assert (room.status().message, room.status().heard) == (status, False)
        failed = await Hub([], home.context, [room]).announce([], seconds_of_noise(1))
        reason = "the device in kitchen has no media player, and plays nothing but answers"
        assert failed == {"kitchen": reason}


async def test_a_bare_speaker_is_as_loud_as_the_room_is_set_to() -> None:
    device = EsphomeDevice(output="speaker")
    async with room_of(device) as room:
        await turn(device)
        await room.set_volume(0.25)
        await until(lambda: device.state is State.IDLE)
        await turn(device)
        loud, soft = (max(memoryview(bytes(heard.pcm)).cast("h")) for heard in device.heard)
        assert soft < loud / 3


@pytest.mark.parametrize(
    ("wanted", "active", "missing"),
    [
        (None, ["okay_nabu"], ""),
        (["Hey Jarvis"], ["hey_jarvis"], ""),
        (["hey_jarvis"], ["hey_jarvis"], ""),
        (["computer"], ["okay_nabu"], "does not know the wake word computer"),
        (["okay_nabu", "hey_jarvis"], ["okay_nabu"], "wake word hey_jarvis, or has no room for it"),
    ],
)
async def test_the_device_listens_for_the_configured_words(
    wanted: list[str] | None, active: list[str], missing: str
) -> None:
    device = EsphomeDevice()
    async with room_of(device, wake_words=wanted) as room:
        await until(lambda: device.active_wake_words == active)
        assert room.status().wake_words == {word: word in active for word in ("okay_nabu", "hey_jarvis")}
        assert missing in room.status().message


@pytest.mark.parametrize("takes", [True, False])
async def test_the_wake_words_of_the_house_are_downloaded_by_devices_that_can(tmp_path: Path, takes: bool) -> None:
    manifest = {
        "type": "micro",
        "wake_word": "Hey House",
        "trained_languages": ["en"],
        "model": "x.tflite",
        "micro": {},
    }
    (tmp_path / "hey_house.json").write_text(json.dumps(manifest))
    (tmp_path / "hey_house.tflite").write_bytes(bytes(range(200)))
    (tmp_path / "broken.json").write_text("{")
    device = EsphomeDevice(takes_wake_words=takes, most_active_wake_words=2)
    own = house(wake={"custom_directory": str(tmp_path)})
    async with device, own as home, home.room(device, wake_words=["Hey House"]) as room:
        if takes:
            await until(lambda: device.active_wake_words == ["hey_house"])
            assert device.downloaded == {"hey_house": bytes(range(200))}
        else:
            assert "does not know the wake word Hey House" in room.status().message


async def test_a_device_that_cannot_fetch_is_connected_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "hey_house.json").write_text(json.dumps({"wake_word": "Hey House", "micro": {}}))
    (tmp_path / "hey_house.tflite").write_bytes(b"model")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        own = house(wake={"custom_directory": str(tmp_path)}, media_port=taken.getsockname()[1])
        async with EsphomeDevice() as device, own as home, home.room(device) as room:
            assert room.state is LinkState.CONNECTED
            with pytest.raises(SatelliteError, match="is another server running there"):
                await room.announce(seconds_of_noise(1))


@pytest.mark.parametrize(
    ("settings", "cancels"),
    [
        ({}, True),
        ({"project": "formatbce.Respeaker XVF3800 Satellite"}, True),
        ({"project": ""}, False),
        ({"project": "", "second_channel": True}, True),
        ({"is_lva": True}, False),
        ({"is_lva": True, "second_channel": True}, True),
        ({"output": "speaker"}, False),
    ],
)
async def test_the_echo_is_cancelled_by_boards_that_have_a_processor_for_it(
    settings: dict[str, Any], cancels: bool
) -> None:
    async with room_of(EsphomeDevice(**settings)) as room:
        assert room.status().capabilities.cancels_echo is cancels


async def test_a_stop_ends_at_once_what_linux_voice_assistant_says_and_what_follows_is_heard() -> None:
    device = EsphomeDevice(is_lva=True, formats=())
    async with room_of(device) as room:
        for _ in range(2):
            asking = asyncio.create_task(turn(device))
            await until(
                lambda: device.state is State.STREAMING_RESPONSE and device.assistant.player.announcements.sounding
            )
            await asyncio.sleep(1)
            answer = device.heard[-1]
            began = time.monotonic()
            assert await room.stop()
            await until(lambda answer=answer: answer.ended_at is not None)  # type: ignore[misc]
            assert time.monotonic() - began < 0.3
            await asking
            announcing = asyncio.create_task(room.announce(seconds_of_noise(2)))
            await announcing
            assert device.heard[-1].seconds == pytest.approx(2, abs=0.2)
        assert room.reconnections == 0


async def test_a_sound_that_is_cut_off_does_not_stop_the_media_of_linux_voice_assistant() -> None:
    device = EsphomeDevice(is_lva=True, formats=())
    async with room_of(device) as room:
        playing = asyncio.create_task(room.play(seconds_of_noise(60)))
        await until(lambda: device.assistant.player.media.sounding)
        announcing = asyncio.create_task(room.announce(seconds_of_noise(20)))
        await until(lambda: device.assistant.player.announcements.sounding)
        announcing.cancel()
        await until(lambda: not device.assistant.player.announcements.sounding)
        await asyncio.sleep(1)
        assert device.assistant.player.media.sounding
        assert await room.stop()
        await playing
        await until(lambda: not device.assistant.player.media.sounding)


async def test_a_device_listens_again_after_a_question_that_was_heard_elsewhere() -> None:
    engine = LoudEngine(answer=["Which one?"])
    kitchen, study = EsphomeDevice(), EsphomeDevice(name="study")
    async with kitchen, study, house(engine) as home, home.room(study) as heard:
        speakers = Speakers(lambda _, sound: heard.announce(sound), home.media, NoPlayers())
        home.context = replace(home.context, speakers=speakers)
        async with home.room(kitchen, speaker={"room": "study"}):
            await turn(kitchen)
            await until(lambda: kitchen.streaming)
            assert study.heard[-1].seconds > 1
            engine.answer = ["It is on."]
            await kitchen.say(COMMAND)
            await kitchen.until("RUN_END")
            assert len(engine.asked) == 2
            assert kitchen.assistant.overheard_seconds == 0


async def test_a_room_that_only_listens_does_what_is_said_and_is_silent() -> None:
    device = EsphomeDevice()
    async with device, house(LoudEngine(answer=["Which one?"])) as home, home.room(device) as room:
        await room.set_listen_only(True)
        assert [taken.type for taken in await turn(device)][-3:] == ["INTENT_END", "TTS_START", "RUN_END"]
        await asyncio.sleep(5)
        assert device.state is State.IDLE
        assert not device.heard


class FirmwareWithoutAnnouncements(EsphomeDevice):
    @property
    def features(self) -> int:
        return super().features & ~(VoiceAssistantFeature.ANNOUNCE | VoiceAssistantFeature.START_CONVERSATION)


async def test_old_firmware_announces_by_its_media_player_and_cannot_be_told_to_listen() -> None:
    device = FirmwareWithoutAnnouncements()
    async with room_of(device) as room:
        began = asyncio.get_running_loop().time()
        await room.announce(seconds_of_noise(2))
        assert asyncio.get_running_loop().time() - began == pytest.approx(2.3, abs=0.4)
        assert device.heard[-1].seconds == pytest.approx(2, abs=0.3)
        with pytest.raises(SatelliteError, match="cannot be made to listen") as refused:
            await room.start()
        assert refused.value.code == "room-cannot-start"
        assert (await turn(device))[-1].type == "RUN_END"


async def test_a_port_that_is_taken_is_reported_and_costs_the_sound_alone() -> None:
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        device = EsphomeDevice()
        async with device, house(media_port=port) as home, home.room(device) as room:
            assert (await turn(device))[-1].type == "RUN_END"
            assert f"cannot listen on 127.0.0.1:{port}" in room.status().message
            with pytest.raises(SatelliteError, match="cannot listen"):
                await room.announce(seconds_of_noise(2))
            await until(lambda: device.state is State.IDLE)
