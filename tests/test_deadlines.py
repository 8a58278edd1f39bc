"""Every stage has a deadline: a stage that is too slow is an error with a code, and the connection goes on."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk
from wyoming.ping import Ping
from wyoming.pipeline import PipelineStage, RunPipeline
from wyoming.tts import Synthesize, SynthesizeChunk, SynthesizeStart, SynthesizeStop

from satellite.audio.pcm import read_wav
from tests.running_daemon import DATA, RunningDaemon, lonely
from tests.wyoming_client import connect, types

pytestmark = pytest.mark.models

LIGHTS = read_wav(DATA / "commands" / "turn_on_the_lights.wav")


@pytest.fixture(scope="module")
def hasty(models_directory: Path) -> Iterator[RunningDaemon]:
    """A daemon that allows no stage the time it needs."""
    config = lonely(models_directory, "deadlines: {wake_seconds: 0.2, load_seconds: 200}")
    # Shorter than anybody may configure.
    names = ("stt_seconds", "chat_first_token_seconds", "tts_seconds")
    deadlines = config.deadlines.model_copy(update=dict.fromkeys(names, 0.001))
    with RunningDaemon(config.model_copy(update={"deadlines": deadlines})) as running:
        yield running


async def test_a_service_that_is_too_slow_says_so_and_goes_on(hasty: RunningDaemon) -> None:
    async with connect(hasty.port()) as client:
        await client.send(Transcribe())
        await client.send_audio(LIGHTS)
        assert (await client.until("error"))[-1].data["code"] == "stt-timeout"
        await client.send(Transcript(text="What is the capital of France?"))
        assert (await client.until("not-handled"))[-1].data["code"] == "chat-timeout"
        await client.send(Synthesize(text="Hello there."))
        assert types(await client.until("audio-stop")) == ["audio-start", "error", "audio-stop"]
        await client.send(SynthesizeStart(), SynthesizeChunk(text="Hello there."), SynthesizeStop())
        events = await client.until("synthesize-stopped")
        assert types(events) == ["audio-start", "error", "audio-stop", "synthesize-stopped"]
        assert events[1].data["code"] == "tts-timeout"
        await client.send(Ping())
        await client.until("pong")
    await hasty.settled()


async def test_a_run_ends_by_its_stages_deadlines(hasty: RunningDaemon) -> None:
    async with connect(hasty.port()) as client:
        await client.send(RunPipeline(start_stage=PipelineStage.WAKE, end_stage=PipelineStage.TTS))
        assert (await client.until("error"))[-1].data["code"] == "wake-timeout"
        await client.send(RunPipeline(start_stage=PipelineStage.ASR, end_stage=PipelineStage.TTS))
        await client.send(AudioChunk(rate=16000, width=2, channels=1, audio=LIGHTS + bytes(64000)))
        assert (await client.until("error"))[-1].data["code"] == "stt-timeout"
    await hasty.settled()
