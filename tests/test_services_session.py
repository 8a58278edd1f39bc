"""Nothing that is asked for stays without an answer, and nobody who waits for an engine is kept from a `pong`."""

import asyncio
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioStop
from wyoming.event import Event, Eventable
from wyoming.info import Describe
from wyoming.pipeline import PipelineStage, RunPipeline
from wyoming.tts import Synthesize, SynthesizeStart, SynthesizeStop
from wyoming.wake import Detect

from satellite.audio.pcm import BYTES_PER_SECOND, read_wav
from tests.running_daemon import DATA, RunningDaemon
from tests.wyoming_client import START, chunk, chunks, connect, types

pytestmark = pytest.mark.models

LIGHTS = read_wav(DATA / "commands" / "turn_on_the_lights.wav")
NABU = read_wav(DATA / "wake" / "okay_nabu.wav")
COMMAND = RunPipeline(PipelineStage.ASR, PipelineStage.TTS)
WAKE = RunPipeline(PipelineStage.WAKE, PipelineStage.TTS)


@contextmanager
def loading(daemon: RunningDaemon) -> Iterator[None]:
    """Put the daemon where it is while its engines are being loaded."""

    async def again(settled: bool) -> None:
        for slot in daemon.daemon.engines.slots:
            if settled:
                slot.settle(slot.failure)
            elif not slot.on_demand:
                slot._settled.clear()

    daemon.call(again(settled=False))
    try:
        yield
    finally:
        daemon.call(again(settled=True))


@pytest.mark.parametrize(
    ("asked", "answer"),
    [(Transcribe(), "transcript"), (Detect(), "not-detected"), (COMMAND, "transcript"), (WAKE, "error")],
    ids=["transcribe", "detect", "run-pipeline", "run-pipeline from the wake word"],
)
async def test_ping_and_describe_are_answered_while_audio_waits_for_an_engine(
    daemon: RunningDaemon, asked: Eventable, answer: str
) -> None:
    async with connect(daemon.port()) as client:
        with loading(daemon):
            await client.send(asked, START, *chunks(LIGHTS + bytes(25 * BYTES_PER_SECOND)))
            for _ in range(3):
                assert set(types(await client.pong())) <= {"pong", "detect", "transcribe"}
                await client.send(Describe())
                await client.until("info")
            await client.send(AudioStop())
        event = (await client.until(answer))[-1]
        if answer == "transcript":
            assert "turn on the lights" in event.data["text"].lower()
    await daemon.settled()


async def test_who_sends_without_end_meanwhile_is_held_back(daemon: RunningDaemon) -> None:
    async with connect(daemon.port()) as client:
        with loading(daemon):
            await client.send(Transcribe(), START)
            second = chunk(bytes(BYTES_PER_SECOND)).event()
            sent = 0
            try:
                async with asyncio.timeout(5):
                    while sent < 2000:
                        await client.send(second)
                        await client.writer.drain()
                        sent += 1
            except TimeoutError:
                pass
            assert sent < 2000
        client.writer.transport.abort()
        await asyncio.sleep(0)
    await daemon.settled()


@pytest.mark.parametrize("halves", [False, True], ids=["goes on", "sends no more"])
@pytest.mark.parametrize("between", [[], [START]], ids=["no audio-start", "audio-start"])
@pytest.mark.parametrize(
    ("asked", "expected"),
    [(Transcribe(language="en", context={"a": 1}), "transcript"), (Detect(context={"a": 1}), "not-detected")],
    ids=["transcribe", "detect"],
)
async def test_a_request_without_audio_is_answered_at_its_stop(
    daemon: RunningDaemon, asked: Eventable, expected: str, between: list[Eventable], halves: bool
) -> None:
    async with connect(daemon.port()) as client:
        await client.send(asked, *between, AudioStop())
        if halves:
            client.writer.write_eof()
        event = (await client.until(expected))[-1]
        assert event.data.get("text", "") == ""
        assert event.data["context"] == {"a": 1}
        if not halves:
            await client.send(AudioStop())
            assert set(types(await client.pong())) <= {"transcript-stop", "pong"}
            assert "lights" in await client.transcribed(LIGHTS)
    await daemon.settled()


@pytest.mark.parametrize(
    ("asked", "said", "expected"),
    [
        ([Transcribe()], LIGHTS, "transcript"),
        ([Detect(names=["okay_nabu"])], NABU + bytes(BYTES_PER_SECOND), "detection"),
        ([Detect(names=["hey_jarvis"])], NABU, "not-detected"),
        ([COMMAND], LIGHTS, "transcript"),
        ([RunPipeline(PipelineStage.TTS, PipelineStage.TTS, announce_text="Hello there.")], b"", "audio-stop"),
        ([Synthesize(text="Hello there.")], b"", "audio-stop"),
        ([Transcript(text="What time is it?")], b"", "handled"),
        ([SynthesizeStart(), Event("synthesize-chunk", {"text": "Hello there."}), SynthesizeStop()], b"", "audio-stop"),
        ([Event("status")], b"", "status"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_who_sends_no_more_still_gets_the_answer(
    daemon: RunningDaemon, asked: list[Event | Eventable], said: bytes, expected: str
) -> None:
    async with connect(daemon.port()) as client:
        await client.send(*asked)
        if said:
            await client.send_audio(said)
        client.writer.write_eof()
        await client.until(expected)
        while await client.read() is not None:
            pass
    await daemon.settled()


async def test_who_leaves_amid_a_command_is_not_answered(daemon: RunningDaemon) -> None:
    for asked in (Transcribe(), COMMAND):
        async with connect(daemon.port()) as client:
            await client.send(asked, START, chunk(LIGHTS[: len(LIGHTS) // 2]))
            client.writer.write_eof()
            seen = []
            while (event := await client.read()) is not None:
                seen.append(event)
            assert not {"transcript", "handled", "error"} & set(types(seen))
    await daemon.settled()


async def test_a_run_begins_when_the_one_before_has_ended(daemon: RunningDaemon) -> None:
    async with connect(daemon.port()) as client:
        await client.send(COMMAND, START, chunk(LIGHTS), COMMAND, START, chunk(LIGHTS), AudioStop())
        events = await client.until("audio-stop")
        assert types(events).count("transcript") == 1
        assert types(events).count("handled") == 1
    await daemon.settled()


@pytest.mark.parametrize("timestamp", [12.5, 12, "soon", None, True, [1], {"a": 1}, 1e400])
async def test_a_timestamp_costs_no_transcript(daemon: RunningDaemon, timestamp: object) -> None:
    async with connect(daemon.port()) as client:
        await client.send(Transcribe(), Event("audio-start", {"rate": 16000.0, "width": 2.0, "channels": 1.0}))
        for at in range(0, len(LIGHTS), 2048):
            data = {"rate": 16000.0, "width": 2, "channels": 1.0, "timestamp": timestamp}
            header = json.dumps({"type": "audio-chunk", "data": data, "payload_length": len(LIGHTS[at : at + 2048])})
            client.writer.write(header.encode() + b"\n" + LIGHTS[at : at + 2048])
        await client.send(AudioStop())
        events = await client.until("transcript")
        assert "error" not in types(events)
        assert "lights" in events[-1].data["text"]
    await daemon.settled()


async def test_audio_that_cannot_be_taken_is_one_error(daemon: RunningDaemon, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with connect(daemon.port()) as client:
            await client.send(Transcribe(), START)
            await client.send(*[Event("audio-chunk", {"rate": "fast", "width": 2, "channels": 1}, b"\0\0")] * 50)
            await client.send(AudioStop())
            assert types(await client.until("transcript")).count("error") == 1
            assert "lights" in await client.transcribed(LIGHTS)
    assert len([record for record in caplog.records if "audio-chunk" in record.getMessage()]) == 1
    await daemon.settled()


@pytest.mark.parametrize(
    "event",
    [
        Event("transcribe", {"name": "N" * 900_000}),
        Event("detect", {"names": ["N" * 900_000]}),
        Event("synthesize", {"text": "Hello", "voice": {"name": "N" * 900_000}}),
        Event("select-program", {"name": "N" * 900_000}),
        Event("run-pipeline", {"start_stage": "N" * 900_000, "end_stage": "tts"}),
        Event("announce", {"text": "Hello", "rooms": ["N" * 900_000]}),
        Event("synthesize", {"text": "Hello", "voice": {"speaker": "\x1b[31m\n" * 20_000, "name": "en_US-joe-medium"}}),
    ],
    ids=lambda event: event.type,
)
async def test_a_long_name_is_told_of_in_short(
    daemon: RunningDaemon, caplog: pytest.LogCaptureFixture, event: Event
) -> None:
    with caplog.at_level(logging.DEBUG):
        async with connect(daemon.port()) as client:
            await client.send(event)
            await client.send(*([START] if event.type == "detect" else []))
            error = (await client.until("error"))[-1]
            assert len(error.data["text"]) < 2_000
            assert error.data["text"].isprintable()
            await client.pong()
        await daemon.settled()
    told = [record.getMessage() for record in caplog.records if record.name.startswith("satellite.")]
    assert told
    assert max(map(len, told)) < 2_000


@pytest.mark.parametrize("stage", [PipelineStage.HANDLE, PipelineStage.TTS])
async def test_the_text_of_a_run_is_bounded(daemon: RunningDaemon, stage: PipelineStage) -> None:
    async with connect(daemon.port()) as client:
        await client.send(RunPipeline(stage, PipelineStage.TTS, announce_text="word " * 5_000))
        assert (await client.error()).endswith("too-long")
        await client.pong()


async def test_the_text_of_an_announcement_is_bounded(daemon: RunningDaemon) -> None:
    async with connect(daemon.port()) as client:
        for data in ({"text": "word " * 5_000}, {"text": 5}, {"text": "Hello", "rooms": 5}, {"rooms": [5]}):
            await client.send(Event("announce", data))
            assert await client.error() in (
                "tts-too-long",
                "protocol-error",
                "unknown-room",
            )


_FIELDS: dict[str, dict[str, Any]] = {
    "ping": {"text": "x"},
    "describe": {},
    "select-program": {"name": "satellite"},
    "transcribe": {
        "name": "x",
        "language": "en",
        "context": {},
        "vad_sensitivity": "default",
        "transcript_names": ["a"],
        "transcript_terms": ["a"],
    },
    "detect": {"names": ["okay_nabu"], "context": {}},
    "transcript": {"text": "What time is it?", "language": "en", "context": {"conversation_id": "c"}},
    "intent": {"name": "Ask", "text": "What time is it?", "entities": [{"name": "a", "value": 1}], "context": {}},
    "synthesize": {
        "text": "Hi.",
        "voice": {"name": "en_US-joe-medium", "language": "en", "speaker": "0"},
        "text_format": "text",
        "context": {},
    },
    "synthesize-start": {"voice": {"language": "en"}, "text_format": "ssml", "context": {}},
    "synthesize-chunk": {"text": "Hi."},
    "synthesize-stop": {},
    "run-pipeline": {
        "start_stage": "handle",
        "end_stage": "tts",
        "announce_text": "What time is it?",
        "restart_on_end": False,
        "wake_word_name": "x",
        "wake_word_names": ["okay_nabu"],
        "snd_format": {"rate": 22050},
    },
    "audio-start": {"rate": 16000, "width": 2, "channels": 1, "timestamp": 0},
    "audio-chunk": {"rate": 16000, "width": 2, "channels": 1, "timestamp": 0},
    "audio-stop": {"timestamp": 0},
    "announce": {"text": "Hello", "rooms": ["kitchen"]},
    "status": {"x": 1},
    "error": {"text": "x", "code": "x"},
    "info": {"asr": [], "satellite": {}},
}
_WRONG: list[Any] = [
    None,
    True,
    5,
    -5,
    12.5,
    1e400,
    "",
    "x",
    [],
    [5],
    [[]],
    {},
    {"name": 5},
    {"a": {"b": []}},
    "\ud800",
]


@pytest.mark.parametrize("type_", _FIELDS)
async def test_any_field_of_any_wrong_type_breaks_nothing(
    daemon: RunningDaemon, caplog: pytest.LogCaptureFixture, type_: str
) -> None:
    good = _FIELDS[type_]
    events: list[dict[str, Any]] = [{**good, field: wrong} for field in good for wrong in _WRONG]
    events += [{name: value for name, value in good.items() if name != field} for field in good]
    nested = [field for field in good if isinstance(good[field], dict)]
    events += [{**good, one: {**good[one], key: wrong}} for one in nested for key in good[one] for wrong in _WRONG]

    async def one(data: dict[str, Any]) -> None:
        async with connect(daemon.port()) as client:
            payload = b"\0\0" if type_ == "audio-chunk" else b""
            header = {"type": type_, "data": data, "payload_length": len(payload)}
            before = b'{"type": "synthesize-start"}\n' if type_ == "synthesize-chunk" else b""
            client.writer.write(before + json.dumps(header).encode() + b"\n" + payload)
            events = await client.pong("still there")
            assert types(events).count("error") <= 1

    with caplog.at_level(logging.INFO):
        for data in [good, *events]:
            await one(data)
        await daemon.settled()
    assert [record for record in caplog.records if record.exc_info] == []
