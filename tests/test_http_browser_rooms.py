"""`/room/ws`: a browser is a room as any other, and one that is hostile, slow or gone costs nobody anything."""

import asyncio
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from satellite.audio.pcm import CANONICAL, RATE
from satellite.config.rooms import BrowserRoomSettings, WyomingRoomSettings
from satellite.errors import SatelliteError
from satellite.http.page_device import BrowserRoom
from satellite.rooms.playback import SharedSound
from satellite.skills.timers.timers import Duration
from tests.loudness import silence, sound, speech
from tests.room_page import Page, house, page
from tests.scripted_engine import WAKE_WORD, ScriptedEngine, assert_no_task_is_left, scripted_stages
from tests.waiting import until

pytestmark = pytest.mark.virtual_clock

COMMAND = (WAKE_WORD, silence(10), speech(30), silence(80))


def engine(answer: str = "One two three.") -> ScriptedEngine:
    return ScriptedEngine({0: "Tell me a story."}, answer=[answer])


def tone(seconds: float) -> SharedSound:
    return SharedSound.complete(CANONICAL, bytes(int(seconds * RATE) * 2))


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_the_wake_word_is_heard_here_again_and_again(tmp_path: Path) -> None:
    async with house(scripted_stages(engine()), tmp_path) as there:
        async with page(there) as tablet:
            welcome = await tablet.until("welcome")
            assert (welcome["room"], welcome["wake_words"], welcome["timers"]) == ("tablet", ["okay_nabu"], [])
            for turn in (1, 2):
                assert (await tablet.until("wake_word-start"))["activity"] == "waiting for the wake word"
                tablet.say(*COMMAND)
                assert (await tablet.until("stt-start"))["activity"] == "listening"
                assert (await tablet.until("stt-end"))["text"] == "Tell me a story."
                assert (await tablet.until("chat-end"))["text"] == "One two three."
                spoken = await tablet.until("sound")
                assert (spoken["rate"], spoken["kind"]) == (RATE, "answer")
                await tablet.until("sound-end")
                assert tablet.sound_seconds() == pytest.approx(3 * turn, abs=0.01)
            (status,) = there.hub.status()
            assert (status.room, status.uri, status.state, status.doing) == (
                "tablet", "browser:", "connected", "speaking",
            )  # fmt: skip
        await until(lambda: there.names() == [])


async def test_sound_is_sent_at_the_pace_at_which_it_is_heard(tmp_path: Path) -> None:
    async with house(scripted_stages(engine()), tmp_path) as there, page(there) as tablet:
        await tablet.until("welcome")
        began = now()
        await there.hub.room("tablet").announce(tone(3))
        assert now() - began == pytest.approx(3, abs=0.2)
        assert max(at for at, _ in tablet.heard) - began == pytest.approx(2.5, abs=0.2)
        tablet.reports = False
        with pytest.raises(SatelliteError, match="does not play sound") as unheard:
            await there.hub.room("tablet").announce(tone(1))
        assert unheard.value.code == "room-unreachable"


async def test_sounds_say_what_they_are(tmp_path: Path) -> None:
    settings = BrowserRoomSettings(name="tablet", sounds=True)
    async with house(scripted_stages(engine()), tmp_path, settings) as there, page(there) as tablet:
        await tablet.until("wake_word-start")
        tablet.say(*COMMAND)
        for kind in (None, None, "answer"):  # it listens; the command is over
            assert (await tablet.until("sound"))["kind"] == kind
        await tablet.until("wake_word-start")
        room = there.hub.room("tablet")
        playing = asyncio.create_task(room.play(tone(60)))
        assert (await tablet.until("sound"))["kind"] == "media"
        await tablet.send("stop")
        await tablet.until("sound-end")  # it fades away
        await playing
        ringing = asyncio.create_task(room.announce(tone(1)))
        assert (await tablet.until("sound"))["kind"] == "announcement"
        await ringing


async def test_a_conversation_that_fails_has_the_page_connect_again(tmp_path: Path) -> None:
    async with house(scripted_stages(engine()), tmp_path) as there, page(there) as tablet:
        await tablet.until("wake_word-start")
        room = there.hub.room("tablet")
        assert isinstance(room, BrowserRoom)
        room.device.fail()
        await tablet.connection.wait_closed()
        assert tablet.connection.close_code == 1011
        await until(lambda: there.names() == [])


@pytest.mark.parametrize("interrupt_by", ["speech", "wake_word"])
async def test_an_answer_is_interrupted(interrupt_by: Any, tmp_path: Path) -> None:
    settings = BrowserRoomSettings(name="tablet", interrupt_by=interrupt_by)
    stages = scripted_stages(engine("One two three four five six seven eight nine ten."))
    async with house(stages, tmp_path, settings) as there, page(there) as tablet:
        await tablet.until("wake_word-start")
        tablet.say(*COMMAND)
        await tablet.until("sound")
        await asyncio.sleep(2)
        tablet.frames.clear()
        before = now()
        tablet.say(speech(12), silence(30))
        if interrupt_by == "wake_word":
            await asyncio.sleep(2)
            assert "silence" not in {frame["type"] for frame in tablet.frames}
            before = now()
            tablet.say(*COMMAND)
        await tablet.until("silence")
        assert now() - before < 0.6
        await tablet.until("stt-start", activity="listening")
        assert max(at for at, _ in tablet.heard) < now()


async def test_what_the_controls_do(tmp_path: Path) -> None:
    async with house(scripted_stages(engine()), tmp_path) as there, page(there) as tablet:
        await tablet.until("wake_word-start")
        room = there.hub.room("tablet")
        await tablet.send("start")
        await tablet.until("stt-start")
        tablet.say(speech(30), silence(80))
        await tablet.until("sound")
        await tablet.send("stop")
        await tablet.until("silence")
        await tablet.until("wake_word-start")
        await tablet.send("mute", muted=True)
        await tablet.until("muted", muted=True)
        assert (room.status().muted, room.status().doing) == (True, "muted")
        tablet.say(*COMMAND)
        await tablet.send("start")
        assert (await tablet.until("error"))["code"] == "room-cannot-start"
        await room.set_muted(False)
        await tablet.until("muted", muted=False)
        await room.set_volume(0.25)
        await tablet.until("volume", volume=0.25)
        await tablet.send("volume", volume=0.75)
        await until(lambda: room.status().volume == 0.75)


async def test_a_page_that_comes_back_is_as_it_was(tmp_path: Path) -> None:
    async with house(scripted_stages(engine()), tmp_path) as there:
        async with page(there) as tablet:
            await tablet.until("welcome")
            await there.hub.room("tablet").set_listen_only(True)
            there.timers.timers.start(Duration(seconds=90), place="tablet", name="tea")
        await until(lambda: there.names() == [])
        async with page(there, " tablet ", muted=True, volume=0.5) as tablet:
            welcome = await tablet.until("welcome")
            assert (welcome["muted"], welcome["volume"]) == (True, 0.5)
            (timer,) = welcome["timers"]
            assert (timer["name"], timer["state"], timer["seconds_left"]) == ("tea", "running", 90)
            assert there.hub.room("tablet").status().listen_only


async def test_a_timer_is_shown_and_rings_until_it_is_stopped(tmp_path: Path) -> None:
    async with house(scripted_stages(engine()), tmp_path) as there, page(there) as tablet:
        await tablet.until("welcome")
        there.timers.timers.start(Duration(seconds=5), place="tablet", name="tea")
        started = await tablet.until("timer")
        assert (started["event"], started["seconds_left"]) == ("started", 5)
        await tablet.until("timer", event="finished")
        await tablet.until("sound")
        await tablet.send("stop")
        ends = {("silence", None), ("timer", "silenced")}
        await until(lambda: ends <= {(frame["type"], frame.get("event")) for frame in tablet.frames})
        assert there.timers.timers.all() == []


async def test_the_later_of_two_pages_takes_over(tmp_path: Path) -> None:
    async with house(scripted_stages(engine()), tmp_path) as there, page(there) as first:
        await first.until("welcome")
        async with page(there, "Tablet") as second:
            assert (await second.until("welcome"))["room"] == "tablet"
            await first.connection.wait_closed()
            assert first.connection.close_code == 4001
            assert there.names() == ["tablet"]
            second.say(*COMMAND)
            await second.until("chat-end")


async def test_one_of_two_pages_that_hear_the_same_answers(tmp_path: Path) -> None:
    heard = engine()
    async with house(scripted_stages(heard), tmp_path) as there, page(there) as one, page(there, "phone") as other:
        await asyncio.gather(one.until("wake_word-start"), other.until("wake_word-start"))
        one.say(*COMMAND)
        other.say(*COMMAND)
        await until(lambda: heard.spoken)
        await asyncio.sleep(5)
        assert heard.asked == ["Tell me a story."]
        assert sorted([one.sound_seconds() > 0, other.sound_seconds() > 0]) == [False, True]


async def test_a_name_of_another_room_is_refused(tmp_path: Path) -> None:
    kitchen = WyomingRoomSettings(name="kitchen", uri="tcp://127.0.0.1:1")
    async with house(scripted_stages(engine()), tmp_path, kitchen) as there, page(there, "Kitchen") as tablet:
        assert (await tablet.until("error"))["code"] == "room-name-taken"
        await tablet.send("join", room="tablet")
        assert (await tablet.until("welcome"))["room"] == "tablet"
        assert there.names() == ["kitchen", "tablet"]


async def test_other_settings_have_the_page_connect_again(tmp_path: Path) -> None:
    settings = BrowserRoomSettings(name="tablet", wake_words=("alexa",), area="Hall")
    async with house(scripted_stages(engine()), tmp_path, settings) as there:
        async with page(there) as tablet:
            assert (await tablet.until("welcome"))["wake_words"] == ["alexa"]
            assert there.hub.status()[0].area == "Hall"
            there.browsers.apply()
            del there.configured[0]
            there.browsers.apply()
            await tablet.connection.wait_closed()
            assert tablet.connection.close_code == 4002
        async with page(there) as tablet:
            assert (await tablet.until("welcome"))["wake_words"] == ["okay_nabu"]


async def test_a_name_that_is_configured_for_another_room_is_let_go(tmp_path: Path) -> None:
    async with house(scripted_stages(engine()), tmp_path) as there, page(there) as tablet:
        await tablet.until("welcome")
        there.configured.append(WyomingRoomSettings(name="tablet", uri="tcp://127.0.0.1:1"))
        await there.hub.apply(there.configured)
        there.browsers.apply()
        await tablet.connection.wait_closed()
        await until(lambda: there.names() == ["tablet"])
        async with page(there) as again:
            assert (await again.until("error"))["code"] == "room-name-taken"


@pytest.mark.parametrize(
    "frame",
    ["", "{", "[]", '{"type": "sing"}', '{"type": "join"}', '{"type": "join", "room": ""}', '{"type": "start"}',
     '{"type": "join", "room": "a\\nb"}', '{"type": "join", "room": "x", "volume": 2}',
     f'{{"type": "join", "room": "{"x" * 65}"}}', '{"type": "played", "sound": -1}'],
)  # fmt: skip
async def test_a_wrong_frame_costs_an_error(frame: str, tmp_path: Path) -> None:
    async with house(scripted_stages(engine()), tmp_path) as there, connect(there.url()) as connection:
        assert json.loads(await connection.recv())["type"] == "ready"
        await connection.send(b"\1\2\3")  # sound of nobody
        await connection.send(frame)
        assert json.loads(await connection.recv())["code"] == "protocol-error"
        await connection.send(json.dumps({"type": "join", "room": "tablet"}))
        assert json.loads(await connection.recv())["type"] == "welcome"


@pytest.mark.parametrize(("size", "pieces", "code"), [(300_000, 1, 1009), (200_000, 10, 1008)])
async def test_too_much_sound_costs_the_connection(size: int, pieces: int, code: int, tmp_path: Path) -> None:
    async with house(scripted_stages(engine()), tmp_path) as there, page(there) as tablet:
        await tablet.until("welcome")
        for _ in range(pieces):
            await tablet.connection.send(sound(1, 0)[:2] * (size // 2))
        await tablet.connection.wait_closed()
        assert tablet.connection.close_code == code
        await until(lambda: there.names() == [])


async def test_a_flood_of_tiny_frames_leaves_the_event_loop_to_others(tmp_path: Path) -> None:
    def frame(text: bytes) -> bytes:
        return b"\x81" + bytes([0x80 | len(text)]) + bytes(4) + text

    async with house(scripted_stages(engine()), tmp_path) as there, page(there) as tablet:
        await tablet.until("welcome")
        turns = 0
        tablet.connection.transport.write(frame(b'{"type":"played","sound":0}') * 2000 + frame(b"{}"))
        while not any(frame["type"] == "error" for frame in tablet.frames):
            turns += 1
            await asyncio.sleep(0)
        assert turns >= 2000 / 4


async def test_a_page_that_vanishes_in_an_answer_leaves_nothing(tmp_path: Path) -> None:
    heard = engine("One two three four five six seven eight nine ten.")
    async with house(scripted_stages(heard), tmp_path) as there:
        async with page(there) as tablet:
            await tablet.until("welcome")
            announcing = asyncio.create_task(there.hub.room("tablet").announce(tone(30)))
            await tablet.until("sound")
            tablet.say(*COMMAND)
            await tablet.until("stt-start")
            await tablet.until("sound")
            tablet.connection.transport.abort()
            await until(lambda: there.names() == [])
        await asyncio.gather(announcing, return_exceptions=True)
        async with page(there) as tablet:
            await tablet.until("welcome")
    assert_no_task_is_left()


def vanishes(tablet: Page) -> None:
    tablet.connection.transport.abort()


def sends_garbage(tablet: Page) -> None:
    tablet.connection.transport.write(b"\xff" * 1000)


def sends_half_a_frame(tablet: Page) -> None:
    tablet.silenced = True
    tablet.connection.transport.write(b"\x82\xfe\x10\x00" + bytes(100))


def hangs(tablet: Page) -> None:
    tablet.silenced = True
    tablet.connection.transport.pause_reading()


@pytest.mark.parametrize("moment", ["welcome", "stt-start", "stt-end", "sound"])
@pytest.mark.parametrize("fault", [vanishes, sends_garbage, sends_half_a_frame, hangs])
async def test_a_page_is_the_room_again_after_each_fault_at_each_moment(
    fault: Callable[[Page], None], moment: str, tmp_path: Path
) -> None:
    async with house(scripted_stages(engine("One two three four five six seven.")), tmp_path) as there:
        async with page(there) as tablet:
            if moment != "welcome":
                tablet.say(*COMMAND)
            await tablet.until(moment)
            fault(tablet)
            await until(lambda: there.names() == [])
        async with page(there) as tablet:
            await tablet.until("welcome")
            tablet.say(*COMMAND)
            assert (await tablet.until("stt-end"))["text"] == "Tell me a story."
            await tablet.until("sound-end")
    assert_no_task_is_left()


async def test_a_page_that_does_not_read_is_cut_off(tmp_path: Path) -> None:
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    async with house(scripted_stages(engine()), tmp_path, write_timeout_seconds=0.5) as there:
        raw.connect(("127.0.0.1", there.port))
        raw.setblocking(False)
        async with connect(there.url(), sock=raw, max_queue=1, ping_interval=None, compression=None) as connection:
            await connection.send(json.dumps({"type": "join", "room": "tablet"}))
            await until(lambda: there.names() == ["tablet"])
            connection.transport.pause_reading()
            with pytest.raises((SatelliteError, ConnectionError)):
                await there.hub.room("tablet").announce(tone(600))
            await until(lambda: there.names() == [])
            connection.transport.abort()


async def test_a_token_is_needed(tmp_path: Path) -> None:
    async with house(scripted_stages(engine()), tmp_path, token="secret") as there:
        with pytest.raises(InvalidStatus) as refused:
            async with connect(there.url()):
                pass
        assert refused.value.response.status_code == 401
        async with connect(there.url("secret")) as connection:
            assert json.loads(await connection.recv())["type"] == "ready"


async def test_so_many_browsers_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("satellite.http.browser_rooms._MOST", 1)
    async with house(scripted_stages(engine()), tmp_path) as there, page(there) as one, page(there, "phone") as other:
        await one.until("welcome")
        assert (await other.until("error"))["code"] == "http-busy"
