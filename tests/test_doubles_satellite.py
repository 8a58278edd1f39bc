"""The double of a room's satellite: it behaves as wyoming-satellite 1.4.1 does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
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

from satellite.audio.pcm import RATE
from tests.doubles.satellite import ScriptedSatellite
from tests.waiting import until
from tests.wyoming_client import Client, connect, types

SPEECH = (8000 * np.sin(np.arange(RATE) * 0.3)).astype(np.int16).tobytes()
"""One second."""

END = {"transcript": Transcript("x"), "error": Error("x"), "pause": PauseSatellite(), "run": RunSatellite()}


@asynccontextmanager
async def dialled(**settings: Any) -> AsyncIterator[tuple[ScriptedSatellite, Client]]:
    async with ScriptedSatellite(**settings) as room, connect(room.port) as server:
        await server.send(RunSatellite(), Ping(text="there?"))
        await server.until("pong")
        yield room, server


async def chunks(server: Client, count: int) -> list[Event]:
    """Return so many chunks of audio, and what comes between them."""
    return [event for _ in range(count) for event in await server.until("audio-chunk") if event.type != "ping"]


@pytest.mark.parametrize("hangs_up", [True, False])
async def test_it_has_one_server(hangs_up: bool) -> None:
    async with dialled(hangs_up=hangs_up) as (room, first):
        async with connect(room.port) as second:
            await second.send(Describe())
            await second.until("info")
            await second.send(RunSatellite())
            if hangs_up:
                with suppress(ConnectionError):
                    assert await second.read() is None
            else:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(second.read(), 0.2)
        first.writer.close()
        await until(lambda: not room.claimed)
        async with connect(room.port) as third:
            await third.send(RunSatellite())
            await until(lambda: room.claimed)


@pytest.mark.parametrize("end", END)
async def test_a_wake_word_starts_bare_audio_until_the_end_of_the_run(end: str) -> None:
    async with dialled() as (room, server):
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
        assert not await room.wake()
        await server.send(END[end])
        await until(lambda: not room.streaming)
        assert await room.wake() is (end != "pause")


async def test_one_that_always_streams_does_so_whatever_ends_until_it_is_paused() -> None:
    async with ScriptedSatellite(mode="always") as room, connect(room.port) as server:
        await server.send(RunSatellite())
        pipeline = (await server.until("run-pipeline"))[-1]
        assert (pipeline.data["start_stage"], pipeline.data["restart_on_end"]) == ("wake", True)
        await server.send(Transcript("x"), Error("x"))
        await room.until("error")
        assert room.streaming
        await server.send(PauseSatellite())
        await until(lambda: not room.streaming)


@pytest.mark.slow
async def test_one_that_waits_for_speech_sends_two_seconds_before_it_and_stops_by_itself() -> None:
    async with dialled(mode="vad", vad_timeout_seconds=0.5) as (room, server):
        await asyncio.sleep(2.2)
        assert not room.streaming
        saying = asyncio.create_task(room.say(SPEECH))
        pipeline, before, speech = await chunks(server, 2)
        assert (pipeline.data["start_stage"], pipeline.data["restart_on_end"]) == ("wake", False)
        assert len(before.payload or b"") == 2 * 32_000
        assert np.abs(np.frombuffer(speech.payload or b"", np.int16)).max() > 7000
        await server.send(Detection("okay_nabu"))
        assert types(await server.until("audio-stop")) == ["audio-chunk", "audio-stop"]
        await server.until("run-pipeline")  # there is more speech
        await saying
        await server.send(Transcript("x"))
        await until(lambda: not room.streaming)
