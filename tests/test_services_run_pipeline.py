"""Whole runs over a real connection: the order of steps, every way to end, and that nothing is left behind."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from wyoming.asr import Transcribe
from wyoming.audio import AudioStop
from wyoming.event import Event
from wyoming.pipeline import PipelineStage, RunPipeline
from wyoming.tts import Synthesize, SynthesizeChunk, SynthesizeStart

from satellite.audio.pcm import BYTES_PER_SECOND, Converter, read_wav
from satellite.errors import SatelliteError
from satellite.events import (
    ChatChunk,
    ChatEnd,
    ChatStart,
    RunEnd,
    RunEvent,
    RunStart,
    SttStart,
    SttVadEnd,
    SttVadStart,
    TtsEnd,
    TtsStart,
)
from satellite.wire import client as our_client
from tests.driven_rooms import spoken
from tests.running_daemon import DATA, RunningDaemon
from tests.waiting import PATIENCE_SECONDS
from tests.wyoming_client import Client, chunks, connect, sound, types

pytestmark = pytest.mark.models

WAKE, ASR, HANDLE, TTS = PipelineStage.WAKE, PipelineStage.ASR, PipelineStage.HANDLE, PipelineStage.TTS
NABU = read_wav(DATA / "wake" / "okay_nabu.wav")
LIGHTS = read_wav(DATA / "commands" / "turn_on_the_lights.wav")
SILENCE = bytes(BYTES_PER_SECOND)


@pytest.fixture(scope="module")
def question(daemon: RunningDaemon) -> bytes:
    """“What is the capital of France?”, spoken."""
    return asyncio.run(spoken(daemon, "What is the capital of France?", quiet_seconds=0))


async def speak(client: Client, pcm: bytes) -> None:
    """Send bare audio chunks, as satellites do."""
    await client.send(*chunks(pcm))


async def live(client: Client, pcm: bytes) -> None:
    """Send chunks at twice the pace of a microphone, so that the run keeps up, as it does with a real one."""
    for piece in chunks(pcm, 4096):
        await client.send(piece)
        await asyncio.sleep(0.064)


async def test_wake_word_to_spoken_answer(daemon: RunningDaemon, question: bytes) -> None:
    async with connect(daemon.port()) as client:
        await client.send(RunPipeline(start_stage=WAKE, end_stage=TTS))
        sending = asyncio.create_task(live(client, NABU + SILENCE + question + 3 * SILENCE))
        events = await client.until("audio-stop")
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    steps = [step for step in types(events) if step not in ("audio-chunk", "handled")]
    assert steps == [
        "detect",
        "detection",
        "transcribe",
        "voice-started",
        "voice-stopped",
        "transcript",
        "audio-start",
        "audio-stop",
    ]
    by_type = {event.type: event for event in events}
    assert by_type["detection"].data["name"] == "okay_nabu"
    assert "capital of france" in by_type["transcript"].data["text"].lower()
    assert "nabu" not in by_type["transcript"].data["text"].lower()
    assert "Paris" in by_type["handled"].data["text"]
    assert by_type["handled"].data["context"]["provider"] == "local"
    assert 0.8 < len(sound(events)) / 44100 < 10


async def test_the_answer_can_be_understood(daemon: RunningDaemon, question: bytes) -> None:
    heard = await our_client.converse(daemon.uri, our_client.recording(question, realtime=False), start=ASR)
    assert heard.format is not None
    converter = Converter(heard.format)
    pcm = converter.convert(bytes(heard.pcm)) + converter.flush()
    again = await our_client.transcribe(daemon.uri, pcm)
    assert "paris" in again.transcript.lower()


async def test_a_run_may_stop_at_any_stage(daemon: RunningDaemon) -> None:
    async with connect(daemon.port()) as client:
        await client.send(RunPipeline(start_stage=ASR, end_stage=ASR))
        await speak(client, LIGHTS + SILENCE)
        assert types(await client.until("transcript"))[-1] == "transcript"
        await client.send(RunPipeline(start_stage=ASR, end_stage=HANDLE))
        await speak(client, LIGHTS + SILENCE)
        assert types(await client.until("handled"))[-1] == "handled"
        assert types(await client.pong()) == ["pong"]


async def test_announcing_speaks_a_given_text(daemon: RunningDaemon) -> None:
    async with connect(daemon.port()) as client:
        await client.send(RunPipeline(start_stage=TTS, end_stage=TTS, announce_text="Dinner is ready."))
        events = await client.until("audio-stop")
        assert types(events) == ["audio-start", "audio-chunk", "audio-stop"]
        assert 0.5 < len(sound(events)) / 44100 < 4


async def test_announcing_nothing_ends_too(daemon: RunningDaemon) -> None:
    async with connect(daemon.port()) as client:
        await client.send(RunPipeline(start_stage=TTS, end_stage=TTS, announce_text="🎉"))
        assert types(await client.until("audio-stop")) == ["audio-start", "audio-stop"]
        for start, code in ((TTS, "tts-empty"), (HANDLE, "chat-empty")):
            await client.send(RunPipeline(start_stage=start, end_stage=TTS))
            assert await client.error() == code


@pytest.mark.parametrize(
    ("start", "pcm", "code"),
    [
        (WAKE, SILENCE, "wake-not-detected"),
        (ASR, 7 * SILENCE, "stt-no-speech"),
        (ASR, SILENCE, "stt-no-text-recognized"),
    ],
)
async def test_a_run_that_cannot_go_on_ends_with_an_error(
    daemon: RunningDaemon, start: PipelineStage, pcm: bytes, code: str
) -> None:
    async with connect(daemon.port()) as client:
        await client.send(RunPipeline(start_stage=start, end_stage=TTS))
        await speak(client, pcm)
        await client.send(AudioStop())
        assert await client.error() == code


async def test_an_unknown_wake_word_ends_the_run(daemon: RunningDaemon) -> None:
    async with connect(daemon.port()) as client:
        await client.send(RunPipeline(start_stage=WAKE, end_stage=TTS, wake_word_names=["computer"]))
        assert await client.error() == "wake-unknown-word"


async def test_a_run_restarts_when_asked_to(daemon: RunningDaemon) -> None:
    async with connect(daemon.port()) as client:
        await client.send(RunPipeline(start_stage=WAKE, end_stage=ASR, restart_on_end=True))
        for _ in range(2):
            sending = asyncio.create_task(live(client, NABU + SILENCE + LIGHTS + 2 * SILENCE))
            events = await client.until("transcript")
            assert "lights" in events[-1].data["text"].lower()
            await sending
        await client.until("detect")
        await client.send(AudioStop())
        assert await client.error() == "wake-not-detected"


async def test_a_new_request_takes_the_place_of_the_old_run(daemon: RunningDaemon) -> None:
    async with connect(daemon.port()) as client:
        await client.send(RunPipeline(start_stage=WAKE, end_stage=TTS))
        await client.until("detect")
        assert "lights" in (await client.transcribed(LIGHTS)).lower()


@pytest.mark.parametrize("step", ["detect", "detection", "voice-started", "transcript", "audio-start", "audio-chunk"])
async def test_leaving_at_any_step_frees_everything(daemon: RunningDaemon, question: bytes, step: str) -> None:
    await daemon.settled()
    async with connect(daemon.port()) as client:
        await client.send(RunPipeline(start_stage=WAKE, end_stage=TTS))
        sending = asyncio.create_task(live(client, NABU + SILENCE + question + 3 * SILENCE))
        await client.until(step)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        client.writer.transport.abort()
    await daemon.settled()


@pytest.mark.parametrize("service", ["tts", "streaming tts", "chat", "stt"])
async def test_leaving_a_service_in_the_middle_frees_everything(daemon: RunningDaemon, service: str) -> None:
    await daemon.settled()
    long_text = "This is a rather long sentence that takes a while to be spoken. " * 30
    async with connect(daemon.port()) as client:
        if service == "tts":
            await client.send(Synthesize(text=long_text))
            await client.until("audio-chunk")
        elif service == "streaming tts":
            await client.send(SynthesizeStart(), SynthesizeChunk(text=long_text))
            await client.until("audio-chunk")
        elif service == "chat":
            await client.send(Event(type="transcript", data={"text": "Tell me a long story about a dog."}))
            await client.until("handled-chunk")
        else:
            await client.send(Transcribe())
            await client.send_audio(LIGHTS * 10)
        client.writer.transport.abort()
    await daemon.settled()


async def test_every_step_is_an_event_with_its_time(daemon: RunningDaemon, question: bytes) -> None:
    seen: list[RunEvent] = []

    async def watch() -> None:
        with daemon.daemon.bus.subscribe(4096) as events, contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                async for event in events:
                    seen.append(event)
                    if isinstance(event, RunEnd):
                        return

    watching = asyncio.create_task(asyncio.to_thread(daemon.call, watch()))
    await asyncio.sleep(0.2)
    await our_client.converse(daemon.uri, our_client.recording(question, realtime=False), start=ASR)
    await watching
    order = list(dict.fromkeys(type(event) for event in seen))
    assert order[:4] == [
        RunStart,
        SttStart,
        SttVadStart,
        SttVadEnd,
    ]
    assert set(order) >= {ChatStart, ChatChunk, ChatEnd}
    assert order[-1] is RunEnd
    assert order.index(TtsStart) < order.index(TtsEnd)
    assert len({event.run.run_id for event in seen}) == 1
    assert [event.at for event in seen] == sorted(event.at for event in seen)


async def test_a_microphone_that_fails_is_told_at_once(daemon: RunningDaemon) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield SILENCE
        raise SatelliteError("unplugged", code="no-microphone")

    with pytest.raises(SatelliteError, match="unplugged"):
        await our_client.converse(daemon.uri, broken())
    await daemon.settled()
