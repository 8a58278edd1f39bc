"""Commands about rooms, by voice: what they do in scripted rooms, and what is left to others."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from satellite.audio.pcm import CANONICAL
from satellite.pipeline.dialogue import Question
from satellite.rooms.chimes import chime
from satellite.rooms.device import Capabilities
from satellite.skills import grammars
from satellite.skills.commands import CommandResponder
from satellite.skills.timers.scheduler import TimerScheduler
from tests.house import House, house
from tests.loudness import sound
from tests.media_server import MediaServer, media_server, sound_file
from tests.scripted_engine import FORMAT
from tests.waiting import until

SECOND = 2 * FORMAT.rate
ROOMS = ("kitchen", "office", "hall")


@pytest.fixture(scope="module", autouse=True)
def _compiled_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grammars, "_compiled", lru_cache(grammars._compiled))
        yield


@pytest.fixture
async def server() -> AsyncIterator[MediaServer]:
    async with media_server() as one:
        yield one


@pytest.fixture
async def home(tmp_path: Path, server: MediaServer) -> AsyncIterator[House]:
    (tmp_path / "front-door_bell.wav").write_bytes(await sound_file("wav"))
    stations = {"Jazz": f"{server.url}/radio", "Silence": "http://127.0.0.1:1/x"}
    async with house(*ROOMS, media_directory=tmp_path, stations=stations) as one:
        yield one


class Listener:
    """Answers as the daemon's commands do."""

    def __init__(self, home: House, folder: Path, *, home_assistant: bool = False) -> None:
        self.responder = CommandResponder(
            TimerScheduler(folder),
            rooms={name: name for name in ROOMS},
            house=lambda: home.controls,
            home_assistant=home_assistant,
        )

    async def said(self, text: str, place: str = "kitchen", **more: Any) -> str | None:
        """Return what is answered; None where another shall answer."""
        reply = await self.responder.respond(Question(text, place=place, language="en", **more))
        return None if reply is None else reply.text


@pytest.fixture
async def listener(home: House, tmp_path: Path) -> AsyncIterator[Listener]:
    one = Listener(home, tmp_path)
    yield one
    await one.responder.close()


async def test_another_room_is_told_something(home: House, listener: Listener) -> None:
    assert await listener.said("Tell the office that dinner is ready.") == "Done"
    await until(lambda: ("announce ended",) in home.rooms["office"].done)
    assert home.engine.spoken == ["dinner is ready"]
    assert home.rooms["kitchen"].done == home.rooms["hall"].done == []


async def test_a_broadcast_is_heard_in_all_other_rooms(home: House, listener: Listener) -> None:
    assert await listener.said("Broadcast dinner is ready.") == "Done"
    for name in ("office", "hall"):
        await until(lambda name=name: ("announce ended",) in home.rooms[name].done)  # type: ignore[misc]
    assert home.rooms["kitchen"].done == []
    home.rooms["office"].connected = home.rooms["hall"].connected = False
    assert await listener.said("Broadcast dinner is ready.") == "An unexpected error occurred"


async def test_a_broadcast_may_be_in_the_voice_of_who_said_it(tmp_path: Path) -> None:
    async with house(*ROOMS, broadcast="recording") as home:
        listener = Listener(home, tmp_path)
        question = Question("Broadcast dinner is ready.", place="kitchen", language="en")
        said = sound(60, 3000)  # 1.9 s
        assert await listener.responder.respond(replace(question, recording=lambda: said)) is not None
        await until(lambda: ("announce ended",) in home.rooms["office"].done)
        assert home.engine.spoken == []
        assert len(chime(CANONICAL)) + SECOND < home.rooms["office"].heard_bytes < len(chime(CANONICAL)) + 2 * SECOND
        await listener.responder.respond(question)  # typed
        await until(lambda: home.engine.spoken == ["dinner is ready"])
        await listener.responder.close()


@pytest.mark.parametrize(
    ("before", "text", "after"),
    [
        (0.5, "Volume up.", 0.6),
        (0.5, "Turn the volume down.", 0.4),
        (0.05, "Quieter", 0.0),
        (0.5, "Louder.", 0.6),
        (None, "Volume down", 0.9),
        (0.5, "Turn the volume up by 30 percent", 0.8),
        (None, "Set the volume to 30 percent.", 0.3),
    ],
)
async def test_the_volume_is_that_of_the_room(
    home: House, listener: Listener, before: float | None, text: str, after: float
) -> None:
    home.rooms["kitchen"].volume = before
    assert await listener.said(text) == "Volume set"
    assert home.rooms["kitchen"].volume == pytest.approx(after)
    assert home.rooms["office"].done == []


async def test_another_room_may_be_named(home: House, listener: Listener) -> None:
    assert await listener.said("Set the office volume to 30 percent.") == "Volume set"
    assert await listener.said("Play front door bell in the office.") == ""
    await until(lambda: home.rooms["office"].done[-1:] == [("play ended",)])
    assert home.rooms["office"].done[0] == ("volume", 0.3)
    assert home.rooms["office"].heard_bytes == SECOND
    assert home.rooms["kitchen"].done == []


async def test_a_room_mutes_itself(home: House, listener: Listener) -> None:
    assert await listener.said("Mute yourself.") == "Muted"
    assert home.rooms["kitchen"].done == [("mute", True)]


async def test_another_room_is_called(home: House, listener: Listener) -> None:
    assert await listener.said("Call the office.") == ""
    await until(lambda: ("call", "kitchen") in home.rooms["office"].done)
    assert await listener.said("Hang up.", "office") == ""
    await until(lambda: ("call ended",) in home.rooms["kitchen"].done)
    assert await listener.said("Hang up.") is None
    home.rooms["hall"].connected = False
    assert await listener.said("Call the hall.") == ""
    await until(lambda: ("announce ended",) in home.rooms["kitchen"].done)
    assert home.engine.spoken == ["An unexpected error occurred"]


async def test_a_radio_is_played_and_one_that_is_off_is_reported(home: House, listener: Listener) -> None:
    assert await listener.said("Play jazz.") == ""
    await until(lambda: home.rooms["kitchen"].heard_bytes > 5 * SECOND)
    assert await listener.said("Play silence.", "office") == ""
    await until(lambda: ("announce ended",) in home.rooms["office"].done)
    assert home.engine.spoken == ["An unexpected error occurred"]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("Volume up.", "http 127.0.0.1"),
        ("Mute yourself.", "http 127.0.0.1"),
        ("Play jazz.", "http 127.0.0.1"),
        ("Hang up.", "kitchen"),
        ("Call the kitchen.", "kitchen"),
        ("Tell the cellar that dinner is ready.", "kitchen"),
        ("Play chess.", "kitchen"),
    ],
)
async def test_what_makes_no_sense_there_is_left_to_others(
    home: House, listener: Listener, text: str, place: str
) -> None:
    assert await listener.said(text, place) is None
    assert all(not room.done for room in home.rooms.values())


async def test_what_home_assistant_has_heard_is_its_own_but_for_our_rooms(home: House, tmp_path: Path) -> None:
    listener = Listener(home, tmp_path, home_assistant=True)
    theirs = {"place": "satellite garage", "satellite": "assist_satellite.garage"}
    assert await listener.said("Volume up.", **theirs) is None
    assert await listener.said("Broadcast dinner is ready.", **theirs) is None
    assert await listener.said("Set the office volume to 30 percent.", **theirs) == "Volume set"
    assert await listener.said("Volume up.") == "Volume set"
    await listener.responder.close()


async def test_only_what_acts_waits_for_the_end_of_the_sentence(listener: Listener) -> None:
    for text, acts in (("Tell the office that dinner", True), ("Mute yourself.", False), ("Volume up.", True)):
        assert await listener.responder.acts(Question(text, language="en", place="kitchen")) is acts
    assert await listener.responder.is_command("Mute yourself.", "en")


@pytest.mark.parametrize(
    ("language", "text"), [("en", "Hang up."), ("de", "Auflegen."), ("fr", "Raccroche."), ("nl", "Hang op.")]
)
async def test_a_call_is_ended_by_words_of_its_own(listener: Listener, language: str, text: str) -> None:
    assert await listener.responder.means_stop(text, language)


@pytest.mark.parametrize(
    ("capabilities", "answer"),
    [
        (Capabilities(), "Timer set for 5 minutes"),
        (Capabilities(announces=False, rings=True), "Timer set for 5 minutes"),
        (Capabilities(announces=False), "Sorry, timers are not supported on this device"),
        (Capabilities(speaker=False), "Sorry, timers are not supported on this device"),
    ],
)
async def test_a_timer_is_refused_where_it_could_not_ring(
    home: House, listener: Listener, capabilities: Capabilities, answer: str
) -> None:
    home.rooms["office"].capabilities = capabilities
    assert await listener.said("Set a timer for five minutes.", "office") == answer
    assert await listener.said("Set a timer for five minutes in the office.") == answer
    assert await listener.said("Set a timer for five minutes.") == "Timer set for 5 minutes"
