"""`transcribe` finds the end of a command in sound that comes as it is spoken, and in no recording sent at once."""

import asyncio
import time
from pathlib import Path

import pytest
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.ping import Ping

from satellite.audio.pcm import BYTES_PER_SECOND, read_wav, seconds_of
from satellite.config.loader import parse
from tests.running_daemon import DATA, RunningDaemon
from tests.wyoming_client import Client, connect, types

pytestmark = pytest.mark.models

LIGHTS = read_wav(DATA / "commands" / "turn_on_the_lights.wav")
NABU = read_wav(DATA / "wake" / "okay_nabu.wav")


def silence(seconds: float) -> bytes:
    """Return silence."""
    return bytes(round(seconds * 16_000) * 2)


def chunk(pcm: bytes) -> AudioChunk:
    """Return an event with audio."""
    return AudioChunk(rate=16000, width=2, channels=1, audio=pcm)


async def spoken(client: Client, pcm: bytes, *, at_once: bytes = b"", milliseconds: int = 20) -> list[Event]:
    """Send `at_once`, then `pcm` as a microphone has it, until there is a transcript; return what came by then."""
    answer = asyncio.create_task(client.until("transcript"))
    await client.send(Transcribe(language="en"), AudioStart(16000, 2, 1), chunk(at_once))
    began = time.monotonic()
    size = milliseconds * 32
    for at in range(0, len(pcm), size):
        piece = pcm[at : at + size]
        await asyncio.wait([answer], timeout=max(0.0, began + seconds_of(pcm[:at] + piece) - time.monotonic()))
        if answer.done():
            return answer.result()
        await client.send(chunk(piece))
    pytest.fail("no end was found in the silence behind the command")


async def nothing_more(client: Client) -> None:
    """Go on as a client that stops only when it likes; there is no other answer."""
    await client.send(*[chunk(LIGHTS[at : at + 2048]) for at in range(0, len(LIGHTS), 2048)])
    await client.send(AudioStop(), Ping(text="last"))
    assert set(types(await client.until("pong"))) <= {"transcript-stop", "pong"}


def text(events: list[Event]) -> str:
    """Return what was understood."""
    return Transcript.from_event(events[-1]).text.lower()


async def test_a_pause_behind_the_wake_word_is_no_end(daemon: RunningDaemon) -> None:
    """However long somebody thinks, up to 2.5 s, the command is understood, and answered before the audio stops."""

    async def one(pause_seconds: float) -> None:
        async with connect(daemon.port()) as client:
            # Home Assistant sends what it has heard since the wake word at once, and the rest as it comes.
            rest = NABU[-BYTES_PER_SECOND // 4 :] + silence(pause_seconds)
            begun = BYTES_PER_SECOND // 2
            heard = await spoken(client, rest[begun:] + LIGHTS + silence(60), at_once=rest[:begun])
            assert text(heard).strip(".") == "turn on the lights"
            await nothing_more(client)

    await asyncio.gather(*(one(pause) for pause in (0, 0.3, 0.5, 1.0, 1.5, 2.0, 2.5)))
    await daemon.settled()


@pytest.mark.parametrize("port", ["port", "stt_port"])
@pytest.mark.parametrize("milliseconds", [10, 64, 1000])
async def test_a_command_ends_in_its_silence(daemon: RunningDaemon, port: str, milliseconds: int) -> None:
    """No VAD of the client's is asked for, whatever the size of its chunks; a second command may follow."""
    async with connect(daemon.port(port)) as client:
        for _ in range(2):
            heard = await spoken(client, LIGHTS + silence(60), milliseconds=milliseconds)
            assert text(heard).strip(".") == "turn on the lights"
            await nothing_more(client)
        await client.send(Describe())
        info = Info.from_event((await client.until("info"))[-1])
        assert not info.asr[0].requires_external_vad
    await daemon.settled()


@pytest.mark.parametrize("size", [640, 2048, 48_000, 10_000_000])
@pytest.mark.parametrize("lead_seconds", [0.0, 6.0])
async def test_a_recording_is_transcribed_whole(daemon: RunningDaemon, size: int, lead_seconds: float) -> None:
    """Long pauses in it end nothing, nor does silence in front, if it is sent at once, in chunks of whatever size."""
    pcm = silence(lead_seconds) + LIGHTS + silence(3) + NABU + silence(2) + LIGHTS + silence(1)
    async with connect(daemon.port()) as client:
        await client.send(Transcribe(language="en"), AudioStart(16000, 2, 1))
        await client.send(*[chunk(pcm[at : at + size]) for at in range(0, len(pcm), size)])
        await client.send(Ping(text="sent"), AudioStop())
        before = await client.until("pong")
        assert "transcript" not in types(before)
        heard = await client.until("transcript")
        assert text(heard).count("turn on the lights") == 2
        await client.send(Ping(text="last"))
        assert set(types(await client.until("pong"))) <= {"transcript-stop", "pong"}
    await daemon.settled()


async def test_a_recording_that_nobody_stops_is_answered(daemon: RunningDaemon) -> None:
    """Once nothing more has come for two seconds, the silence at its end is one."""
    async with connect(daemon.port()) as client:
        await client.send(Transcribe(language="en"), AudioStart(16000, 2, 1), chunk(LIGHTS + silence(2)))
        assert "turn on the lights" in text(await client.until("transcript"))
        await nothing_more(client)
    await daemon.settled()


async def test_nobody_who_speaks_is_an_empty_text(daemon: RunningDaemon) -> None:
    """After five seconds: a microphone that somebody has opened for nothing is closed."""
    async with connect(daemon.port()) as client:
        assert text(await spoken(client, silence(60))) == ""
        await nothing_more(client)
    await daemon.settled()


async def test_without_an_endpoint_all_is_heard_until_the_audio_stops(models_directory: Path) -> None:
    """With `own_endpoint: false` the client finds the end, and is asked to."""
    config = parse(
        f"models: {{directory: {models_directory}}}\nzeroconf: {{enabled: false}}\n"
        "wyoming: {host: 127.0.0.1}\nstt: {own_endpoint: false}"
    )
    with RunningDaemon(config) as running:
        async with connect(running.port()) as client:
            await client.send(Describe())
            assert Info.from_event((await client.until("info"))[-1]).asr[0].requires_external_vad
            await client.send(Transcribe(language="en"), AudioStart(16000, 2, 1), chunk(LIGHTS + silence(2)))
            await client.send(Ping())
            await client.until("pong")
            await asyncio.sleep(2.5)  # for as long as the endpoint would take to believe in the end
            await client.send(Ping(), AudioStop())
            assert types(await client.until("pong")) == ["pong"]
            assert "turn on the lights" in text(await client.until("transcript"))
