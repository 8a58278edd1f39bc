"""The endpoints of rooms: the forms of their answers and errors, with scripted rooms."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from satellite.engines.protocols import Transcription
from satellite.errors import SatelliteError
from tests.house import House, house
from tests.http_daemon import refusal
from tests.media_server import sound_file
from tests.test_rooms_controls import OPERATIONS
from tests.waiting import until

ROOM = "/rooms/kitchen"


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    (tmp_path / "bell.wav").write_bytes(await sound_file("wav", 2))
    async with house("kitchen", "office", "hall", media_directory=tmp_path) as one:
        one.rooms["hall"].connected = False
        yield one


@pytest.fixture
async def http(home: House, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with home.http(tmp_path) as client:
        yield client


async def test_every_operation_has_an_endpoint(home: House, http: httpx.AsyncClient) -> None:
    kitchen = home.rooms["kitchen"]
    for action, fields, done in OPERATIONS:
        answer = await http.post(f"{ROOM}/{action}", json=fields)
        assert answer.status_code == 200, answer.text
        assert answer.json().get("room", "kitchen") == "kitchen"
        assert kitchen.done[-1] == done
    kitchen.answer = Transcription("Yes.", "en")
    answer = await http.post(f"{ROOM}/ask", json={"text": "Shall I?", "choices": ["yes"]})
    assert answer.json() == {"text": "Yes.", "language": "en", "choice": "yes"}
    assert (await http.post(f"{ROOM}/start")).status_code == 200
    assert (await http.post(f"{ROOM}/stop")).json() == {"stopped": True}
    assert (await http.post(f"{ROOM}/play", json={"file": "bell.wav"})).json()["state"] == "connected"
    await until(lambda: kitchen.done[-1] == ("play ended",))
    answer = await http.post("/rooms/office/broadcast", json={"text": "Dinner is ready."})
    assert answer.json() == {"heard": ["kitchen"], "failed": {}}
    chimed = kitchen.heard_bytes
    await http.post("/announce", json={"text": "Dinner is ready.", "rooms": ["kitchen"], "chime": False})
    assert kitchen.heard_bytes < chimed
    sent = await http.post(f"{ROOM}/play-upload?announce=true", content=await sound_file("mp3"))
    assert (sent.status_code, kitchen.done[-1]) == (200, ("announce ended",))
    assert (await http.post(f"{ROOM}/call", json={"to": "office"})).json()["room"] == "kitchen"
    assert kitchen.done[-1] == ("call", "office")
    assert refusal(await http.post(f"{ROOM}/call", json={"to": "office"})) == (409, "room-busy")


async def test_any_name_of_a_room_is_an_address(tmp_path: Path) -> None:
    name = "Zoë's / 2nd % floor?"
    async with house(name) as home, home.http(tmp_path) as http:
        answer = await http.post(f"/rooms/{quote(name, safe='')}/mute", json={})
        assert (answer.status_code, answer.json()["room"]) == (200, name)
        assert home.rooms[name].done == [("mute", True)]


async def test_each_failure_has_its_code_and_status(home: House, http: httpx.AsyncClient) -> None:
    kitchen = home.rooms["kitchen"]
    for path, body, expected in (
        ("kitchen/play", {}, (422, "http-invalid")),
        ("kitchen/play", {"url": "ftp://x/y"}, (422, "http-invalid")),
        ("kitchen/play", {"file": "../secret.wav"}, (404, "media-not-found")),
        ("kitchen/play", {"url": "http://127.0.0.1:1/x"}, (502, "media-unreachable")),
        ("kitchen/volume", {"volume": 1.5}, (422, "http-invalid")),
        ("kitchen/ask", {"text": "Shall I?", "timeout": 1}, (504, "ask-timeout")),
        ("hall/play", {"file": "bell.wav"}, (503, "room-unreachable")),
        ("hall/mute", {}, (503, "room-unreachable")),
        ("cellar/stop", {}, (422, "unknown-room")),
    ):
        assert refusal(await http.post(f"/rooms/{path}", json=body)) == expected, path
    assert refusal(await http.post(f"{ROOM}/play-upload", content=b"no sound")) == (422, "media-unreadable")
    assert refusal(await http.post(f"{ROOM}/play-upload")) == (422, "http-invalid")
    kitchen.answer = SatelliteError("nobody spoke", code="stt-no-speech")
    assert refusal(await http.post(f"{ROOM}/ask", json={"text": "Shall I?"})) == (422, "stt-no-speech")


async def test_a_room_that_goes_meanwhile_is_no_fault_of_the_server(
    home: House, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def leave() -> None:
        await home.browsers.hub.remove(home.rooms["kitchen"])

    monkeypatch.setattr(home.rooms["kitchen"], "start", leave)
    assert refusal(await http.post(f"{ROOM}/start")) == (503, "room-unreachable")


async def test_whoever_leaves_a_question_ends_it(home: House, http: httpx.AsyncClient) -> None:
    asking = asyncio.create_task(http.post(f"{ROOM}/ask", json={"text": "Hello?"}))
    await until(lambda: ("ask ended",) in home.rooms["kitchen"].done)
    asking.cancel()
    await asyncio.wait([asking])
    await until(lambda: not [task for task in asyncio.all_tasks() if "announcement" in task.get_name()])
