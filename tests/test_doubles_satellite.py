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
from wyoming.satellite import PauseSatellite, RunSatellite
from wyoming.wake import Detection

from satellite.audio.pcm import RATE, AudioFormat
from tests.doubles.satellite import ScriptedSatellite
from tests.waiting import until
from tests.wyoming_client import Client, connect, types

SPEECH = (8000 * np.sin(np.arange(RATE) * 0.3)).astype(np.int16).tobytes()
"""One second."""

END = {"transcript": Transcript("x"), "error": Error("x"), "pause": PauseSatellite(), "run": RunSatellite()}


@asynccontextmanager
async def dialled(**settings: Any) -> AsyncIterator[tuple[ScriptedSatellite, Client]]:
    """A satellite and the server that has it."""
    async with ScriptedSatellite(**settings) as room, connect(room.port) as server:
        await claim(server)
        yield room, server


async def claim(server: Client) -> list[Event]:
    """Take the satellite; return what it sends until it has noticed."""
    await server.send(RunSatellite(), Ping(text="there?"))
    return await server.until("pong")


async def chunks(server: Client, count: int) -> list[Event]:
    """Return so many chunks of audio, and what comes between them."""
    return [event for _ in range(count) for event in await server.until("audio-chunk")]


async def silent(server: Client) -> bool:
    """Return whether for a while nothing comes, nor the end."""
    try:
        async with asyncio.timeout(0.4):
            await server.read()
    except TimeoutError:
        return True
    except ConnectionError:
        pass
    return False


@pytest.mark.parametrize("hangs_up", [True, False])
async def test_it_has_one_server(hangs_up: bool) -> None:
    async with dialled(hangs_up=hangs_up) as (room, first):
        async with connect(room.port) as second:
            await second.send(Describe())
            await second.until("info")
            await second.send(RunSatellite())
            assert await silent(second) is not hangs_up
        first.writer.close()
        await until(lambda: not room.claimed)
        async with connect(room.port) as third:
            await claim(third)


@pytest.mark.parametrize("end", END)
async def test_a_wake_word_starts_bare_audio_until_the_end_of_the_run(end: str) -> None:
    async with dialled(pipeline="Ground floor") as (room, server):
        assert await room.wake()
        detection, pipeline, *_ = events = await chunks(server, 3)
        assert types(events) == ["detection", "run-pipeline", "audio-chunk"]
        assert (detection.data["name"], detection.data["timestamp"] > 0) == ("okay_nabu", True)
        assert pipeline.data == {
            "start_stage": "asr",
            "end_stage": "tts",
            "restart_on_end": False,
            "name": "Ground floor",
            "snd_format": {"rate": 22050, "width": 2, "channels": 1},
        }
        assert not await room.wake("hey_jarvis")
        assert room.streaming
        await server.send(END[end])
        await until(lambda: not room.streaming)
        assert await room.wake("hey_jarvis") is (end != "pause")


async def test_always_streaming() -> None:
    async with ScriptedSatellite(mode="always") as room, connect(room.port) as server:
        pipeline = (await claim(server))[0]
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
    async with dialled(mode="vad", vad_timeout_seconds=0.5) as (room, server):
        await asyncio.sleep(2.2)
        assert not room.streaming
        saying = asyncio.create_task(room.say(SPEECH))
        pipeline, before, speech = [event for event in await chunks(server, 2) if event.type != "ping"]
        assert (pipeline.data["start_stage"], pipeline.data["restart_on_end"]) == ("wake", False)
        assert len(before.payload or b"") == 2 * 32_000
        assert np.abs(np.frombuffer(speech.payload or b"", np.int16)).max() > 7000
        await server.send(Detection("okay_nabu"))
        assert types(await server.until("audio-stop")) == ["audio-chunk", "audio-stop"]
        await server.until("run-pipeline")  # there is more speech
        await saying
        await server.send(Transcript("x"))
        await until(lambda: not room.streaming)


async def test_the_speaker_takes_its_time() -> None:
    async with dialled() as (room, server):
        began = asyncio.get_running_loop().time()
        for _ in range(2):
            await server.send_audio(bytes(33_076), rate=22_050)
        for count in (1, 2):
            await server.until("played")
            assert asyncio.get_running_loop().time() - began >= 0.74 * count
        assert not room.speaker.playing
        assert [one.formats for one in room.speaker.utterances] == [[AudioFormat(22_050)]] * 2
        assert [one.pcm for one in room.speaker.utterances] == [bytes(33_076)] * 2


async def test_a_hung_satellite() -> None:
    async with dialled(mode="always") as (room, server):
        await chunks(server, 1)
        room.hang()
        async with connect(room.port) as other:
            await other.send(Describe())
            await server.send(Ping())
            assert await silent(other)
            assert [event.type for event in room.events] == ["run-satellite", "ping"]
            room.thaw()
            await other.until("info")
        await server.until("pong")
