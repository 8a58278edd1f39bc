"""Clients that break the rules, against a real daemon: each costs its own connection, and the others never notice."""

import asyncio
import logging
import sys
from contextlib import AsyncExitStack
from typing import Any

import psutil
import pytest
from wyoming.asr import Transcribe
from wyoming.audio import AudioStop
from wyoming.event import Event, Eventable
from wyoming.tts import Synthesize, SynthesizeChunk, SynthesizeStart, SynthesizeVoice
from wyoming.wake import Detect

from satellite.audio.pcm import BYTES_PER_SECOND, read_wav
from satellite.engines.protocols import VoiceChoice
from satellite.errors import ProtocolError
from satellite.system.process import allow_many_connections
from satellite.wire import parsing
from satellite.wire.connection import Connection
from tests.running_daemon import DATA, RunningDaemon, on_loop_of
from tests.wyoming_client import EVENTS, START, WRONG, chunk, connect, types

pytestmark = pytest.mark.models

LIGHTS = read_wav(DATA / "commands" / "turn_on_the_lights.wav")

_FIELDS = EVENTS["to_us"]


@pytest.mark.parametrize("type_", _FIELDS)
async def test_any_field_of_any_wrong_type_breaks_nothing(
    daemon: RunningDaemon, caplog: pytest.LogCaptureFixture, type_: str
) -> None:
    good = _FIELDS[type_]
    nested = [field for field in good if isinstance(good[field], dict)]
    sent = [good, *({**good, field: wrong} for field in good for wrong in WRONG)]
    sent += [{name: value for name, value in good.items() if name != field} for field in good]
    sent += [{**good, one: {**good[one], key: wrong}} for one in nested for key in good[one] for wrong in WRONG]
    with caplog.at_level(logging.INFO):
        for data in sent:
            async with connect(daemon.port()) as client:
                if type_ == "synthesize-chunk":
                    await client.send(SynthesizeStart())
                client.write({"type": type_, "data": data}, b"\0\0" if type_ == "audio-chunk" else b"")
                assert types(await client.pong("still there")).count("error") <= 1
        await daemon.settled()
    assert [record for record in caplog.records if record.exc_info] == []


LONG = "N" * 900_000
CONTROL = "\x1b[31m\n" * 20_000


@pytest.mark.parametrize(
    "sent",
    [
        [Event("transcribe", {"name": LONG})],
        [Event("detect", {"names": [LONG]}), START],
        [Event("synthesize", {"text": "Hello", "voice": {"name": LONG}})],
        [Event("select-program", {"name": LONG})],
        [Event("run-pipeline", {"start_stage": LONG, "end_stage": "tts"})],
        [Event("announce", {"text": "Hello", "rooms": [LONG]})],
        [Event("room", {"action": "stop", "room": LONG})],
        [Event("room", {"action": CONTROL, "room": "kitchen"})],
        [Event("synthesize", {"text": "Hello", "voice": {"speaker": CONTROL, "name": "en_US-joe-medium"}})],
        [Transcribe(language=CONTROL), chunk(LIGHTS), AudioStop()],
        [Synthesize("Hello.", voice=SynthesizeVoice(language=CONTROL))],
    ],
)
async def test_a_long_name_is_shown_in_short(
    daemon: RunningDaemon, caplog: pytest.LogCaptureFixture, sent: list[Event | Eventable]
) -> None:
    with caplog.at_level(logging.DEBUG):
        async with connect(daemon.port()) as client:
            await client.send(*sent)
            error = (await client.until("error"))[-1]
            assert len(error.data["text"]) < 500
            assert error.data["text"].isprintable()
            await client.pong()
        await daemon.settled()
    logged = [record.getMessage() for record in caplog.records if record.name.startswith("satellite.")]
    assert logged
    assert all(len(line) < 500 and line.isprintable() for line in logged)


@pytest.mark.parametrize("is_local", [True, False])
async def test_rooms_are_operated_from_this_machine_alone(
    daemon: RunningDaemon, monkeypatch: pytest.MonkeyPatch, is_local: bool
) -> None:
    async with connect(daemon.port()) as client:
        await client.send(Event("room", {"action": "stop", "room": "cellar"}))
        assert (await client.until("error"))[-1].data["code"] == "unknown-room"
    monkeypatch.setattr(Connection, "is_local", property(lambda _: is_local))
    async with connect(daemon.port()) as client:
        await client.send(Event("room", {"action": "stop", "room": "cellar"}), Event("status"))
        assert (await client.until("error", "status"))[-1].type == ("error" if is_local else "status")


async def test_the_text_of_a_request_is_bounded(daemon: RunningDaemon) -> None:
    async with connect(daemon.port()) as client:
        await client.send(Event("transcript", {"text": "x " * 250_000}))
        refused = (await client.until("not-handled"))[-1].data
        assert (refused["code"], refused["text"]) == ("chat-too-long", "Sorry, I can't answer right now.")
        for code, data in (
            ("tts-too-long", {"text": "word " * 5_000}),
            ("protocol-error", {"text": 5}),
            ("unknown-room", {"text": "Hello", "rooms": 5}),
            ("unknown-room", {"rooms": [5]}),
        ):
            await client.send(Event("announce", data))
            assert await client.error() == code


@on_loop_of("daemon")
async def test_sound_that_costs_nothing_lets_others_have_their_turn(daemon: RunningDaemon) -> None:
    stages = daemon.daemon._stages
    speaker = await stages.speaker(VoiceChoice())
    turns, ended = 0, False

    async def count() -> None:
        nonlocal turns
        while not ended:
            turns += 1
            await asyncio.sleep(0)

    async def spoken(times: int) -> int:
        before = turns
        async for _ in stages.speak("Dinner is ready. " * times, speaker):
            pass
        return turns - before

    counting = asyncio.create_task(count())
    await spoken(4)  # what is heard again is kept
    assert await spoken(100) >= 100
    ended = True
    await counting


def test_long_lists_are_judged_by_what_is_in_them_once() -> None:
    judged = 0

    def count(frame: Any, event: str, _: Any) -> None:
        nonlocal judged
        judged += event == "call" and frame.f_code.co_filename == parsing.__file__

    names: list[Any] = [f"{number:x}" for number in range(100_000)]
    sys.setprofile(count)
    try:
        assert parsing.parsed(Detect.from_event, Event("detect", {"names": names})).names == names
        with pytest.raises(ProtocolError, match="names is of a wrong type"):
            parsing.parsed(Detect.from_event, Event("detect", {"names": [*names, 5]}))
    finally:
        sys.setprofile(None)
    assert judged < 100


async def test_audio_without_end_is_bounded(daemon: RunningDaemon) -> None:
    with daemon.configured("wyoming", max_audio_seconds=5):
        async with connect(daemon.port()) as client:
            await client.send(Transcribe(), START, chunk(LIGHTS + bytes(5 * BYTES_PER_SECOND)))
            assert "lights" in (await client.transcript()).lower()
            before = psutil.Process().memory_info().rss
            await client.send(*[chunk(bytes(BYTES_PER_SECOND))] * 600)
            await client.pong("end")
            assert psutil.Process().memory_info().rss - before < 100_000_000


async def test_a_thousand_idle_connections_disturb_nobody(daemon: RunningDaemon) -> None:
    allow_many_connections()
    async with AsyncExitStack() as stack:
        for _ in range(1000):
            await stack.enter_async_context(connect(daemon.port()))
        client = await stack.enter_async_context(connect(daemon.port()))
        assert "lights" in (await client.transcribed(LIGHTS)).lower()
    await daemon.settled()


async def test_too_many_requests_on_one_connection_are_refused(daemon: RunningDaemon) -> None:
    async with connect(daemon.port()) as client:
        await client.send(*[Synthesize(text=f"Number {n}.") for n in range(20)])
        events = await client.until("error")
        assert events[-1].data["code"] == "protocol-overload"
        seen = events + await client.pong()
        while sum(event.type == "audio-stop" for event in seen) < 8:
            seen += await client.until("audio-stop")
    await daemon.settled()


async def test_a_text_stream_that_never_stops_is_bounded(daemon: RunningDaemon) -> None:
    async with connect(daemon.port()) as client:
        await client.send(SynthesizeStart())
        await client.send(*[SynthesizeChunk(text="x" * 30_000)] * 3)
        events = await client.until("synthesize-stopped")
        assert "error" in types(events)
        await client.pong()
    await daemon.settled()
