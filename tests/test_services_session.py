"""Nothing that is asked for stays without an answer, and nobody who waits for an engine is kept from a `pong`."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

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
    slots = [slot for slot in daemon.daemon.engines.slots if not slot.on_demand]

    async def load() -> None:
        for slot in slots:
            slot._settled.clear()

    async def settle() -> None:
        for slot in slots:
            slot.settle(slot.failure)

    daemon.call(load())
    try:
        yield
    finally:
        daemon.call(settle())


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


async def test_a_client_that_sends_without_end_meanwhile_is_held_back(daemon: RunningDaemon) -> None:
    async with connect(daemon.port()) as client:
        with loading(daemon):
            await client.send(Transcribe(), START)
            second = chunk(bytes(BYTES_PER_SECOND)).event()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(3):
                    await client.send(*[second] * 2000)
        client.writer.transport.abort()
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
async def test_a_client_that_sends_no_more_still_gets_the_answer(
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


async def test_half_a_command_is_not_answered(daemon: RunningDaemon) -> None:
    for asked in (Transcribe(), COMMAND):
        async with connect(daemon.port()) as client:
            await client.send(asked, START, chunk(LIGHTS[: len(LIGHTS) // 2]))
            client.writer.write_eof()
            while (event := await client.read()) is not None:
                assert event.type not in ("transcript", "handled", "error")
    await daemon.settled()


async def test_a_run_begins_when_the_one_before_has_ended(daemon: RunningDaemon) -> None:
    async with connect(daemon.port()) as client:
        await client.send(COMMAND, START, chunk(LIGHTS), COMMAND, START, chunk(LIGHTS), AudioStop())
        events = await client.until("audio-stop")
        assert types(events).count("transcript") == 1
        assert types(events).count("handled") == 1
    await daemon.settled()


async def test_a_timestamp_costs_no_transcript(daemon: RunningDaemon) -> None:
    timestamps = [12.5, 12, "soon", None, True, [1], {"a": 1}, 1e400]
    async with connect(daemon.port()) as client:
        await client.send(Transcribe(), Event("audio-start", {"rate": 16000.0, "width": 2.0, "channels": 1.0}))
        for number, piece in enumerate(chunks(LIGHTS)):
            shape = {"rate": 16000.0, "width": 2, "channels": 1.0}
            data = {**shape, "timestamp": timestamps[number % len(timestamps)]}
            client.write({"type": "audio-chunk", "data": data}, piece.audio)
        await client.send(AudioStop())
        events = await client.until("transcript")
        assert "error" not in types(events)
        assert "lights" in events[-1].data["text"]


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
