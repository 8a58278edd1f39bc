"""The double of a room's satellite: it behaves as wyoming-satellite 1.4.1 does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from wyoming.asr import Transcript
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import Describe
from wyoming.ping import Ping
from wyoming.pipeline import RunPipeline
from wyoming.satellite import PauseSatellite, RunSatellite
from wyoming.wake import Detection

from satellite.audio.pcm import RATE, AudioFormat
from tests.doubles.satellite import ScriptedSatellite
from tests.waiting import until
from tests.wyoming_client import Client, connect, types

SPEECH = (8000 * np.sin(np.arange(RATE) * 0.3)).astype(np.int16).tobytes()
"""One second."""


@asynccontextmanager
async def dialled(**settings: Any) -> AsyncIterator[tuple[ScriptedSatellite, Client]]:
    """A satellite and the server that has dialled it."""
    async with (
        ScriptedSatellite(**settings) as room,
        connect(room.port) as server,
    ):
        yield room, server


async def chunks(server: Client, count: int) -> list[Event]:
    """Return so many chunks of audio, and what comes between them."""
    return [event for _ in range(count) for event in await server.until("audio-chunk")]


async def closed(server: Client) -> bool:
    """Read to the end, however it comes."""
    try:
        while await server.read() is not None:
            pass
    except ConnectionError:
        pass
    return True


async def silent(server: Client) -> bool:
    """Read for a while, in which nothing comes, nor the end."""
    try:
        async with asyncio.timeout(0.4):
            await server.read()
    except TimeoutError:
        return True
    return False


async def claim(server: Client) -> None:
    """Take the satellite; returns when it has noticed."""
    await server.send(RunSatellite(), Ping(text="there?"))
    await server.until("pong")


@pytest.mark.parametrize("hangs_up", [True, False])
async def test_it_has_one_server(hangs_up: bool) -> None:
    """Another one is told what it is, and turned away, perhaps without a word; it is free again when the first goes."""
    async with dialled(hangs_up=hangs_up) as (room, first):
        async with connect(room.port) as second:
            await claim(first)
            await second.send(Describe())
            await second.until("info")
            await second.send(RunSatellite())
            assert await (closed(second) if hangs_up else silent(second))
            assert (room.claims, room.refused, room.connections) == (1, 1, 2)
        first.writer.close()
        await until(lambda: not room.claimed)
        async with connect(room.port) as third:
            await claim(third)
        assert room.claims == 2


END = {"transcript": Transcript("x"), "error": Error("x"), "pause": PauseSatellite(), "run": RunSatellite()}


@pytest.mark.parametrize("end", END)
async def test_a_wake_word_starts_bare_audio_until_the_end_of_the_run(end: str) -> None:
    """Without an `audio-start` or `audio-stop`."""
    async with dialled(pipeline="Ground floor", wyoming="1.10.2") as (room, server):
        await claim(server)
        assert await room.wake()
        detection, pipeline, *_ = events = await chunks(server, 3)
        assert types(events) == ["detection", "run-pipeline", "audio-chunk"]
        assert detection.data["name"] == "okay_nabu"
        assert detection.data["timestamp"] > 0
        assert pipeline.data == {
            "start_stage": "asr",
            "end_stage": "tts",
            "restart_on_end": False,
            "name": "Ground floor",
            "wake_word_name": "okay_nabu",
            "snd_format": {"rate": 22050, "width": 2, "channels": 1},
        }
        assert RunPipeline.from_event(pipeline).wake_word_name == "okay_nabu"
        assert not await room.wake("hey_jarvis")
        assert room.open_microphone_seconds > 0
        await server.send(END[end])
        await until(lambda: not room.streaming)
        assert room.open_microphone_seconds == 0
        assert await room.wake("hey_jarvis") is (end != "pause")


async def test_always_streaming() -> None:
    """From `run-satellite` to `pause-satellite`, whatever happens: the next server gets audio unasked."""
    async with dialled(mode="always") as (room, server):
        await server.send(RunSatellite())
        pipeline, *_ = await chunks(server, 2)
        assert (pipeline.data["start_stage"], pipeline.data["restart_on_end"]) == ("wake", True)
        await server.send(Transcript("x"), Error("x"))
        await room.until("error")
        assert room.streaming
        server.writer.close()
        await until(lambda: not room.claimed)
        assert not room.streaming
        async with connect(room.port) as later:
            await later.send(Ping())
            assert "run-pipeline" not in types(await chunks(later, 2))
            await later.send(PauseSatellite())
            await until(lambda: not room.streaming)


async def test_streaming_after_speech() -> None:
    """Two seconds from before it come as one chunk, and after some seconds it ends, detection or not."""
    async with dialled(mode="vad", speed=4) as (room, server):
        await claim(server)
        await asyncio.sleep(0.6)
        assert not room.streaming
        saying = asyncio.create_task(room.say(SPEECH))
        pipeline, before, speech = await chunks(server, 2)
        assert (pipeline.data["start_stage"], pipeline.data["restart_on_end"]) == ("wake", False)
        assert len(before.payload or b"") == 2 * 32_000
        assert np.abs(np.frombuffer(speech.payload or b"", np.int16)).max() > 7000
        await server.send(Detection("okay_nabu"))
        await saying
        assert types(await server.until("audio-stop")) == ["audio-chunk", "audio-stop"]
        assert not room.streaming
        await room.say(SPEECH)
        assert room.streaming
        await server.send(Transcript("x"))
        await until(lambda: not room.streaming)


async def test_the_speaker_takes_its_time() -> None:
    """Sound that comes at once is played for as long as it is; `played` follows, one for each `audio-stop`."""
    async with dialled() as (room, server):
        for _ in range(2):
            await server.send_audio(bytes(33_076), rate=22_050)
        await room.until("audio-stop")
        await room.until("audio-stop")
        first, second = room.speaker.utterances
        assert first.formats == [AudioFormat(22_050)]
        assert first.seconds == pytest.approx(0.75, abs=0.001)
        assert 0.5 < first.max_ahead_seconds <= first.seconds
        assert first.heard_seconds < first.seconds
        assert room.speaker.playing
        assert second.heard == b""
        await server.until("played")
        assert first.played_at is not None
        assert first.first_chunk_at is not None
        assert first.played_at - first.first_chunk_at >= 0.74
        assert (first.heard, second.played_at) == (bytes(33_076), None)
        await server.until("played")
        assert not room.speaker.playing


async def test_a_hung_satellite() -> None:
    """It accepts connections and does nothing, until it goes on."""
    async with dialled(mode="always") as (room, server):
        await server.send(RunSatellite())
        await chunks(server, 1)
        room.hang()
        async with connect(room.port) as other:
            await other.send(Describe())
            await server.send(Ping())
            assert await silent(other)
            assert [event.type for event in room.events] == ["run-satellite"]
            room.thaw()
            await other.until("info")
        await server.until("pong")
