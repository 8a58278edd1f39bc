"""Clients that break the rules, against a real daemon: each costs its own connection, and the others never notice."""

import asyncio
import json
import logging
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioStop
from wyoming.event import Event
from wyoming.info import Describe
from wyoming.ping import Ping
from wyoming.tts import Synthesize, SynthesizeChunk, SynthesizeStart, SynthesizeVoice
from wyoming.wake import Detect

from satellite.audio.pcm import BYTES_PER_SECOND, read_wav
from satellite.engines.protocols import VoiceChoice
from satellite.errors import ProtocolError
from satellite.system.process import allow_many_connections
from satellite.wire import parsing
from tests.running_daemon import DATA, RunningDaemon, lonely, on_loop_of
from tests.waiting import PATIENCE_SECONDS
from tests.wyoming_client import START, Client, chunk, connect, types

pytestmark = pytest.mark.models

LIGHTS = read_wav(DATA / "commands" / "turn_on_the_lights.wav")


async def still_serving(daemon: RunningDaemon) -> None:
    """Fail unless a well-behaved client gets its answer."""
    async with connect(daemon.port()) as client:
        await client.send(Describe())
        assert types(await client.until("info")) == ["info"]


async def gone(client: Client) -> None:
    """Wait until the daemon has closed the connection."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        try:
            while await client.reader.read(65536):
                pass
        except ConnectionError:
            pass


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
known_types = st.sampled_from(
    [
        *(
            "describe",
            "ping",
            "transcribe",
            "audio-start",
            "audio-chunk",
            "audio-stop",
            "detect",
            "transcript",
            "intent",
        ),
        *("synthesize", "synthesize-start", "synthesize-chunk", "synthesize-stop", "select-program", "run-pipeline"),
        *("error", "info", "handled", "intent"),
    ]
)
fields = st.sampled_from(
    [
        *("text", "name", "names", "language", "voice", "rate", "width", "channels", "timestamp"),
        *("start_stage", "end_stage", "context"),
    ]
)


@given(
    st.lists(st.tuples(known_types, st.dictionaries(fields, any_json, max_size=4), st.binary(max_size=40)), max_size=6)
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_known_event_with_any_fields_breaks_nothing(
    daemon: RunningDaemon, caplog: pytest.LogCaptureFixture, sent: list[tuple[str, dict[str, Any], bytes]]
) -> None:
    caplog.clear()
    async with connect(daemon.port()) as client:
        for type_, data, payload in sent:
            header = {"type": type_, "data": data, "payload_length": len(payload)}
            client.writer.write(json.dumps(header).encode() + b"\n" + payload)
        await client.send(Ping(text="the-last"))
        while (event := await client.read()) is not None:
            if event.type == "pong" and event.data.get("text") == "the-last":
                break
    await still_serving(daemon)
    assert [record for record in caplog.records if record.exc_info] == []


@given(st.binary(min_size=1, max_size=200))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_garbage_breaks_nothing(daemon: RunningDaemon, data: bytes) -> None:
    async with connect(daemon.port()) as client:
        client.writer.write(data + b"\n")
        client.writer.write_eof()
        await gone(client)
    await still_serving(daemon)


async def test_errors_of_clients_are_one_line_without_a_traceback(
    daemon: RunningDaemon, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        for data in (b"garbage\n", b'{"type": "x", "data_length": 9}\n{}', b'{"type": "audio-start", "data": {}}\n'):
            async with connect(daemon.port()) as client:
                client.writer.write(data)
                client.writer.write_eof()
                await gone(client)
        await daemon.settled()
    assert [record for record in caplog.records if record.exc_info] == []
    assert len([record for record in caplog.records if record.name.startswith("satellite.")]) <= 4


async def test_what_a_client_writes_is_told_in_short(daemon: RunningDaemon, caplog: pytest.LogCaptureFixture) -> None:
    name = "\x1b[31m\n" + "x" * 100_000
    with caplog.at_level(logging.INFO):
        async with connect(daemon.port()) as client:
            for asked in (
                [Transcribe(language=name), chunk(LIGHTS), AudioStop()],
                [Synthesize("Hello.", voice=SynthesizeVoice(language=name))],
            ):
                await client.send(*asked)
                error = (await client.until("error"))[-1]
                assert error.data["code"].endswith("unsupported-language")
                assert len(error.data["text"]) < 500
                assert "\x1b" not in error.data["text"]
        await daemon.settled()
    told = [record.getMessage() for record in caplog.records if "unsupported-language" in record.getMessage()]
    assert len(told) == 2
    assert all(len(line) < 500 and "\n" not in line for line in told)


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


async def test_audio_without_end_is_bounded(models_directory: Path) -> None:
    config = lonely(models_directory, wyoming="host: 127.0.0.1, max_audio_seconds: 5")
    with RunningDaemon(config) as running:
        async with connect(running.port()) as client:
            await client.send(Transcribe(), START, chunk(LIGHTS + bytes(5 * BYTES_PER_SECOND)))
            assert "lights" in (await client.transcript()).lower()
            before = psutil.Process().memory_info().rss
            second = chunk(bytes(BYTES_PER_SECOND)).event()
            for _ in range(600):
                await client.send(second)
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
        await client.send(*[Synthesize(text=f"This is sentence number {n}.") for n in range(20)])
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


async def test_deeply_nested_and_huge_events_cost_one_connection(daemon: RunningDaemon) -> None:
    bombs = [
        b"[" * 60_000 + b"]" * 5_000 + b"\n",
        b'{"type": "x", "data_length": 1000000}\n' + b"[" * 1_000_000,
        b'{"type": "audio-chunk", "payload_length": 99999999999}\n',
        b'{"type": "x", "data": {"n": ' + b"9" * 50_000 + b"}}\n",
    ]
    for bomb in bombs:
        async with connect(daemon.port()) as client:
            client.writer.write(bomb)
            await gone(client)
    await still_serving(daemon)


async def test_half_a_character_is_harmless(daemon: RunningDaemon) -> None:
    half = "hello \ud800 there"
    async with connect(daemon.port()) as client:
        for data in (
            {"type": "transcript", "data": {"text": half, "context": {half: half}}},
            {"type": "synthesize", "data": {"text": half, "voice": {"name": half}}},
            {"type": "transcribe", "data": {"name": half}},
            {"type": "detect", "data": {"names": [half]}},
            {"type": "select-program", "data": {"name": half}},
        ):
            client.writer.write(json.dumps(data).encode() + b"\n")
        await client.pong()
        await client.send(Transcript(text="What is the capital of France?"))
        assert "Paris" in (await client.until("handled"))[-1].data["text"]
    await daemon.settled()
