"""What is done with rooms by the event of the command line, and by `satellite rooms` itself, with scripted rooms."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from satellite.config.rooms import RoomSettings
from satellite.engines.protocols import Transcription, VoiceChoice
from satellite.errors import ProtocolError, SatelliteError
from satellite.rooms import announcements
from satellite.rooms.chimes import chime
from tests.command_line import satellite
from tests.house import House, house
from tests.media_server import media_server, sound_file
from tests.scripted_engine import FORMAT
from tests.waiting import until

SECOND = 2 * FORMAT.rate
DINNER = "Dinner is ready."


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    (tmp_path / "bell.wav").write_bytes(await sound_file("wav", 2))
    async with house("kitchen", "office", "hall", media_directory=tmp_path) as one:
        one.rooms["hall"].connected = False
        yield one


async def run(home: House, action: str, room: str = "kitchen", **fields: Any) -> dict[str, Any]:
    return await home.commands.run({"action": action, "room": room, **fields})


async def code_of(home: House, action: str, room: str = "kitchen", **fields: Any) -> str:
    with pytest.raises(SatelliteError) as error:
        await run(home, action, room, **fields)
    return error.value.code


@pytest.mark.parametrize(
    ("said", "choices", "expected"),
    [
        ("Yes, please.", ["yes", "no"], "yes"),
        ("Open it.", [{"id": "open", "sentences": ["open it", "yes"]}, "no"], "open"),
        ("Perhaps.", ["yes", "no"], None),
        ("Blue.", [], None),
    ],
)
async def test_what_is_said_to_a_question_is_returned(
    home: House, said: str, choices: list[Any], expected: str | None
) -> None:
    home.rooms["kitchen"].answer = Transcription(said, "en")
    home.rooms["kitchen"].settings = RoomSettings(name="kitchen", voice="siwis", language="fr")
    answer = await run(home, "ask", text="Shall I open it?", choices=choices)
    assert answer == {"text": said, "language": "en", "choice": expected}
    assert home.engine.spoken == ["Shall I open it?"]
    assert home.engine.chosen == VoiceChoice("siwis", "fr")  # the room's
    assert home.rooms["kitchen"].heard_bytes == 4 * SECOND  # the words, without a chime


async def test_a_question_that_nobody_answers_has_its_code(home: House) -> None:
    home.rooms["kitchen"].answer = SatelliteError("nobody spoke", code="stt-no-speech")
    assert await code_of(home, "ask", text="Hello?") == "stt-no-speech"
    home.rooms["kitchen"].answer = None
    assert await code_of(home, "ask", text="Hello?", timeout=1) == "ask-timeout"
    assert await code_of(home, "ask", text="x" * 20_001) == "tts-too-long"


OPERATIONS: list[tuple[str, dict[str, Any], tuple[object, ...]]] = [
    ("start", {}, ("start",)),
    ("stop", {}, ("stop",)),
    ("mute", {}, ("mute", True)),
    ("mute", {"muted": False}, ("mute", False)),
    ("volume", {"volume": 0.25}, ("volume", 0.25)),
    ("listen-only", {}, ("listen-only", True)),
    ("listen-only", {"listen_only": False}, ("listen-only", False)),
]


@pytest.mark.parametrize(("action", "fields", "done"), OPERATIONS)
async def test_each_operation_reaches_its_room_alone(
    home: House, action: str, fields: dict[str, Any], done: tuple[object, ...]
) -> None:
    await run(home, action, **fields)
    assert (home.rooms["kitchen"].done, home.rooms["office"].done) == ([done], [])
    assert await code_of(home, action, "hall", **fields) == "room-unreachable"
    assert await code_of(home, action, "cellar", **fields) == "unknown-room"


async def test_files_and_addresses_are_played(home: House) -> None:
    kitchen = home.rooms["kitchen"]
    async with media_server() as server:
        for fields in ({"file": "bell.wav"}, {"url": f"{server.url}/file.wav"}):
            kitchen.done.clear()
            await run(home, "play", **fields)
            await until(lambda: kitchen.done == [("play",), ("play ended",)])
    kitchen.done.clear()
    await run(home, "play", file="bell.wav", announce=True)
    assert kitchen.done == [("announce",), ("announce ended",)]
    assert kitchen.heard_bytes == 2 * SECOND


async def test_an_endless_radio_plays_until_the_controls_end(home: House) -> None:
    async with media_server() as server:
        await run(home, "play", url=f"{server.url}/radio")
        await until(lambda: home.rooms["kitchen"].heard_bytes > 20 * SECOND)
        assert home.rooms["kitchen"].done == [("play",)]
        await home.controls.close()
        await server.hung_up.wait()


@pytest.mark.parametrize(
    ("room", "fields", "code"),
    [
        ("kitchen", {}, "protocol-error"),
        ("kitchen", {"file": "a.wav", "station": "jazz"}, "protocol-error"),
        ("kitchen", {"url": "file:///etc/passwd"}, "protocol-error"),
        ("kitchen", {"file": "../secret.wav"}, "media-not-found"),
        ("kitchen", {"station": "jazz"}, "media-not-found"),
        ("kitchen", {"url": "http://127.0.0.1:1/x"}, "media-unreachable"),
        ("hall", {"file": "bell.wav"}, "room-unreachable"),
        ("cellar", {"file": "bell.wav"}, "unknown-room"),
    ],
)
async def test_what_cannot_be_played_has_its_code(home: House, room: str, fields: dict[str, Any], code: str) -> None:
    assert await code_of(home, "play", room, **fields) == code
    assert home.rooms["kitchen"].done == []


async def test_a_broadcast_is_heard_in_all_other_rooms_that_are_connected(home: House) -> None:
    assert await run(home, "broadcast", text=DINNER) == {"heard": ["office"], "failed": {}}
    assert home.rooms["kitchen"].done == []
    home.rooms["office"].connected = False
    assert await code_of(home, "broadcast", text=DINNER) == "announce-failed"


async def test_two_rooms_are_connected(home: House) -> None:
    await run(home, "call", to="office")
    assert await code_of(home, "call", to="kitchen") == "room-busy"
    assert await code_of(home, "call", "office", to="kitchen") == "room-busy"
    assert [home.rooms[name].done for name in ("kitchen", "office")] == [[("call", "office")], [("call", "kitchen")]]
    assert home.controls.hang_up("office")
    await until(lambda: all(home.rooms[name].done[-1] == ("call ended",) for name in ("kitchen", "office")))
    assert not home.controls.hang_up("kitchen")
    assert await code_of(home, "call", to="hall") == "room-unreachable"
    assert await code_of(home, "call", to="cellar") == "unknown-room"


@pytest.mark.parametrize("first", [None, False, "bell.wav"])
async def test_the_sound_before_an_announcement_is_a_choice(home: House, first: bool | str | None) -> None:
    choice = {} if first is None else {"chime": first}
    await home.announcer.announce({"text": DINNER, "rooms": ["kitchen"], **choice})
    expected = {None: len(chime(FORMAT)), False: 0, "bell.wav": 2 * SECOND}[first]
    assert home.rooms["kitchen"].heard_bytes - 3 * SECOND == expected
    with pytest.raises(SatelliteError, match=r"x\.wav"):
        await home.announcer.announce({"text": DINNER, "chime": "x.wav"})


@pytest.mark.parametrize(("configured", "expected"), [("bell.wav", 2 * SECOND), ("", 0), ("gone.wav", None)])
async def test_the_configured_sound_takes_the_place_of_the_chime(
    tmp_path: Path, configured: str, expected: int | None
) -> None:
    (tmp_path / "bell.wav").write_bytes(await sound_file("wav", 2))
    async with house("kitchen", media_directory=tmp_path, announcement_sound=configured) as home:
        assert await home.announcer.say(DINNER) == {"heard": ["kitchen"], "failed": {}}
        sounded = home.rooms["kitchen"].heard_bytes - 3 * SECOND
        assert sounded == (len(chime(FORMAT)) if expected is None else expected)


async def test_a_long_sound_before_an_announcement_is_cut(home: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcements, "_LONGEST_CHIME_SECONDS", 0.5)
    await home.announcer.say(DINNER, ["kitchen"], "bell.wav")
    assert home.rooms["kitchen"].heard_bytes < 4 * SECOND


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"action": "fly", "room": "kitchen"},
        {"action": "stop", "room": 1},
        {"action": ["stop"], "room": "kitchen"},
        {"action": "volume", "room": "kitchen"},
        {"action": "volume", "room": "kitchen", "volume": 2},
        {"action": "stop", "room": "kitchen", "more": 1},
        {"action": "ask", "room": "kitchen", "text": " "},
    ],
)
async def test_what_the_command_line_could_not_have_sent_is_refused(home: House, data: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        await home.commands.run(data)
    assert home.rooms["kitchen"].done == []


async def test_the_command_line_operates_rooms(home: House) -> None:
    kitchen = home.rooms["kitchen"]
    kitchen.answer = Transcription("Yes, please.", "en")
    async with home.wyoming() as uri:

        async def said(*words: str) -> tuple[int, str]:
            result = await asyncio.to_thread(satellite, "rooms", *words, "--uri", uri)
            return result.returncode, result.stdout or result.stderr

        question = ("ask", "kitchen", "Shall I?", "--choice", "yes", "--choice", "no", "--timeout", "50")
        assert await said(*question) == (0, "yes: Yes, please.\n")
        status, printed = await said(*question, "--json")
        assert json.loads(printed) == {"text": "Yes, please.", "language": "en", "choice": "yes"}
        kitchen.done.clear()
        for words in ("stop kitchen", "start kitchen", "mute kitchen", "unmute kitchen", "volume kitchen 40%"):
            status, _ = await said(*words.split())
            assert status == 0, words
        assert await said("listen-only", "kitchen", "--off") == (0, "")
        assert await said("play", "kitchen", "bell.wav", "--announce") == (0, "")
        assert await said("broadcast", "office", DINNER) == (0, "")
        assert kitchen.done[:8] == [
            ("stop",), ("start",), ("mute", True), ("mute", False), ("volume", 0.4), ("listen-only", False),
            ("announce",), ("announce ended",),
        ]  # fmt: skip
        assert await said("call", "kitchen", "office") == (0, "")
        assert kitchen.done[-1] == ("call", "office")
        for what, code in (("jazz", "media-not-found"), ("http://127.0.0.1:1/x", "media-unreachable")):
            status, printed = await said("play", "kitchen", what)
            assert (status, code in printed) == (1, True)
        assert await said("stop", "cellar") == (
            1, "error: [unknown-room] there is no room 'cellar'; there are: kitchen, office, hall\n",
        )  # fmt: skip
        assert (await said("volume", "kitchen", "140"))[0] == 2


async def test_the_sound_before_an_announcement_is_an_option_of_the_command_line(home: House) -> None:
    async with home.wyoming() as uri:
        for option, sounded in ((("--no-chime",), 3), (("--chime", "bell.wav"), 5)):
            await asyncio.to_thread(satellite, "announce", "kitchen", DINNER, *option, "--uri", uri)
            assert home.rooms["kitchen"].heard_bytes == sounded * SECOND
