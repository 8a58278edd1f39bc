"""Turns of ESPHome devices: their events and their order, what is heard and when, and that all of them end."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from satellite.audio.pcm import CANONICAL
from satellite.errors import SatelliteError
from satellite.pipeline.audio_queue import AudioInbox
from satellite.rooms import media_listener
from satellite.rooms.arbitration import Arbiter
from satellite.rooms.media_listener import MediaListener
from satellite.rooms.media_stream import EncodedStream
from satellite.rooms.playback import SharedSound
from satellite.rooms.room import LinkState
from tests.doubles.esphome import EsphomeDevice
from tests.doubles.esphome_assistant import Output, State
from tests.doubles.esphome_entities import Format
from tests.doubles.esphome_wire import pb
from tests.esphome_rooms import COMMAND, LoudEngine, events, house, turn
from tests.loudness import silence, sound, speech
from tests.waiting import until

pytestmark = pytest.mark.virtual_clock


def names(device: EsphomeDevice, since: int = 0) -> list[str]:
    return [taken.type for taken in events(device, since)]


async def test_a_turn_has_its_events_in_the_order_of_the_firmware() -> None:
    async with EsphomeDevice() as device, house() as home, home.room(device):
        taken = await turn(device)
        assert [one.type for one in taken] == [
            "RUN_START", "STT_START", "STT_VAD_START", "STT_VAD_END", "STT_END", "INTENT_START",
            "INTENT_PROGRESS", "INTENT_END", "TTS_START", "TTS_END", "RUN_END",
        ]  # fmt: skip
        data = {one.type: one.data for one in taken}
        assert data["STT_END"] == {"text": "Tell me a story."}
        assert data["INTENT_PROGRESS"] == {"tts_start_streaming": "1"}
        assert data["INTENT_END"] == {"conversation_id": "kitchen", "continue_conversation": "0"}
        assert data["TTS_START"] == {"text": "It is late. Good night."}
        assert data["TTS_END"] == data["RUN_START"]
        await until(lambda: device.state is State.IDLE)
        (heard,) = device.heard
        assert heard.url == data["RUN_START"]["url"]
        assert (heard.container, heard.layout.rate, heard.layout.channels) == ("flac", 48_000, 1)
        assert heard.seconds == pytest.approx(5, abs=0.3)
        assert not heard.trouble
        assert heard.gap_seconds == 0


@pytest.mark.parametrize(
    ("formats", "container", "rate", "channels"),
    [
        ((Format("wav", 22_050, 1, announcement=True),), "wav", 22_050, 1),
        (
            (Format("mp3", 48_000, 2, announcement=True), Format("flac", 44_100, 2, announcement=False)),
            "flac",
            44_100,
            2,
        ),
        ((), "flac", 48_000, 1),
    ],
)
async def test_sound_has_the_format_that_the_player_names(
    formats: tuple[Format, ...], container: str, rate: int, channels: int
) -> None:
    async with EsphomeDevice(formats=formats) as device, house() as home, home.room(device):
        await turn(device)
        await until(lambda: device.state is State.IDLE)
        (heard,) = device.heard
        assert (heard.container, heard.layout.rate, heard.layout.channels) == (container, rate, channels)
        assert heard.seconds == pytest.approx(5, abs=0.4)


async def test_the_first_clause_is_heard_at_once_while_the_rest_is_made() -> None:
    engine = LoudEngine(answer=["It is late. ", "Good night. ", "Sleep well. ", "See you."], chat_seconds=2.0)
    async with EsphomeDevice() as device, house(engine) as home, home.room(device):
        taken = await turn(device)
        (heard,) = device.heard
        assert heard.fetched_at is not None
        assert heard.loud_at is not None
        assert heard.loud_at - heard.asked_at <= 0.05
        at = {one.type: one.at for one in taken}
        assert at["INTENT_PROGRESS"] < at["INTENT_END"] - 1, "the text was not complete"


async def test_silence_bridges_a_gap_that_is_longer_than_the_firmware_waits() -> None:
    engine = LoudEngine(answer=["It is late. ", "Good night. "], tts_seconds=(0.05, 0.05, 0.05, 9.0, 0.05))
    async with EsphomeDevice() as device, house(engine) as home, home.room(device):
        await turn(device)
        assert device.state is State.STREAMING_RESPONSE, "all events come before the sound has been played"
        await until(lambda: device.state is State.IDLE)
        (heard,) = device.heard
        assert heard.gap_seconds < 0.3
        assert heard.seconds > 10


async def test_a_question_is_answered_without_the_wake_word() -> None:
    engine = LoudEngine(answer=["Which one?"])
    async with EsphomeDevice() as device, house(engine) as home, home.room(device) as room:
        taken = await turn(device)
        assert next(one for one in taken if one.type == "INTENT_END").data["continue_conversation"] == "1"
        engine.answer = ["It is on."]
        await until(lambda: device.state is State.STREAMING_MICROPHONE)
        began = len(device.taken)
        await device.say(COMMAND)
        await device.until("RUN_END")
        assert "ERROR" not in names(device, began)
        await until(lambda: device.state is State.IDLE)
        assert len(engine.asked) == 2
        await until(lambda: room.current is not None and not room.current.active)


async def test_a_question_that_nobody_answers_is_no_error_in_the_room() -> None:
    engine = LoudEngine(answer=["Which one?"])
    async with EsphomeDevice() as device, house(engine) as home, home.room(device):
        await turn(device)
        began = len(device.taken)
        error = await device.until("ERROR")
        assert error.data["code"] == "stt-no-text-recognized"
        await until(lambda: device.state is State.IDLE)
        assert names(device, began)[-2:] == ["ERROR", "RUN_END"]


@pytest.mark.parametrize(
    ("breaks", "command", "code"),
    [
        ("stt", COMMAND, "stt-failed"),
        ("tts", COMMAND, "internal-error"),
        ("", silence(400), "stt-no-text-recognized"),
    ],
)
async def test_what_fails_ends_the_turn(breaks: str, command: bytes, code: str) -> None:
    engine = LoudEngine(answer=["It is late."], breaks=breaks)
    async with EsphomeDevice() as device, house(engine) as home, home.room(device):
        taken = await turn(device, command=command)
        error = next(one for one in taken if one.type == "ERROR")
        assert error.data["code"].startswith(code.partition("-")[0])
        assert [one.type for one in taken].count("RUN_END") == 1
        await until(lambda: device.state is State.IDLE)
        assert not device.streaming


class BusyListener(MediaListener):
    """Has no time for a new sound until it is `able`."""

    def __init__(self) -> None:
        super().__init__(0)
        self.able = asyncio.Event()

    async def publish(self, *where: Any, **options: Any) -> EncodedStream:
        await self.able.wait()
        return await super().publish(*where, **options)


async def test_a_command_that_cannot_be_heard_in_time_fails_whole_and_the_next_one_does_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine, media = LoudEngine(answer=["It is late."]), BusyListener()
    async with EsphomeDevice() as device, house(engine) as home:
        home.context = replace(home.context, media=media)
        async with home.room(device):
            dropped = AudioInbox.dropped_in_all_seconds
            assert await device.wake()
            await device.say(speech(1000))
            media.able.set()
            error = await device.until("ERROR")
            assert error.data == {"code": "protocol-overload", "message": "the daemon is too busy to hear the command"}
            await device.until("RUN_END")
            assert AudioInbox.dropped_in_all_seconds - dropped > 30
            await until(lambda: device.state is State.IDLE)
            assert [one.type for one in await turn(device)][-1] == "RUN_END"
            assert engine.asked == ["Tell me a story."]
        await media.close()
    lost = "room kitchen: a command could not be heard in time, and is lost"
    assert [record.getMessage() for record in caplog.records].count(lost) == 1


@pytest.mark.parametrize("how", ["stop", "lose", "wake", "mute", "cancel"])
@pytest.mark.parametrize("when", [State.STREAMING_MICROPHONE, State.AWAITING_RESPONSE, State.STREAMING_RESPONSE])
async def test_however_a_turn_is_cut_off_it_ends_once_and_is_silent(how: str, when: State) -> None:
    engine = LoudEngine(answer=["It is late. "] * 20, chat_seconds=1.0)
    async with EsphomeDevice() as device, house(engine) as home:
        async with home.room(device) as room:
            assert await device.wake()
            saying = asyncio.create_task(device.say(speech(200) if when is State.STREAMING_MICROPHONE else COMMAND))
            await until(lambda: device.state is when)
            await asyncio.sleep(0.7)
            assert room.current is not None
            match how:
                case "stop":
                    assert await room.stop()
                case "lose":
                    room.current._lose()
                case "wake":
                    assert not await device.wake()
                case "mute":
                    await room.set_muted(True)
                    await room.stop()
            if how != "cancel":
                await device.until("RUN_END")
                await until(lambda: device.state is State.IDLE)
        await until(lambda: device.state is State.IDLE)
        assert names(device).count("RUN_END") == 1
        assert not device.assistant.player.announcements.sounding
        errors = [one.data["code"] for one in events(device) if one.type == "ERROR"]
        assert errors == (["duplicate_wake_up_detected"] if when is State.STREAMING_MICROPHONE else [])
        saying.cancel()


async def test_the_room_that_hears_worse_is_told_so_quietly() -> None:
    near, far = EsphomeDevice(), EsphomeDevice(name="far")
    async with near, far, house() as home, home.room(near), home.room(far):
        assert await near.wake()
        await near.until("RUN_START")
        assert await far.wake()
        assert (await far.until("ERROR")).data["code"] == "duplicate_wake_up_detected"
        await far.until("RUN_END")
        # Without a beginning, linux-voice-assistant would listen again at the end, if it did so last time.
        assert names(far) == ["RUN_START", "ERROR", "RUN_END"]
        await until(lambda: far.state is State.IDLE)
        await near.say(COMMAND)
        await near.until("RUN_END")
        assert "ERROR" not in names(near)


async def test_the_wake_word_after_a_question_that_was_stopped_at_the_device_is_no_answer_to_it() -> None:
    near, far = EsphomeDevice(), EsphomeDevice(name="far")
    async with near, far, house(LoudEngine(answer=["Which one?"])) as home:
        clock = asyncio.get_running_loop().time
        home.context = replace(home.context, arbiter=Arbiter(0.3, now=clock))
        async with home.room(near) as room, home.room(far):
            await turn(near)
            near.assistant.stop()
            await asyncio.sleep(10)
            assert room.current is not None
            assert not room.current.active
            assert await near.wake()
            await until(lambda: near.streaming)
            assert await far.wake()
            await far.until("RUN_END")
            assert names(far) == ["RUN_START", "ERROR", "RUN_END"]


@pytest.mark.parametrize("has_button", [True, False])
async def test_a_button_begins_a_turn_too_and_a_device_may_be_told_to_listen(has_button: bool) -> None:
    device = EsphomeDevice(has_start_button=has_button)
    async with device, house() as home, home.room(device) as room:
        assert await device.press()
        await device.say(COMMAND)
        await device.until("RUN_END")
        await until(lambda: device.state is State.IDLE)
        await room.start()
        await until(lambda: device.streaming)
        await device.say(COMMAND)
        await device.until("RUN_END")
        assert names(device).count("STT_END") == 2


async def test_a_program_may_ask_and_gets_what_is_said() -> None:
    async with EsphomeDevice() as device, house() as home, home.room(device) as room:
        question = SharedSound.complete(CANONICAL, sound(60, 4000))
        asking = asyncio.create_task(room.ask(question))
        await until(lambda: device.streaming)
        await device.say(COMMAND)
        assert (await asking).text == "Tell me a story."
        await until(lambda: device.state is State.IDLE)
        assert device.assistant.overheard_seconds == 0


async def test_a_program_that_asks_learns_at_once_that_the_device_has_gone() -> None:
    async with EsphomeDevice() as device, house() as home, home.room(device) as room:
        asking = asyncio.create_task(room.ask(None))
        await asyncio.sleep(0.05)
        device.vanish()
        await until(lambda: room.state is not LinkState.CONNECTED)
        began = asyncio.get_running_loop().time()
        with pytest.raises(SatelliteError) as failed:
            await asking
        assert failed.value.code == "stt-stream-failed"
        assert asyncio.get_running_loop().time() - began < 1


async def test_a_bare_speaker_is_sent_no_more_than_it_has_room_for() -> None:
    device = EsphomeDevice(output="speaker")
    async with device, house(LoudEngine(answer=["It is late. ", "Good night?"])) as home, home.room(device) as room:
        await turn(device)
        await device.until("TTS_STREAM_END")
        assert names(device)[4:] == [
            "STT_END", "INTENT_START", "INTENT_END", "TTS_START", "TTS_STREAM_START", "TTS_END",
            "RUN_END", "TTS_STREAM_END",
        ]  # fmt: skip
        await until(lambda: device.state is State.STREAMING_MICROPHONE)
        assert device.assistant.speaker.lost_bytes == 0
        (heard,) = device.heard
        assert heard.seconds == pytest.approx(5, abs=0.1)
        assert heard.gap_seconds == 0
        assert device.assistant.overheard_seconds == 0
        await room.stop()
        with pytest.raises(SatelliteError, match="plays nothing but answers"):
            await room.announce(SharedSound.complete(CANONICAL, sound(30, 4000)))


async def test_a_device_without_a_speaker_shows_the_answer() -> None:
    async with EsphomeDevice(output="none") as device, house() as home, home.room(device) as room:
        taken = await turn(device)
        assert [one.type for one in taken][-3:] == ["INTENT_END", "TTS_START", "RUN_END"]
        assert not room.capabilities.speaker


async def test_a_device_that_never_fetches_does_not_hold_up_the_room() -> None:
    async with EsphomeDevice(never_fetches=True) as device, house() as home, home.room(device) as room:
        await turn(device)
        assert "it did not fetch http://127.0.0.1:" in room.status().message
        device.never_fetches = False
        await until(lambda: device.state is State.IDLE)
        await turn(device)
        assert room.status().message == "connected"
        assert device.heard[-1].seconds > 4


async def test_an_answer_that_comes_after_its_address_has_expired_ends_the_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(media_listener, "_EXPIRES_SECONDS", 1.0)
    async with EsphomeDevice() as device, house() as home, home.room(device) as room:
        assert (await turn(device))[-1].type == "RUN_END"
        assert room.reconnections == 0
        assert "stopped fetching" in room.status().message


async def test_a_device_that_fetches_slowly_hears_it_all_the_same() -> None:
    async with EsphomeDevice(fetch_bytes_per_second=9_000.0, fetches=2) as device, house() as home, home.room(device):
        await turn(device)
        await until(lambda: device.state is State.IDLE)
        assert device.heard[-1].seconds > 4


async def test_a_device_that_vanishes_while_it_answers_is_a_room_again() -> None:
    engine = LoudEngine(answer=["It is late. "] * 10)
    async with EsphomeDevice() as device, house(engine) as home, home.room(device) as room:
        for _ in range(3):
            assert await device.wake()
            saying = asyncio.create_task(device.say(COMMAND))
            await until(lambda: device.state is State.STREAMING_RESPONSE)
            before = room.reconnections
            await device.reboot(1.0)
            await until(lambda before=before: room.reconnections > before)  # type: ignore[misc]
            await saying
        assert (await turn(device))[-1].type == "RUN_END"


@pytest.mark.parametrize("channel", [1, 2])
async def test_the_second_microphone_is_heard_where_that_is_configured(channel: int) -> None:
    device = EsphomeDevice(second_channel=True, silent_microphone=True)
    async with device, house() as home, home.room(device, microphone_channel=channel):
        assert await device.wake()
        await until(lambda: device.streaming)
        for at in range(0, len(COMMAND), 1024):
            device.send(pb.VoiceAssistantAudio(data=silence(1), data2=COMMAND[at : at + 1024]))
            await asyncio.sleep(0.032)
        await device.until("RUN_END")
        assert ("STT_END" in names(device)) is (channel == 2)


@pytest.mark.parametrize("output", ["media", "speaker"])
async def test_the_microphone_is_closed_before_an_answer_that_was_ready_is_heard(output: Output) -> None:
    engine = LoudEngine(answer=["It is late."], usual_seconds=0, chat_seconds=0, tts_seconds=(0,))
    async with EsphomeDevice(output=output) as device, house(engine) as home, home.room(device):
        await turn(device)
        await until(lambda: device.state is State.STREAMING_RESPONSE)
        assert not device.assistant.microphone_open
        await until(lambda: device.state is State.IDLE)
        assert device.heard[0].loud_at
        assert device.assistant.speaker.lost_bytes == 0


async def test_a_turn_without_a_sound_ends_though_all_of_it_was_ready() -> None:
    engine = LoudEngine(answer=["It is late."], usual_seconds=0, chat_seconds=0, tts_seconds=(0,))
    async with EsphomeDevice() as device, house(engine) as home, home.room(device) as room:
        await room.set_listen_only(True)
        for _ in range(2):
            assert [one.type for one in await turn(device)][-1] == "RUN_END"
            await until(lambda: device.state is State.IDLE)
