"""All that sounds can be stopped, by the wake word or by "stop" alone, and nothing sounds into a command."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from wyoming.wake import Detection

from satellite.errors import Stage
from satellite.rooms.device import room_request
from satellite.skills.timers.scheduler import TimerScheduler
from satellite.skills.timers.timers import Duration
from tests.loudness import silence, speech
from tests.scripted_engine import WAKE_WORD, ScriptedEngine, scripted_stages
from tests.scripted_rooms import STREAMING, ScriptedRoom, WakingSatellite, scripted_room
from tests.virtual_clock import ManualClock
from tests.waiting import until

pytestmark = pytest.mark.virtual_clock

STORY = "Tell me a story."
STOP = (silence(5), speech(15), silence(10))
COMMAND = (WAKE_WORD, silence(10), speech(30))
AT_ONCE_SECONDS = 0.9  # of which 0.5 may be sent ahead
TEXTS = {0: "Stop.", 25: STORY}


def engine(*answer: str) -> ScriptedEngine:
    return ScriptedEngine(TEXTS, answer=answer or ["One two three four five six."])


async def heard_after(room: ScriptedRoom, seconds: float) -> float:
    before = room.seconds()
    await asyncio.sleep(seconds)
    return room.seconds() - before


@pytest.mark.parametrize("transport", STREAMING)
@pytest.mark.parametrize("how", ["stop", "wake word"])
async def test_an_announcement_is_stopped(transport: str, how: str, tmp_path: Path) -> None:
    async with scripted_room(transport, scripted_stages(engine()), tmp_path) as room:
        announcing = room.announce(60)
        await asyncio.sleep(5)
        assert room.conversation.sounding == "announcement"
        room.say(*(STOP if how == "stop" else (silence(5), WAKE_WORD)))
        await until(lambda: not room.said)
        assert await heard_after(room, 3) < AT_ONCE_SECONDS
        assert room.conversation.sounding is None
        await announcing


@pytest.mark.parametrize("transport", [*STREAMING, "waking"])
@pytest.mark.parametrize("moment", ["ring", "pause"])
@pytest.mark.parametrize("how", ["stop", "wake word"])
async def test_a_ringing_timer_is_stopped(transport: str, moment: str, how: str, tmp_path: Path) -> None:
    clock = ManualClock()
    scheduler = TimerScheduler(tmp_path, clock=clock)
    stages = scripted_stages(engine(), tts={"voice": "joe"})
    async with scripted_room(transport, stages, tmp_path, scheduler=scheduler) as room:
        scheduler.timers.start(Duration(seconds=1), place="kitchen", language="en")
        clock.now += 1
        scheduler.timers.tick()
        await until(lambda: room.seconds() > 3)
        if moment == "pause":
            await until(lambda: room.conversation._sound.sounding is None)
        assert room.conversation.sounding == "timer"
        if isinstance(room, WakingSatellite):
            await room.wake()  # its microphone is closed until then, so that the wake word is all it hears
        else:
            room.say(*(STOP if how == "stop" else (WAKE_WORD, silence(200))))
        await until(lambda: not scheduler.timers.all())
        assert await heard_after(room, 30) < AT_ONCE_SECONDS


async def test_a_room_in_which_nothing_sounds_listens_for_no_stop(tmp_path: Path) -> None:
    heard = engine()
    async with scripted_room("satellite", scripted_stages(heard), tmp_path) as room:
        room.say(*STOP)
        await asyncio.sleep(3)
        assert room.conversation._stop_listener._listening is None
        await room.announce(2)
        await asyncio.sleep(1)
        room.say(*STOP)
        await asyncio.sleep(3)
        assert room.conversation._stop_listener._listening is None
        assert heard.transcribed == []


async def test_speech_that_is_no_stop_ends_nothing(tmp_path: Path) -> None:
    heard = engine()
    heard.texts = {0: "Yes."}
    async with scripted_room("satellite", scripted_stages(heard), tmp_path) as room:
        announcing = room.announce(10)
        room.say(*STOP)
        await announcing
        assert heard.transcribed == ["Yes."]
        assert room.seconds() == pytest.approx(10, abs=0.1)


async def test_stop_is_understood_in_each_language_of_the_house(tmp_path: Path) -> None:
    heard = engine()
    heard.language = "fr"  # of a single word Whisper often takes the wrong one
    async with scripted_room("satellite", scripted_stages(heard, languages=["fr", "en"]), tmp_path) as room:
        announcing = room.announce(60)
        await asyncio.sleep(2)
        room.say(*STOP)
        await announcing
        assert room.seconds() < 5


@pytest.mark.parametrize("start", [Stage.CHAT, Stage.TTS])
async def test_an_answer_to_text_does_not_wait_behind_an_announcement(start: Stage, tmp_path: Path) -> None:
    stages = scripted_stages(engine("One two three."))
    async with scripted_room("waking", stages, tmp_path) as room:
        first, second = room.announce(22), room.announce(4)
        await asyncio.sleep(3)
        began = asyncio.get_running_loop().time()
        request = room_request(room.conversation.room, start, Stage.TTS)
        await room.conversation.begin(replace(request, text="One two three."))
        await until(lambda: room.conversation.sounding == "answer")
        assert asyncio.get_running_loop().time() - began < 0.5
        await until(lambda: not room.conversation.active)
        assert room.seconds() < 3 + 0.5 + 3 + 0.7
        await asyncio.gather(first, second)
        assert room.seconds() == pytest.approx(3 + 0.5 + 3 + 4, abs=0.3)


async def test_an_announcement_does_not_sound_between_a_wake_word_and_the_command(tmp_path: Path) -> None:
    async with scripted_room("waking", scripted_stages(engine()), tmp_path) as room:
        assert isinstance(room, WakingSatellite)
        await room.device.take(Detection(name="okay_nabu").event())
        announcing = room.announce(2)
        await asyncio.sleep(1)
        await room.wake()
        await asyncio.sleep(1)
        assert room.seconds() == 0
        room.say(speech(30), silence(60))
        await announcing
        assert room.seconds() == pytest.approx(6 + 2, abs=0.1)


@pytest.mark.parametrize("transport", [*STREAMING, "speech"])
async def test_an_announcement_waits_for_a_follow_up(transport: str, tmp_path: Path) -> None:
    async with scripted_room(transport, scripted_stages(engine("One two three?")), tmp_path) as room:
        room.say(*COMMAND)
        await until(lambda: room.conversation.sounding == "answer")
        announcing = room.announce(2)
        await until(lambda: room.conversation.sounding != "answer")
        assert await heard_after(room, 5.5) < 0.1
        await announcing
        assert room.seconds() == pytest.approx(5, abs=0.1)


@pytest.mark.parametrize("pause", [25, 36])
async def test_an_announcement_waits_while_a_command_may_go_on(pause: int, tmp_path: Path) -> None:
    async with scripted_room("satellite", scripted_stages(engine("One.")), tmp_path) as room:
        room.say(*COMMAND)
        await until(lambda: not room.said)
        announcing = room.announce(2)
        room.say(silence(pause), speech(30))
        await until(lambda: not room.said)
        before = room.seconds()
        await asyncio.sleep(0.7)
        assert room.seconds() - before < 0.5
        await announcing
        assert room.conversation.activity == "waiting for the wake word"


async def test_stop_says_whether_there_was_anything(tmp_path: Path) -> None:
    async with scripted_room("satellite", scripted_stages(engine()), tmp_path) as room:
        assert not await room.conversation.stop()
        announcing = room.announce(20)
        await asyncio.sleep(2)
        assert await room.conversation.stop()
        await announcing
        room.say(*COMMAND)
        await until(lambda: room.conversation.activity == "listening")
        assert await room.conversation.stop()
        await until(lambda: room.conversation.activity == "waiting for the wake word")
        room.said = b""
        room.say(*COMMAND)
        await until(lambda: room.conversation.sounding == "answer")
        assert await room.conversation.stop()
        assert await heard_after(room, 5) < 0.1
        assert not await room.conversation.stop()
