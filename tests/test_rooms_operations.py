"""What programs have rooms do: ask, start, mute, set the volume, and have them only listen."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from satellite.audio.pcm import RATE
from satellite.errors import SatelliteError
from satellite.rooms.hub import Hub
from satellite.rooms.playback import SharedSound
from tests.host_room import host_room
from tests.loudness import silence, speech
from tests.scripted_engine import WAKE_WORD, ScriptedEngine, scripted_stages
from tests.scripted_rooms import STREAMING, ScriptedRoom, WakingSatellite, scripted_room, tone
from tests.waiting import until

pytestmark = pytest.mark.virtual_clock

COMMAND = (WAKE_WORD, silence(10), speech(30))


def engine() -> ScriptedEngine:
    return ScriptedEngine({0: "Yes, please."}, answer=["One two three."])


async def asked(room: ScriptedRoom, question: SharedSound | None) -> tuple[str, str]:
    try:
        heard = await room.conversation.ask(question, language="en")
    except SatelliteError as error:
        return error.code, str(error)
    return heard.text, heard.language


@pytest.mark.parametrize("transport", [*STREAMING, "speech"])
@pytest.mark.parametrize("question", [tone(2), None])
async def test_a_question_is_answered(transport: str, question: SharedSound | None, tmp_path: Path) -> None:
    heard = engine()
    async with scripted_room(transport, scripted_stages(heard), tmp_path) as room:
        asking = asyncio.create_task(asked(room, question))
        await asyncio.sleep(3)
        room.say(speech(30), silence(60))
        assert await asking == ("Yes, please.", "en")
        assert heard.asked == []
        assert room.seconds() == pytest.approx(0 if question is None else 2, abs=0.05)
        await asyncio.sleep(1)
        room.said = b""
        room.say(*COMMAND, silence(60))
        await until(lambda: bool(heard.asked))


async def test_who_only_listens_waits_for_an_announcement(tmp_path: Path) -> None:
    async with scripted_room("satellite", scripted_stages(engine()), tmp_path) as room:
        announcing = room.announce(5)
        await asyncio.sleep(1)
        asking = asyncio.create_task(asked(room, None))
        await announcing
        assert room.seconds() == pytest.approx(5, abs=0.1)
        await until(lambda: room.conversation.activity == "listening")
        room.say(speech(30), silence(60))
        assert await asking == ("Yes, please.", "en")


@pytest.mark.parametrize("transport", [*STREAMING, "speech"])
async def test_a_question_that_nobody_answers(transport: str, tmp_path: Path) -> None:
    async with scripted_room(transport, scripted_stages(engine()), tmp_path) as room:
        began = asyncio.get_running_loop().time()
        announcing = asyncio.create_task(room.conversation.announce(tone(1)))
        code, _ = await asked(room, tone(1))
        assert code == "stt-no-speech"
        assert asyncio.get_running_loop().time() - began == pytest.approx(7, abs=0.6)
        await announcing
        assert room.seconds() == pytest.approx(2, abs=0.05)


async def test_a_satellite_with_a_wake_word_of_its_own_cannot_be_asked(tmp_path: Path) -> None:
    async with scripted_room("waking", scripted_stages(engine()), tmp_path) as room:
        assert (await asked(room, None))[0] == "room-cannot-start"
        with pytest.raises(SatelliteError, match="its own wake word"):
            await room.conversation.start()
        await room.conversation.announce(tone(1))


@pytest.mark.parametrize("transport", STREAMING)
async def test_somebody_who_speaks_with_the_room_instead_is_answered(transport: str, tmp_path: Path) -> None:
    heard = engine()
    async with scripted_room(transport, scripted_stages(heard), tmp_path) as room:
        asking = asyncio.create_task(asked(room, tone(20)))
        await asyncio.sleep(3)
        room.say(*COMMAND, silence(60))
        assert (await asking)[0] == "room-busy"
        await until(lambda: bool(heard.asked))


async def test_whoever_gives_up_a_question_leaves_the_room_as_it_was(tmp_path: Path) -> None:
    heard = engine()
    async with scripted_room("satellite", scripted_stages(heard), tmp_path) as room:
        asking = asyncio.create_task(asked(room, None))
        await until(lambda: room.conversation.activity == "listening")
        asking.cancel()
        await until(lambda: room.conversation.activity == "waiting for the wake word")
        await room.conversation.announce(tone(1))
        room.say(*COMMAND, silence(60))
        await until(lambda: bool(heard.asked))


async def test_two_who_wait_to_listen_do_so_one_after_the_other(tmp_path: Path) -> None:
    async with scripted_room("satellite", scripted_stages(engine()), tmp_path) as room:
        room.say(*COMMAND)
        await until(lambda: room.conversation.sounding == "answer")
        asking = [asyncio.create_task(asked(room, None)) for _ in range(2)]
        for said in asking:
            await until(lambda: room.conversation.activity == "listening")
            room.said = b""
            room.say(speech(30), silence(60))
            assert await said == ("Yes, please.", "en")


async def test_a_stop_ends_waiting_for_a_device_to_listen(tmp_path: Path) -> None:
    async with scripted_room("speech", scripted_stages(engine()), tmp_path) as room:
        asking = asyncio.create_task(asked(room, None))
        await asyncio.sleep(0.5)
        began = asyncio.get_running_loop().time()
        assert await room.conversation.stop()
        assert (await asking)[0] == "stt-stream-failed"
        await room.conversation.announce(tone(1))
        assert asyncio.get_running_loop().time() - began == pytest.approx(1, abs=0.2)
        assert not await room.conversation.stop()


@pytest.mark.parametrize("what", ["start", "ask"])
async def test_what_a_muted_room_cannot_do_ends_nothing_there(what: str, tmp_path: Path) -> None:
    async with scripted_room("satellite", scripted_stages(engine()), tmp_path) as room:
        await room.conversation.set_muted(True)
        announcing = room.announce(10)
        await asyncio.sleep(2)
        with pytest.raises(SatelliteError, match="muted"):
            await (room.conversation.start() if what == "start" else room.conversation.ask(tone(1)))
        await announcing
        assert room.seconds() == pytest.approx(10, abs=0.1)


@pytest.mark.parametrize("transport", STREAMING)
@pytest.mark.parametrize("during", ["nothing", "an announcement", "an answer"])
async def test_a_room_listens_when_it_is_started(transport: str, during: str, tmp_path: Path) -> None:
    heard = engine()
    async with scripted_room(transport, scripted_stages(heard), tmp_path) as room:
        if during == "an announcement":
            room.announce(20)
            await asyncio.sleep(2)
        elif during == "an answer":
            room.say(*COMMAND)
            await until(lambda: room.conversation.sounding == "answer")
        before = len(heard.asked)
        await room.conversation.start()
        await until(lambda: room.conversation.activity == "listening")
        assert room.conversation.sounding is None
        room.say(speech(30), silence(60))
        await until(lambda: len(heard.asked) > before)


async def test_a_room_that_is_started_between_two_runs_goes_on_hearing_the_wake_word(tmp_path: Path) -> None:
    heard = engine()
    async with scripted_room("asking once", scripted_stages(heard), tmp_path) as room:
        for _ in range(2):
            await room.conversation.start()
            await until(lambda: room.conversation.activity == "listening")
            await room.conversation.stop()
            await until(lambda: room.conversation.activity == "idle")
        await room.conversation.start()
        await room.conversation.stop()
        await asyncio.sleep(3)
        room.say(*COMMAND, silence(60))
        await until(lambda: bool(heard.asked))


@pytest.mark.parametrize("transport", [*STREAMING, "waking"])
async def test_a_muted_room_hears_nothing(transport: str, tmp_path: Path) -> None:
    heard = engine()
    async with scripted_room(transport, scripted_stages(heard), tmp_path) as room:

        async def call() -> None:
            room.said = b""
            if isinstance(room, WakingSatellite):
                await room.wake()
            room.say(*COMMAND, silence(60))

        await call()
        await until(lambda: room.conversation.activity == "listening")
        await room.conversation.set_muted(True)
        await until(lambda: not room.conversation.engaged)
        await call()
        await asyncio.sleep(5)
        assert heard.transcribed == []
        with pytest.raises(SatelliteError, match="muted"):
            await room.conversation.start()
        await room.conversation.announce(tone(1))
        await room.conversation.set_muted(False)
        await call()
        await until(lambda: bool(heard.asked))


def loudness(pcm: bytes) -> int:
    return int(np.abs(np.frombuffer(pcm, np.int16)).max())


@pytest.mark.parametrize("transport", ["satellite", "host"])
async def test_a_device_without_a_volume_gets_scaled_sound(transport: str, tmp_path: Path) -> None:
    async with scripted_room(transport, scripted_stages(engine()), tmp_path) as room:
        announcing = asyncio.create_task(room.conversation.announce(tone(4)))
        await asyncio.sleep(2)
        await room.conversation.set_volume(0.25)
        await announcing
        samples = np.abs(np.frombuffer(room.sounded(), np.int16).astype(int))
        assert samples[: RATE // 2].max() == 1000
        assert samples[-RATE:].max() == 250
        assert np.abs(np.diff(samples)).max() < 5  # no click


async def test_a_room_that_only_listens_does_what_it_is_told(tmp_path: Path) -> None:
    heard = engine()
    async with scripted_room("satellite", scripted_stages(heard), tmp_path) as room:
        announcing = room.announce(20)
        await asyncio.sleep(2)
        await room.conversation.set_listen_only(True)
        await announcing
        before = room.seconds()
        room.say(*COMMAND, silence(60))
        await until(lambda: bool(heard.asked))
        await until(lambda: room.conversation.activity == "waiting for the wake word")
        with pytest.raises(SatelliteError) as refused:
            await room.conversation.announce(tone(1))
        assert refused.value.code == "room-listens-only"
        assert room.seconds() == before
        await room.conversation.set_listen_only(False)
        await room.conversation.announce(tone(1))
        assert room.seconds() == pytest.approx(before + 1, abs=0.05)


async def test_what_was_set_is_set_again_at_a_new_connection(tmp_path: Path) -> None:
    async with scripted_room("satellite", scripted_stages(engine()), tmp_path) as room:
        room.conversation.modes.volume = 0.5
        await room.conversation.restore()
        await room.conversation.announce(tone(1))
        assert loudness(room.sounded()) == 500


async def test_rooms_come_and_go(tmp_path: Path) -> None:
    async with scripted_room("satellite", scripted_stages(engine()), tmp_path) as room:
        hub = Hub((), room.context)
        study = host_room(room.context, {"file": tmp_path / "none.wav"})
        hub.start()
        with pytest.raises(SatelliteError, match="'study'; there are none"):
            hub.room("study")
        hub.add(study)
        with pytest.raises(SatelliteError, match="already"):
            hub.add(study)
        assert hub.room("study") is study
        await until(lambda: study.status().state == "off")
        await hub.remove(study)
        await hub.remove(study)
        assert hub.rooms == []
        await hub.stop()
