"""Whole runs over a real connection: the order of steps, every way to end, and that nothing is left behind."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from wyoming.asr import Transcribe
from wyoming.audio import AudioStop
from wyoming.event import Event, Eventable
from wyoming.pipeline import PipelineStage, RunPipeline
from wyoming.tts import Synthesize, SynthesizeChunk, SynthesizeStart

from satellite import events as steps
from satellite.audio.pcm import BYTES_PER_SECOND, Converter, read_wav
from satellite.errors import SatelliteError
from satellite.wire import client as our_client
from tests.driven_rooms import spoken
from tests.running_daemon import DATA, RunningDaemon
from tests.waiting import PATIENCE_SECONDS, meanwhile
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


@asynccontextmanager
async def sending(client: Client, pcm: bytes) -> AsyncIterator[None]:
    """Send chunks at twice the pace of a microphone, so that the run keeps up, as it does with a real one."""

    async def send() -> None:
        for piece in chunks(pcm, 4096):
            await client.send(piece)
            await asyncio.sleep(0.064)

    async with meanwhile(send()):
        yield


async def test_wake_word_to_spoken_answer(daemon: RunningDaemon, question: bytes) -> None:
    async with connect(daemon.port()) as client:
        await client.send(RunPipeline(start_stage=WAKE, end_stage=TTS))
        async with sending(client, NABU + SILENCE + question + 3 * SILENCE):
            events = await client.until("audio-stop")
    steps = [step for step in types(events) if step not in ("audio-chunk", "handled")]
    assert steps == [
        *("detect", "detection", "transcribe", "voice-started", "voice-stopped", "transcript"),
        *("audio-start", "audio-stop"),
    ]
    by_type = {event.type: event.data for event in events}
    assert by_type["detection"]["name"] == "okay_nabu"
    assert "capital of france" in by_type["transcript"]["text"].lower()
    assert "nabu" not in by_type["transcript"]["text"].lower()
    assert "Paris" in by_type["handled"]["text"]
    assert by_type["handled"]["context"]["provider"] == "local"
    assert 0.8 < len(sound(events)) / 44100 < 10


async def test_a_run_may_stop_at_any_stage(daemon: RunningDaemon) -> None:
    async with connect(daemon.port()) as client:
        for stage, last in ((ASR, "transcript"), (HANDLE, "handled")):
            await client.send(RunPipeline(start_stage=ASR, end_stage=stage), *chunks(LIGHTS + SILENCE))
            await client.until(last)
        assert types(await client.pong()) == ["pong"]


@pytest.mark.parametrize(
    ("text", "expected", "least_seconds"),
    [("Dinner is ready.", ["audio-start", "audio-chunk", "audio-stop"], 0.5), ("🎉", ["audio-start", "audio-stop"], 0)],
)
async def test_an_announcement_speaks_a_given_text(
    daemon: RunningDaemon, text: str, expected: list[str], least_seconds: float
) -> None:
    async with connect(daemon.port()) as client:
        await client.send(RunPipeline(start_stage=TTS, end_stage=TTS, announce_text=text))
        events = await client.until("audio-stop")
        assert types(events) == expected
        assert least_seconds <= len(sound(events)) / 44100 < 4


@pytest.mark.parametrize(
    ("code", "request_", "pcm"),
    [
        ("wake-not-detected", RunPipeline(WAKE, TTS), SILENCE),
        ("wake-unknown-word", RunPipeline(WAKE, TTS, wake_word_names=["computer"]), b""),
        ("stt-no-speech", RunPipeline(ASR, TTS), 7 * SILENCE),
        ("stt-no-text-recognized", RunPipeline(ASR, TTS), SILENCE),
        ("chat-empty", RunPipeline(HANDLE, TTS), b""),
        ("chat-too-long", RunPipeline(HANDLE, TTS, announce_text="word " * 5_000), b""),
        ("tts-empty", RunPipeline(TTS, TTS), b""),
        ("tts-too-long", RunPipeline(TTS, TTS, announce_text="word " * 5_000), b""),
    ],
)
async def test_a_run_that_cannot_go_on_ends_with_an_error(
    daemon: RunningDaemon, code: str, request_: RunPipeline, pcm: bytes
) -> None:
    async with connect(daemon.port()) as client:
        await client.send(request_, *chunks(pcm), *([AudioStop()] if pcm else []))
        assert await client.error() == code
        await client.pong()


async def test_a_run_restarts_when_asked_to(daemon: RunningDaemon) -> None:
    async with connect(daemon.port()) as client:
        await client.send(RunPipeline(start_stage=WAKE, end_stage=ASR, restart_on_end=True))
        for _ in range(2):
            async with sending(client, NABU + SILENCE + LIGHTS + 2 * SILENCE):
                assert "lights" in (await client.transcript()).lower()
                await client.until("detect")
        await client.send(AudioStop())
        assert await client.error() == "wake-not-detected"


async def test_a_new_request_takes_the_place_of_the_old_run(daemon: RunningDaemon) -> None:
    async with connect(daemon.port()) as client:
        await client.send(RunPipeline(start_stage=WAKE, end_stage=TTS))
        await client.until("detect")
        assert "lights" in (await client.transcribed(LIGHTS)).lower()


@pytest.mark.parametrize("step", ["detect", "detection", "voice-started", "transcript", "audio-chunk"])
async def test_leaving_at_any_step_frees_everything(daemon: RunningDaemon, question: bytes, step: str) -> None:
    async with connect(daemon.port()) as client:
        await client.send(RunPipeline(start_stage=WAKE, end_stage=TTS))
        async with sending(client, NABU + SILENCE + question + 3 * SILENCE):
            await client.until(step)
        client.writer.transport.abort()
    await daemon.settled()


LONG_TEXT = "This is a rather long sentence that takes a while to be spoken. " * 30


@pytest.mark.parametrize(
    ("sent", "step"),
    [
        ([Synthesize(text=LONG_TEXT)], "audio-chunk"),
        ([SynthesizeStart(), SynthesizeChunk(text=LONG_TEXT)], "audio-chunk"),
        ([Event("transcript", {"text": "Tell me a long story about a dog."})], "handled-chunk"),
        ([Transcribe(), *chunks(LIGHTS * 3), AudioStop(), Event("ping")], "pong"),
    ],
    ids=["tts", "streaming tts", "chat", "stt"],
)
async def test_leaving_a_service_in_the_middle_frees_everything(
    daemon: RunningDaemon, sent: list[Event | Eventable], step: str
) -> None:
    async with connect(daemon.port()) as client:
        await client.send(*sent)
        await client.until(step)
        client.writer.transport.abort()
    await daemon.settled()


async def test_every_step_is_an_event_with_its_time_and_the_answer_can_be_understood(
    daemon: RunningDaemon, question: bytes
) -> None:
    seen: list[steps.RunEvent] = []
    subscribed = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def watch() -> None:
        with daemon.daemon.bus.subscribe(4096) as events, contextlib.suppress(TimeoutError):
            loop.call_soon_threadsafe(subscribed.set)
            async with asyncio.timeout(PATIENCE_SECONDS):
                async for event in events:
                    seen.append(event)
                    if isinstance(event, steps.RunEnd):
                        return

    watching = asyncio.create_task(asyncio.to_thread(daemon.call, watch()))
    await subscribed.wait()
    heard = await our_client.converse(daemon.uri, our_client.recording(question, realtime=False), start=ASR)
    await watching
    order = list(dict.fromkeys(type(event) for event in seen))
    assert order[:4] == [steps.RunStart, steps.SttStart, steps.SttVadStart, steps.SttVadEnd]
    assert set(order) >= {steps.ChatStart, steps.ChatChunk, steps.ChatEnd}
    assert order[-1] is steps.RunEnd
    assert order.index(steps.TtsStart) < order.index(steps.TtsEnd)
    assert len({event.run.run_id for event in seen}) == 1
    assert [event.at for event in seen] == sorted(event.at for event in seen)
    assert heard.format is not None
    converter = Converter(heard.format)
    pcm = converter.convert(bytes(heard.pcm)) + converter.flush()
    assert "paris" in (await our_client.transcribe(daemon.uri, pcm)).transcript.lower()


async def test_a_microphone_that_fails_ends_the_conversation_at_once(daemon: RunningDaemon) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield SILENCE
        raise SatelliteError("unplugged", code="no-microphone")

    with pytest.raises(SatelliteError, match="unplugged"):
        await our_client.converse(daemon.uri, broken())
    await daemon.settled()
