"""Satellites and servers that send nonsense: a line in the log, never a traceback, and what follows is taken."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from satellite.config.rooms import WyomingRoomSettings
from satellite.config.settings import SttSettings
from satellite.engines.protocols import VoiceChoice
from satellite.engines.remote.hosts import Hosts
from satellite.engines.remote.speech import RemoteSynthesizer, RemoteTranscriber
from satellite.errors import SatelliteError, Stage
from satellite.rooms.room import LinkState
from satellite.rooms.wyoming import WyomingRoom
from satellite.wire import client
from tests.driven_rooms import hub_of
from tests.running_daemon import RunningDaemon
from tests.waiting import until

WRONG: list[Any] = [None, True, 5, -5, 12.5, 1e400, "", "x", [], [5], [[]], {}, {"name": 5}, {"a": {"b": []}}]
ABOUT = {"name": "x", "attribution": {"name": "x", "url": "x"}, "installed": True, "description": "x", "version": "1"}
SATELLITE = {**ABOUT, "area": None}
MODEL = {**ABOUT, "languages": ["en"]}
ODD: list[Any] = [5, [], {}]
SPEECH = [1.0] * 100


class Peer:
    """Says whatever it is told, line by line, and notes what it hears."""

    def __init__(self) -> None:
        self.port = 0
        self.heard: list[str] = []
        self.says: dict[str, list[dict[str, Any]]] = {}
        """What it answers to an event of a type."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Talk to one client."""
        try:
            while line := await reader.readline():
                header = json.loads(line)
                await reader.readexactly((header.get("data_length") or 0) + (header.get("payload_length") or 0))
                self.heard.append(header["type"])
                for event in self.says.get(header["type"], []):
                    writer.write(json.dumps(event).encode() + b"\n")
                    if "payload_length" in event:
                        writer.write(bytes(event["payload_length"]))
        except (OSError, EOFError):
            return
        finally:
            writer.close()


@asynccontextmanager
async def peer() -> AsyncIterator[Peer]:
    """Be somebody who can be dialled."""
    one = Peer()
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    one.port = server.sockets[0].getsockname()[1]
    try:
        yield one
    finally:
        server.close()


def info(**data: Any) -> dict[str, Any]:
    """Return what a server tells of itself."""
    return {"type": "info", "data": data}


def tracebacks(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Return what was logged with a traceback."""
    return [record for record in caplog.records if record.exc_info]


async def with_room(
    daemon: RunningDaemon,
    says: dict[str, list[dict[str, Any]]],
    scenario: Callable[[Peer, WyomingRoom], Awaitable[None]],
) -> None:
    """Drive a room that says so."""
    async with peer() as one:
        one.says = says
        room = WyomingRoomSettings(name="odd", uri=f"tcp://127.0.0.1:{one.port}")
        hub = hub_of(daemon.daemon, room)
        hub.start()
        try:
            await scenario(one, hub.satellites[0])
        finally:
            await hub.stop()


@pytest.mark.models
@pytest.mark.parametrize(
    "told",
    [
        *[info(satellite=one) for one in WRONG],
        *[info(satellite={**SATELLITE, field: one}) for field in SATELLITE for one in ODD],
        *[info(satellite=SATELLITE, asr=wrong, wake=wrong) for wrong in WRONG],
        {"type": "info"},
    ],
    ids=str,
)
def test_whatever_a_satellite_tells_of_itself(
    daemon: RunningDaemon, caplog: pytest.LogCaptureFixture, told: dict[str, Any]
) -> None:
    async def scenario(one: Peer, link: WyomingRoom) -> None:
        await until(lambda: "run-satellite" in one.heard or link.state is LinkState.NO_SATELLITE)

    daemon.call(with_room(daemon, {"describe": [told]}, scenario))
    assert tracebacks(caplog) == []


_EVENTS: dict[str, dict[str, Any]] = {
    "run-pipeline": {
        **{"start_stage": "asr", "end_stage": "tts", "restart_on_end": False, "wake_word_name": "x"},
        **{"wake_word_names": ["x"], "announce_text": "x", "snd_format": {"rate": 22050, "width": 2, "channels": 1}},
    },
    "audio-chunk": {"rate": 16000, "width": 2, "channels": 1, "timestamp": 1},
    "audio-stop": {"timestamp": 1},
    "detection": {"name": "x", "timestamp": 1, "speaker": "x", "context": {}},
    "ping": {"text": "x"},
    "pong": {"text": "x"},
    "played": {},
    "info": {"satellite": SATELLITE},
    "from-the-future": {"name": "x"},
}


@pytest.mark.models
@pytest.mark.parametrize("type_", _EVENTS)
def test_whatever_a_satellite_sends(daemon: RunningDaemon, caplog: pytest.LogCaptureFixture, type_: str) -> None:
    good = _EVENTS[type_]
    payload = {"payload_length": 2} if type_ == "audio-chunk" else {}
    sent = [{"type": type_, "data": {**good, field: wrong}, **payload} for field in good for wrong in WRONG]
    sent += [{"type": type_, "data": {}, **payload}]

    async def scenario(one: Peer, link: WyomingRoom) -> None:
        await until(lambda: "pong" in one.heard and link.state is LinkState.CONNECTED)
        assert link.reconnections == 0
        assert one.heard.count("describe") == 1

    says: dict[str, list[dict[str, Any]]] = {
        "describe": [info(satellite=SATELLITE)],
        "run-satellite": [*sent, {"type": "played"}, {"type": "ping", "data": {"text": "last"}}],
    }
    with caplog.at_level(logging.INFO):
        daemon.call(with_room(daemon, says, scenario))
    assert tracebacks(caplog) == []
    assert len([record for record in caplog.records if "room odd" in record.getMessage()]) <= len(sent) + 3


@pytest.mark.parametrize("field", ["asr", "tts", "wake"])
async def test_whatever_a_server_tells_of_itself(caplog: pytest.LogCaptureFixture, field: str) -> None:
    stage = {"asr": Stage.STT, "tts": Stage.TTS, "wake": Stage.WAKE}[field]
    inner = "voices" if field == "tts" else "models"
    told: list[Any] = [*WRONG, [{**ABOUT, inner: [MODEL]}]]
    told += [[{**ABOUT, inner: wrong}] for wrong in WRONG]
    told += [[{**ABOUT, inner: [{**MODEL, key: wrong}]}] for key in MODEL for wrong in WRONG]
    told += [[{**ABOUT, inner: [{**MODEL, "speakers": wrong}]}] for wrong in WRONG]
    async with peer() as one:
        for programs in told:
            one.says["describe"] = [info(**{field: programs})]
            hosts = Hosts(stage, [f"tcp://127.0.0.1:{one.port}"], 10)
            await hosts.load()
            assert "\n" not in hosts.summary
            for voice in RemoteSynthesizer(hosts, voice=None).voices:
                assert all(isinstance(name, str) for name in (voice.name, *voice.languages, *voice.speakers))
            assert all(isinstance(one, str) for one in RemoteTranscriber(hosts, SttSettings()).languages)
    assert tracebacks(caplog) == []


@pytest.mark.parametrize(
    "answer",
    [
        *[{"type": "transcript", "data": {"text": wrong}} for wrong in WRONG if not isinstance(wrong, str)],
        *[{"type": "transcript", "data": {"text": "x", "language": one}} for one in ODD],
        {"type": "transcript"},
        {"type": "error", "data": {"text": 5, "code": []}},
        {"type": "error"},
    ],
    ids=str,
)
async def test_whatever_a_server_hears(answer: dict[str, Any]) -> None:
    async with peer() as one:
        one.says["audio-stop"] = [answer]
        hosts = Hosts(Stage.STT, [f"tcp://127.0.0.1:{one.port}"], 10)
        with pytest.raises(SatelliteError) as caught:
            await RemoteTranscriber(hosts, SttSettings()).transcribe(bytes(32_000), speech=SPEECH)
        assert caught.value.code.startswith("stt-")


@pytest.mark.parametrize("field", ["rate", "width", "channels"])
@pytest.mark.parametrize("wrong", [*WRONG, 0, 10**9])
async def test_whatever_a_server_says(field: str, wrong: object) -> None:
    shape = {"rate": 22050, "width": 2, "channels": 1}
    if wrong == 5 and field == "channels":
        return  # as many may be
    async with peer() as one:
        one.says["describe"] = [info(tts=[{**ABOUT, "voices": [MODEL]}])]
        start = {"type": "audio-start", "data": {**shape, field: wrong}}
        chunk = {"type": "audio-chunk", "data": {**shape, field: wrong}, "payload_length": 2}
        one.says["synthesize"] = [start, chunk, {"type": "audio-stop"}]
        uri = f"tcp://127.0.0.1:{one.port}"
        hosts = Hosts(Stage.TTS, [uri], 10)
        await hosts.load()
        with pytest.raises(SatelliteError) as caught:
            await RemoteSynthesizer(hosts, voice=None).speaker(VoiceChoice())
        assert caught.value.code.startswith("tts-")
        with pytest.raises(SatelliteError):
            await client.say(uri, "Hello")
