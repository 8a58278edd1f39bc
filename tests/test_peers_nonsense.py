"""Satellites and servers that send nonsense: a line in the log, never a traceback, and what follows is taken."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from satellite.config.rooms import WyomingRoomSettings
from satellite.config.settings import SttSettings, TtsSettings
from satellite.engines.protocols import VoiceChoice
from satellite.engines.remote.hosts import Hosts
from satellite.engines.remote.speech import RemoteSynthesizer, RemoteTranscriber
from satellite.errors import SatelliteError, Stage
from satellite.rooms.room import BaseRoom, LinkState
from satellite.wire import client
from tests.driven_rooms import hub_of
from tests.running_daemon import RunningDaemon, on_loop_of
from tests.waiting import until
from tests.wyoming_client import EVENTS, WRONG

ABOUT = {"name": "x", "attribution": {"name": "x", "url": "x"}, "installed": True, "description": "x", "version": "1"}
SATELLITE = {**ABOUT, "area": None}
MODEL = {**ABOUT, "languages": ["en"]}
ODD: list[Any] = [5, [], {}]
SPEECH = [1.0] * 100


class Peer:
    """Notes the events that it hears, and answers each type of them with what it was given."""

    def __init__(self, **answers: list[dict[str, Any]]) -> None:
        self.uri = ""
        self.heard: list[str] = []
        self.answers = answers

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                header = json.loads(line)
                await reader.readexactly((header.get("data_length") or 0) + (header.get("payload_length") or 0))
                self.heard.append(header["type"])
                for event in self.answers.get(header["type"].replace("-", "_"), []):
                    writer.write(json.dumps(event).encode() + b"\n" + bytes(event.get("payload_length", 0)))
        except (OSError, EOFError):
            return
        finally:
            writer.close()


@asynccontextmanager
async def peer(**answers: list[dict[str, Any]]) -> AsyncIterator[Peer]:
    one = Peer(**answers)
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    one.uri = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield one
    finally:
        server.close()


@asynccontextmanager
async def room(daemon: RunningDaemon, **answers: list[dict[str, Any]]) -> AsyncIterator[tuple[Peer, BaseRoom]]:
    async with peer(**answers) as one:
        hub = hub_of(daemon.daemon, WyomingRoomSettings(name="odd", uri=one.uri))
        hub.start()
        try:
            yield one, hub.satellites[0]
        finally:
            await hub.stop()


def info(**data: Any) -> dict[str, Any]:
    return {"type": "info", "data": data}


@pytest.fixture(autouse=True)
def _no_traceback(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO):
        yield
    assert [record for record in caplog.get_records("call") if record.exc_info] == []


@pytest.mark.models
@on_loop_of("daemon")
async def test_whatever_a_satellite_says_of_itself(daemon: RunningDaemon) -> None:
    for said in (
        *(info(satellite=wrong) for wrong in WRONG),
        *(info(satellite={**SATELLITE, field: odd}) for field in SATELLITE for odd in ODD),
        *(info(satellite=SATELLITE, asr=wrong, wake=wrong) for wrong in WRONG),
        {"type": "info"},
    ):
        async with room(daemon, describe=[said]) as (one, link):
            await until(lambda: "run-satellite" in one.heard or link.state is LinkState.NO_SATELLITE)


_EVENTS = {**EVENTS["from_a_satellite"], "info": {"satellite": SATELLITE}}


@pytest.mark.models
@pytest.mark.parametrize("type_", _EVENTS)
@on_loop_of("daemon")
async def test_whatever_a_satellite_sends(daemon: RunningDaemon, caplog: pytest.LogCaptureFixture, type_: str) -> None:
    good = _EVENTS[type_]
    event: dict[str, Any] = {"type": type_, **({"payload_length": 2} if type_ == "audio-chunk" else {})}
    sent = [event, *({**event, "data": {**good, field: wrong}} for field in good for wrong in WRONG)]
    last = {"type": "ping", "data": {"text": "last"}}
    answers = {"describe": [info(satellite=SATELLITE)], "run_satellite": [*sent, {"type": "played"}, last]}
    async with room(daemon, **answers) as (one, link):
        await until(lambda: "pong" in one.heard and link.state is LinkState.CONNECTED)
        assert link.reconnections == 0
        assert one.heard.count("describe") == 1
    assert len([record for record in caplog.records if "room odd" in record.getMessage()]) <= len(sent) + 3


@pytest.mark.parametrize("field", ["asr", "tts", "wake"])
async def test_whatever_a_server_says_of_itself(field: str) -> None:
    stage = {"asr": Stage.STT, "tts": Stage.TTS, "wake": Stage.WAKE}[field]
    inner = "voices" if field == "tts" else "models"
    models: list[Any] = [*WRONG, [MODEL], *([{**MODEL, key: wrong}] for key in (*MODEL, "speakers") for wrong in WRONG)]
    async with peer() as one:
        for programs in (*WRONG, *([{**ABOUT, inner: listed}] for listed in models)):
            one.answers["describe"] = [info(**{field: programs})]
            hosts = Hosts(stage, [one.uri], 10)
            await hosts.load()
            assert "\n" not in hosts.summary
            names = [*RemoteTranscriber(hosts, SttSettings()).languages]
            for voice in RemoteSynthesizer(hosts, TtsSettings()).voices:
                names += [voice.name, *voice.languages, *voice.speakers]
            assert all(isinstance(name, str) for name in names)


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
    async with peer(audio_stop=[answer]) as one:
        hosts = Hosts(Stage.STT, [one.uri], 10)
        with pytest.raises(SatelliteError) as caught:
            await RemoteTranscriber(hosts, SttSettings()).transcribe(bytes(range(256)) * 125, speech=SPEECH)
        assert caught.value.code.startswith("stt-")


@pytest.mark.parametrize("field", ["rate", "width", "channels"])
async def test_whatever_a_server_speaks(field: str) -> None:
    for wrong in (*WRONG, 0, 10**9):
        if (field, wrong) == ("channels", 5):
            continue  # as many may be
        shape = {"data": {"rate": 22050, "width": 2, "channels": 1, field: wrong}}
        start, chunk = {"type": "audio-start", **shape}, {"type": "audio-chunk", **shape, "payload_length": 2}
        described = info(tts=[{**ABOUT, "voices": [MODEL]}])
        async with peer(describe=[described], synthesize=[start, chunk, {"type": "audio-stop"}]) as one:
            hosts = Hosts(Stage.TTS, [one.uri], 10)
            await hosts.load()
            with pytest.raises(SatelliteError) as caught:
                await RemoteSynthesizer(hosts, TtsSettings()).speaker(VoiceChoice())
            assert caught.value.code.startswith("tts-")
            with pytest.raises(SatelliteError):
                await client.say(one.uri, "Hello")
