"""How the stand-in for a room's satellite behaves: as wyoming-satellite 1.4.1 does, or as badly as it is told to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

import numpy as np
import pytest
from wyoming.asr import Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong
from wyoming.pipeline import RunPipeline
from wyoming.satellite import PauseSatellite, RunSatellite
from wyoming.timer import TimerFinished, TimerStarted
from wyoming.wake import Detection

from satellite.audio.pcm import CANONICAL, RATE, AudioFormat, Converter, seconds_of
from tests.doubles.satellite import INVALID_PIPELINE, UNKNOWN, ScriptedSatellite
from tests.waiting import PATIENCE_SECONDS, until
from tests.wyoming_client import Client, connect, sound, types

Scenario = Callable[[ScriptedSatellite, Client], Awaitable[None]]

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


@pytest.mark.parametrize(("wyoming", "fields"), [("1.5.4", {"snd_format"}), ("1.10.2", {"has_vad"})])
async def test_it_describes_itself_and_stays_free(wyoming: str, fields: set[str]) -> None:
    """Its `info` depends on the library inside."""
    async with dialled(wyoming=wyoming, name="study", area="Attic") as (room, server):
        await server.send(Describe())
        (event,) = await server.until("info")
        info = Info.from_event(event)
        assert info.satellite is not None
        assert (info.satellite.name, info.satellite.area, info.satellite.version) == ("study", "Attic", "1.4.1")
        assert info.wake[0].models[0].phrase == "okay nabu"
        assert event.data["satellite"].keys() & {"snd_format", "has_vad"} == fields
        assert [program.snd_format.rate for program in info.snd] == ([] if wyoming == "1.5.4" else [22050])
        assert (room.claimed, room.claims, room.events[0].type) == (False, 0, "describe")


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


async def test_a_wake_word_is_not_heard_twice_at_once() -> None:
    """The refractory period is that of one wake word; the pipeline's name, too."""
    async with dialled(pipeline="A") as (room, server):
        assert not await room.wake()
        await claim(server)
        found = []
        for phrase in ("okay_nabu", "okay_nabu", "hey_jarvis"):
            found.append(await room.wake(phrase))
            await server.send(Transcript("x"))
            await room.until("transcript")
        assert found == [True, False, True]
        pipelines = [(await server.until("run-pipeline"))[-1].data for _ in range(2)]
        assert [(data.get("name"), "wake_word_name" in data) for data in pipelines] == [("A", False), (None, False)]


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


async def test_what_is_said_arrives_unchanged() -> None:
    """In real time, or faster for one speech; around it is room tone."""
    async with dialled(mode="always") as (room, server):
        await server.send(RunSatellite())
        events = await chunks(server, 2)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await room.say(SPEECH[:9600])
        await room.say(SPEECH, speed=20)
        assert loop.time() - begun > 0.25
        heard = sound(events + await chunks(server, 25))
        assert SPEECH[:9600] in heard
        assert SPEECH in heard
        assert 0 < np.abs(np.frombuffer(heard[:4096], np.int16)).max() < 100


@pytest.mark.parametrize("odd", [AudioFormat(44_100, 3, 2), AudioFormat(8000, 1, 1), AudioFormat(48_000, 4, 1)])
async def test_odd_formats(odd: AudioFormat) -> None:
    """They may come in the middle of a speech, which goes on where it was."""
    async with dialled(mode="always", speed=4) as (room, server):
        await server.send(RunSatellite())
        saying = asyncio.create_task(room.say(SPEECH))
        await until(lambda: room.microphone_format == CANONICAL)
        events = await chunks(server, 8)
        room.microphone_format = odd
        while not saying.done():
            events += await chunks(server, 1)
        heard = {rate: b"" for rate in (CANONICAL.rate, odd.rate)}
        for chunk in [AudioChunk.from_event(event) for event in events if event.type == "audio-chunk"]:
            heard[chunk.rate] += chunk.audio
        assert len(heard[odd.rate]) % odd.frame_bytes == 0
        both = heard[RATE] + Converter(odd).convert(heard[odd.rate])
        loud = np.abs(np.frombuffer(both, np.int16).astype(int)) > 3000
        assert abs(loud.mean() * seconds_of(both) - (np.abs(np.frombuffer(SPEECH, np.int16)) > 3000).mean()) < 0.05


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


async def test_sound_that_comes_late_is_a_stall() -> None:
    """And sound sent ahead of time is counted; the format that was announced and that of the chunks are one."""
    async with dialled() as (room, server):
        chunk = AudioChunk(16_000, 2, 1, bytes(3200))
        await server.send(AudioStart(22_050, 2, 1), chunk, chunk)
        await until(lambda: bool(room.speaker.utterances) and not room.speaker.playing)
        await asyncio.sleep(0.1)
        await server.send(chunk, AudioStop())
        await server.until("played")
        (utterance,) = room.speaker.utterances
        assert utterance.stalled_seconds >= 0.1
        assert 0.1 <= utterance.max_ahead_seconds <= 0.2
        assert [layout.rate for layout in utterance.formats] == [22_050, 16_000]


async def test_without_a_speaker() -> None:
    """It asks for no speech and plays none."""
    async with dialled(has_speaker=False) as (room, server):
        await server.send_audio(bytes(3200))
        await claim(server)
        await room.wake()
        assert (await server.until("run-pipeline"))[-1].data["end_stage"] == "handle"
        assert not room.speaker.utterances


async def test_the_awake_sound_mutes_the_microphone() -> None:
    """It comes before what the server has to say, and is not `played`."""
    async with dialled(awake_seconds=1.5, speed=4) as (room, server):
        await claim(server)
        await room.wake()
        assert room.speaker.playing
        await room.say(SPEECH[:16_000])
        await server.send_audio(bytes(3200))
        events = await server.until("played") + await chunks(server, 1)
        assert "run-pipeline" in types(events)
        assert np.abs(np.frombuffer(sound(events), np.int16)).max() < 100
        (utterance,) = room.speaker.utterances
        assert utterance.seconds == 0.1


async def test_it_answers_pings_and_then_pings_itself() -> None:
    """A server that does not answer is forgotten, neither told nor hung up on; with any event, it takes it again."""
    async with dialled(ping_seconds=0.05, pong_seconds=1) as (room, server):
        await claim(server)
        for _ in range(2):
            assert (await server.until("ping"))[-1].type == "ping"
            await server.send(Pong())
        await until(lambda: not room.claimed)
        await server.until("ping")
        assert await silent(server)
        await claim(server)
        assert room.claims == 2


async def test_a_deaf_satellite_and_one_that_never_plays() -> None:
    """Neither `pong` nor `played`; all else as usual."""
    async with dialled() as (room, server):
        room.deaf = room.never_plays = True
        await server.send(Ping(), RunSatellite())
        await server.send_audio(bytes(320))
        await until(lambda: bool(room.speaker.utterances) and room.speaker.utterances[0].played_at is not None)
        await room.wake()
        assert types(await chunks(server, 2)) == ["detection", "run-pipeline", "audio-chunk"]


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


async def test_it_vanishes_and_reboots() -> None:
    """Connections are reset; while it is off nobody listens, what was playing is cut, and its port stays its own."""
    async with dialled() as (room, server):
        await claim(server)
        await room.wake()
        room.vanish()
        assert not room.claimed
        assert await closed(server)
        async with connect(room.port) as again:
            await again.send(Ping())
            await again.until("pong")
            assert not room.streaming
            await again.send_audio(bytes(64_000))
            await room.until("audio-stop")
            await room.stop()
            assert await closed(again)
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", room.port)
            await room.say(SPEECH, speed=20)
            await room.start()
        await room.reboot(0.01)
        async with connect(room.port) as at_last:
            await claim(at_last)
            (utterance,) = room.speaker.utterances
            assert utterance.played_at is None
            assert utterance.heard_seconds < 2
            assert not room.speaker.playing


@pytest.mark.parametrize("half", ["header", "payload"])
async def test_what_is_no_wyoming(half: Literal["header", "payload"]) -> None:
    """Garbage, events that mean nothing, and half an event with nothing after it."""
    async with dialled() as (room, server):
        await claim(server)
        await room.send(UNKNOWN)
        await room.send(INVALID_PIPELINE)
        unknown, pipeline = await server.until("run-pipeline")
        assert (unknown.type, unknown.payload) == ("gesture-seen", b"picture")
        with pytest.raises(ValueError, match="Invalid end stage"):
            RunPipeline.from_event(pipeline)
        await room.send_broken("garbage")
        assert await server.read() is None
        await room.send_broken(half)
        await server.send(Ping())
        await room.until("ping")
        assert await silent(server)


async def test_more_faults() -> None:
    """A flood of audio, a microphone that is dead, one that cannot be closed, one that is announced by nothing."""
    async with dialled() as (room, server):
        await claim(server)
        room.flood = room.never_stops_streaming = True
        room.send_run_pipeline = False
        await room.wake()
        loop = asyncio.get_running_loop()
        begun = loop.time()
        assert types(await chunks(server, 100)) == ["detection", "audio-chunk"]
        assert loop.time() - begun < 100 * 1024 / RATE
        await server.send(Transcript("x"), Error("x"))
        await room.until("error")
        assert room.streaming
        room.flood, room.silent_microphone = False, True
        await server.send(Ping(text="last"))
        await server.until("pong")
        assert await silent(server)
        await server.send(PauseSatellite())
        await until(lambda: not room.streaming)


async def test_one_that_belongs_to_another_server() -> None:
    """It describes itself, and hangs up on whatever else."""
    async with dialled(refuse=True) as (room, server):
        await server.send(Describe(), Describe())
        await server.until("info")
        await server.until("info")
        await server.send(RunSatellite())
        assert await closed(server)
        assert (room.refused, room.claims) == (1, 0)


async def test_what_it_remembers() -> None:
    """Every event with its time, timers apart, each for one who waits for it; what cannot be read is a problem."""
    async with dialled() as (room, server):
        await server.send(TimerStarted("t", 60), TimerStarted("u", 5), TimerFinished("t"), RunSatellite())
        assert (await room.until("run-satellite")).payload_bytes == 0
        assert (await room.until("timer-finished", "timer-started")).data["total_seconds"] == 60
        assert (await room.until("timer-started")).data["id"] == "u"
        assert [event.data["id"] for event in room.timers] == ["t", "u", "t"]
        assert [event.at for event in room.events] == sorted(event.at for event in room.events)
        with pytest.raises(TimeoutError, match=r"kitchen: no timer-started in 0\.05 s, but \['timer-started', "):
            await room.until("timer-started", seconds=0.05)
        server.writer.write(b"nonsense\n")
        assert await closed(server)
        assert room.problems == ["what cannot be read"]
        async with connect(room.port) as other:
            await other.send(Event("audio-start", {"rate": 1}))
            assert await closed(other)
        assert "KeyError" in room.problems[1]


async def test_a_house_full_of_rooms() -> None:
    """Fifty stream at once."""

    async def stream(room: ScriptedSatellite) -> None:
        async with room, connect(room.port) as server:
            await server.send(RunSatellite())
            await chunks(server, 20)

    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as rooms:
        for number in range(50):
            rooms.create_task(stream(ScriptedSatellite(mode="always", name=f"room {number}")))
