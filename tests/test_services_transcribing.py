"""`transcribe`: the end of a command, the transcript before `audio-stop`, and recordings of any length."""

import asyncio
import time
from collections import deque
from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import pytest
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioStop
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.ping import Ping

from satellite.audio.pcm import BYTES_PER_SECOND, read_wav, seconds_of
from satellite.config.loader import parse
from satellite.pipeline.long_recording import PART_SECONDS
from tests.running_daemon import DATA, RunningDaemon, lonely
from tests.test_engines_stt import words
from tests.waiting import PATIENCE_SECONDS
from tests.wyoming_client import START, Client, chunk, chunks, connect, types

pytestmark = pytest.mark.models

_CHUNK_BYTES = 2048
LIGHTS = read_wav(DATA / "commands" / "turn_on_the_lights.wav")
NABU = read_wav(DATA / "wake" / "okay_nabu.wav")


def silence(seconds: float) -> bytes:
    """Return silence."""
    return bytes(round(seconds * 16_000) * 2)


async def spoken(client: Client, pcm: bytes, *, at_once: bytes = b"", milliseconds: int = 20) -> list[Event]:
    """Send `at_once`, then `pcm` as a microphone has it, until there is a transcript; return what came by then."""
    answer = asyncio.create_task(client.until("transcript"))
    await client.send(Transcribe(language="en"), START, chunk(at_once))
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
    await client.send(*chunks(LIGHTS), AudioStop())
    assert set(types(await client.pong("last"))) <= {"transcript-stop", "pong"}


def text(events: list[Event]) -> str:
    """Return what was understood."""
    return Transcript.from_event(events[-1]).text.lower()


async def test_a_recording_that_is_handled_slower_than_it_was_spoken_is_transcribed_whole(
    daemon: RunningDaemon,
) -> None:
    async def keep_busy() -> None:
        while True:
            await daemon.daemon._workers["vad"].run(time.sleep, 0.15)

    busy = asyncio.create_task(keep_busy())
    try:
        async with connect(daemon.port()) as client:
            await client.send(Transcribe(language="en"), START)
            await client.send(*chunks(LIGHTS + silence(1.5) + LIGHTS, 3200), AudioStop())
            assert (await client.transcript()).lower().count("lights") == 2
    finally:
        busy.cancel()


async def test_a_pause_behind_the_wake_word_is_no_end(daemon: RunningDaemon) -> None:
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
    pcm = silence(lead_seconds) + LIGHTS + silence(3) + NABU + silence(2) + LIGHTS + silence(1)
    async with connect(daemon.port()) as client:
        await client.send(Transcribe(language="en"), START)
        await client.send(*chunks(pcm, size), Ping(text="sent"), AudioStop())
        before = await client.until("pong")
        assert "transcript" not in types(before)
        heard = await client.until("transcript")
        assert text(heard).count("turn on the lights") == 2
        assert set(types(await client.pong("last"))) <= {"transcript-stop", "pong"}
    await daemon.settled()


async def test_a_recording_that_nobody_stops_is_answered(daemon: RunningDaemon) -> None:
    async with connect(daemon.port()) as client:
        await client.send(Transcribe(language="en"), START, chunk(LIGHTS + silence(2)))
        assert "turn on the lights" in text(await client.until("transcript"))
        await nothing_more(client)
    await daemon.settled()


async def test_nobody_who_speaks_is_an_empty_text(daemon: RunningDaemon) -> None:
    async with connect(daemon.port()) as client:
        assert text(await spoken(client, silence(60))) == ""
        await nothing_more(client)
    await daemon.settled()


async def test_without_an_endpoint_all_is_heard_until_the_audio_stops(models_directory: Path) -> None:
    with RunningDaemon(lonely(models_directory, "stt: {own_endpoint: false}")) as running:
        async with connect(running.port()) as client:
            await client.send(Describe())
            assert Info.from_event((await client.until("info"))[-1]).asr[0].requires_external_vad
            await client.send(Transcribe(language="en"), START, chunk(LIGHTS + silence(2)))
            await client.send(Ping())
            await client.until("pong")
            await asyncio.sleep(2.5)  # for as long as the endpoint would take to believe in the end
            await client.send(Ping(), AudioStop())
            assert types(await client.until("pong")) == ["pong"]
            assert "turn on the lights" in text(await client.until("transcript"))


# Before `audio-stop`.


async def test_a_pause_is_enough_for_the_transcript(daemon: RunningDaemon) -> None:
    count = daemon.daemon._stages.speculative_transcripts
    async with connect(daemon.port()) as client, asyncio.timeout(PATIENCE_SECONDS):
        expected = await client.transcribed(LIGHTS + bytes(BYTES_PER_SECOND))
        begun, used = count.begun, count.used
        await client.send(Transcribe(), START)
        await client.send(*chunks(LIGHTS))
        while count.begun == begun:
            await client.send(chunk(bytes(_CHUNK_BYTES)))
            await asyncio.sleep(_CHUNK_BYTES / BYTES_PER_SECOND)
        await client.send(chunk(bytes(BYTES_PER_SECOND)), AudioStop())
        assert await client.transcript() == expected
        assert (count.begun, count.used) == (begun + 1, used + 1)


async def test_a_recording_that_comes_at_once_is_transcribed_once(daemon: RunningDaemon) -> None:
    count = daemon.daemon._stages.speculative_transcripts
    async with connect(daemon.port()) as client:
        begun = count.begun
        await client.transcribed((LIGHTS + bytes(BYTES_PER_SECOND)) * 3)
        assert count.begun == begun


async def test_whoever_leaves_in_a_pause_leaves_no_work_behind(daemon: RunningDaemon) -> None:
    count = daemon.daemon._stages.speculative_transcripts
    async with connect(daemon.port()) as client, asyncio.timeout(PATIENCE_SECONDS):
        begun = count.begun
        await client.send(Transcribe(), START, chunk(LIGHTS))
        while count.begun == begun:
            await client.send(chunk(bytes(_CHUNK_BYTES)))
            await asyncio.sleep(_CHUNK_BYTES / BYTES_PER_SECOND)
    await daemon.settled()


class Steady(deque[float]):
    """Times of a machine that is always fast enough, so that the test does not depend on this one."""

    def append(self, seconds: float, /) -> None:
        """Keep the one there is."""


async def test_words_come_while_somebody_speaks(models_directory: Any) -> None:
    recordings = [read_wav(wav) for wav in sorted((DATA / "commands").glob("*.wav"))]

    async def spoken(client: Client, engine: Any, pcm: bytes) -> tuple[list[Event], list[Event]]:
        """Return what came before `audio-stop` was sent, and what came then."""
        await client.send(Transcribe(language="en"), START)
        for at in range(0, len(pcm), _CHUNK_BYTES):
            await client.send(chunk(pcm[at : at + _CHUNK_BYTES]), Ping())
            partial.extend((await client.until("pong"))[:-1])
            while not engine.idle:
                await asyncio.sleep(0.005)
        await client.send(AudioStop())
        return partial, await client.until("transcript-stop")

    partial: list[Event] = []
    heard: list[Event] = []
    # Sent slower than it is spoken, by a busy machine, the recording would end at its first pause.
    with RunningDaemon(lonely(models_directory, "stt: {partials: on, own_endpoint: false}")) as running:
        engine: Any = running.daemon.engines.transcriber.engine
        engine._recent_seconds = Steady([0.01])
        async with connect(running.port()) as client:
            for first in range(0, len(recordings) - 1, 2):
                partial.clear()
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


# Long recordings.


@pytest.mark.parametrize("size", [4096, len(LIGHTS) * 7])
async def test_minutes_of_dictation_are_transcribed_whole(daemon: RunningDaemon, size: int) -> None:
    wavs = sorted((DATA / "commands").glob("*.wav"))
    pcm, said = b"", []
    while len(pcm) < 2.2 * PART_SECONDS * BYTES_PER_SECOND:
        for wav in wavs:
            pcm += read_wav(wav) + bytes(BYTES_PER_SECOND // 2)
            said += words(wav.with_suffix(".txt").read_text())
    async with connect(daemon.port()) as client:
        await client.send(Transcribe(language="en"), START)
        await client.send(*chunks(pcm, size), AudioStop())
        heard = words(await client.transcript())
        right = sum(block.size for block in SequenceMatcher(None, said, heard, autojunk=False).get_matching_blocks())
        # A part that is lost leaves little more than half; which words the small model takes for others depends on
        # where the parts meet.
        assert right > 0.7 * len(said)
        assert len(heard) < 1.2 * len(said)
        await client.until("transcript-stop")
        assert await client.transcribed(LIGHTS) == "Turn on the lights."
    await daemon.settled()


async def test_who_speaks_too_long_is_told(daemon: RunningDaemon) -> None:
    stages = daemon.daemon._stages
    config = stages.config
    short = parse("wyoming: {max_audio_seconds: 5}").wyoming
    stages.config = replace(config, wyoming=short)
    try:
        async with connect(daemon.port()) as client:
            await client.send(Transcribe(language="en"), START)
            await client.send(*chunks(LIGHTS + bytes(8 * BYTES_PER_SECOND)), AudioStop())
            events = await client.until("error")
            assert types(events) == ["transcript-start", "transcript-chunk", "transcript", "transcript-stop", "error"]
            assert "lights" in Transcript.from_event(events[2]).text
            assert events[-1].data["code"] == "stt-too-long"
            assert "5 s (wyoming.max_audio_seconds)" in events[-1].data["text"]
            assert types(await client.pong()) == ["pong"]
    finally:
        stages.config = config
    await daemon.settled()
