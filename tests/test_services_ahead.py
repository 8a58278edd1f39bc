"""What `transcribe` does before `audio-stop`: a transcript made in the pause, and words while somebody speaks."""

import asyncio
from collections import deque
from typing import Any

import pytest
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.event import Event
from wyoming.ping import Ping

from satellite.audio.pcm import BYTES_PER_SECOND, read_wav
from satellite.config.loader import parse
from tests.running_daemon import DATA, RunningDaemon
from tests.waiting import PATIENCE_SECONDS
from tests.wyoming_client import Client, connect, types

pytestmark = pytest.mark.models

LIGHTS = read_wav(DATA / "commands" / "turn_on_the_lights.wav")
_CHUNK_BYTES = 2048


def chunk(pcm: bytes) -> AudioChunk:
    """Return `pcm` as an event."""
    return AudioChunk(rate=16000, width=2, channels=1, audio=pcm)


async def transcribed_at_once(client: Client, pcm: bytes) -> str:
    """Return the text of a recording that is sent as fast as it goes."""
    await client.send(Transcribe())
    await client.send_audio(pcm)
    return str(Transcript.from_event((await client.until("transcript"))[-1]).text)


async def test_a_pause_is_enough_for_the_transcript(daemon: RunningDaemon) -> None:
    """Silence at a microphone's pace begins the transcription, and its text is the answer to `audio-stop`."""
    early_count = daemon.daemon._stages.speculative_transcripts
    async with connect(daemon.port()) as client, asyncio.timeout(PATIENCE_SECONDS):
        expected = await transcribed_at_once(client, LIGHTS + bytes(BYTES_PER_SECOND))
        begun, used = early_count.begun, early_count.used
        await client.send(Transcribe(), AudioStart(16000, 2, 1))
        for at in range(0, len(LIGHTS), _CHUNK_BYTES):
            await client.send(chunk(LIGHTS[at : at + _CHUNK_BYTES]))
        while early_count.begun == begun:
            await client.send(chunk(bytes(_CHUNK_BYTES)))
            await asyncio.sleep(_CHUNK_BYTES / BYTES_PER_SECOND)
        await client.send(chunk(bytes(BYTES_PER_SECOND)), AudioStop())
        assert Transcript.from_event((await client.until("transcript"))[-1]).text == expected
        assert (early_count.begun, early_count.used) == (begun + 1, used + 1)


async def test_a_recording_that_comes_at_once_is_transcribed_once(daemon: RunningDaemon) -> None:
    """Whoever sends a file, pauses and all, gets it transcribed as a whole and pays for nothing else."""
    early_count = daemon.daemon._stages.speculative_transcripts
    async with connect(daemon.port()) as client:
        begun = early_count.begun
        await transcribed_at_once(client, (LIGHTS + bytes(BYTES_PER_SECOND)) * 3)
        assert early_count.begun == begun


async def test_whoever_leaves_in_a_pause_leaves_no_work_behind(daemon: RunningDaemon) -> None:
    """The connection's end is the end of the work ahead."""
    early_count = daemon.daemon._stages.speculative_transcripts
    async with connect(daemon.port()) as client, asyncio.timeout(PATIENCE_SECONDS):
        begun = early_count.begun
        await client.send(Transcribe(), AudioStart(16000, 2, 1), chunk(LIGHTS))
        while early_count.begun == begun:
            await client.send(chunk(bytes(_CHUNK_BYTES)))
            await asyncio.sleep(_CHUNK_BYTES / BYTES_PER_SECOND)
    await daemon.settled()


class Steady(deque[float]):
    """Times of a machine that is always fast enough, so that the test does not depend on this one."""

    def append(self, seconds: float, /) -> None:
        """Keep the one there is."""


async def test_words_come_while_somebody_speaks(models_directory: Any) -> None:
    """The chunks behind the last `transcript-start`, put together, are the transcript; some come before the end."""
    config = parse(
        f"models: {{directory: {models_directory}}}\nzeroconf: {{enabled: false}}\n"
        "wyoming: {host: 127.0.0.1}\nhttp: {enabled: false}\nstt: {partials: on}"
    )
    recordings = [read_wav(wav) for wav in sorted((DATA / "commands").glob("*.wav"))]

    async def spoken(client: Client, engine: Any, pcm: bytes) -> tuple[list[Event], list[Event]]:
        """Return what came before `audio-stop` was sent, and what came then."""
        await client.send(Transcribe(language="en"), AudioStart(16000, 2, 1))
        for at in range(0, len(pcm), _CHUNK_BYTES):
            await client.send(chunk(pcm[at : at + _CHUNK_BYTES]), Ping())
            early.extend((await client.until("pong"))[:-1])
            while not engine.idle:
                await asyncio.sleep(0.005)
        await client.send(AudioStop())
        return early, await client.until("transcript-stop")

    early: list[Event] = []
    heard: list[Event] = []
    with RunningDaemon(config) as running:
        engine: Any = running.daemon.engines.transcriber.engine
        engine._recent_seconds = Steady([0.01])
        async with connect(running.port()) as client:
            for first in range(0, len(recordings) - 1, 2):
                early.clear()
                before, after = await spoken(client, engine, recordings[first] + recordings[first + 1])
                assert types(before)[:1] in ([], ["transcript-start"])
                heard.extend(before)
                text = ""
                for event in before + after:
                    match event.type:
                        case "transcript-start":
                            text = ""
                        case "transcript-chunk":
                            text += event.data["text"]
                        case "transcript":
                            assert text == event.data["text"]
                assert types(after)[-3:] == ["transcript-chunk", "transcript", "transcript-stop"]
    assert "transcript-chunk" in types(heard)
