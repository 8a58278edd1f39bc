"""`transcribe`: the end of a command, the transcript before `audio-stop`, and recordings of any length."""

import asyncio
import time
from collections import deque
from difflib import SequenceMatcher
from typing import Any

import pytest
from wyoming.asr import Transcribe
from wyoming.audio import AudioStop
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.ping import Ping

from satellite.audio.pcm import BYTES_PER_SECOND, read_wav
from satellite.pipeline.long_recording import PART_SECONDS
from satellite.pipeline.transcripts import SpeculationCount
from tests.running_daemon import DATA, RunningDaemon
from tests.test_engines_stt import words
from tests.waiting import PATIENCE_SECONDS, until
from tests.wyoming_client import START, Client, chunk, chunks, connect, types

pytestmark = pytest.mark.models

_CHUNK_BYTES = 2048
LIGHTS = read_wav(DATA / "commands" / "turn_on_the_lights.wav")
NABU = read_wav(DATA / "wake" / "okay_nabu.wav")


def silence(seconds: float) -> bytes:
    return bytes(round(seconds * 16_000) * 2)


async def spoken(client: Client, pcm: bytes, *, at_once: bytes = b"", milliseconds: int = 20) -> str:
    """Send `at_once`, then `pcm` as a microphone has it, until there is a transcript; return its text."""
    answer = asyncio.create_task(client.transcript())
    await client.send(Transcribe(language="en"), START, chunk(at_once))
    began = time.monotonic()
    for number, piece in enumerate(chunks(pcm, milliseconds * 32), 1):
        await asyncio.wait([answer], timeout=max(0.0, began + number * milliseconds / 1000 - time.monotonic()))
        if answer.done():
            return answer.result().lower()
        await client.send(piece)
    pytest.fail("no end was found in the silence after the command")


async def until_speculation(client: Client, count: SpeculationCount) -> None:
    """Say a command and pause until it is transcribed speculatively."""
    begun = count.begun
    await client.send(Transcribe(), START, *chunks(LIGHTS))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while count.begun == begun:
            await client.send(chunk(bytes(_CHUNK_BYTES)))
            await asyncio.sleep(_CHUNK_BYTES / BYTES_PER_SECOND)


async def nothing_more(client: Client) -> None:
    """Go on as a client that stops only when it likes; there is no other answer."""
    await client.send(*chunks(LIGHTS), AudioStop())
    assert set(types(await client.pong("last"))) <= {"transcript-stop", "pong"}


async def own_endpoint(client: Client) -> bool:
    await client.send(Describe())
    return not Info.from_event((await client.until("info"))[-1]).asr[0].requires_external_vad


async def test_a_recording_that_comes_in_slowly_is_transcribed_whole(daemon: RunningDaemon) -> None:
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


async def test_a_pause_after_the_wake_word_is_no_end(daemon: RunningDaemon) -> None:
    async def one(pause_seconds: float) -> None:
        async with connect(daemon.port()) as client:
            # Home Assistant sends what it has heard since the wake word at once, and the rest as it comes.
            rest = NABU[-BYTES_PER_SECOND // 4 :] + silence(pause_seconds)
            begun = BYTES_PER_SECOND // 2
            heard = await spoken(client, rest[begun:] + LIGHTS + silence(60), at_once=rest[:begun], milliseconds=64)
            assert heard.strip(".") == "turn on the lights"
            await nothing_more(client)

    await asyncio.gather(*(one(pause) for pause in (0, 0.5, 1.0, 1.5, 2.5)))
    await daemon.settled()


@pytest.mark.parametrize(("port", "milliseconds"), [("port", 10), ("stt_port", 64), ("port", 1000)])
async def test_a_command_ends_in_its_silence(daemon: RunningDaemon, port: str, milliseconds: int) -> None:
    async with connect(daemon.port(port)) as client:
        for _ in range(2):
            heard = await spoken(client, LIGHTS + silence(60), milliseconds=milliseconds)
            assert heard.strip(".") == "turn on the lights"
            await nothing_more(client)
        assert await own_endpoint(client)
    await daemon.settled()


@pytest.mark.parametrize(("size", "lead_seconds"), [(640, 0.0), (2048, 6.0), (48_000, 0.0), (10_000_000, 6.0)])
async def test_a_recording_is_transcribed_whole(daemon: RunningDaemon, size: int, lead_seconds: float) -> None:
    pcm = silence(lead_seconds) + LIGHTS + silence(3) + NABU + silence(2) + LIGHTS + silence(1)
    async with connect(daemon.port()) as client:
        await client.send(Transcribe(language="en"), START)
        await client.send(*chunks(pcm, size), Ping(text="sent"), AudioStop())
        assert "transcript" not in types(await client.until("pong"))
        assert (await client.transcript()).lower().count("turn on the lights") == 2
        assert set(types(await client.pong("last"))) <= {"transcript-stop", "pong"}
    await daemon.settled()


async def test_a_recording_that_nobody_stops_is_answered_and_so_is_silence(daemon: RunningDaemon) -> None:
    async with connect(daemon.port()) as client:
        await client.send(Transcribe(language="en"), START, chunk(LIGHTS + silence(2)))
        assert await client.transcript() == "Turn on the lights."
        await nothing_more(client)
        assert await spoken(client, silence(60)) == ""
        await nothing_more(client)
    await daemon.settled()


async def test_without_an_endpoint_all_is_heard_until_the_audio_stops(daemon: RunningDaemon) -> None:
    with daemon.configured("stt", own_endpoint=False):
        async with connect(daemon.port()) as client:
            assert not await own_endpoint(client)
            await client.send(Transcribe(language="en"), START, chunk(LIGHTS + silence(2)))
            await client.pong()
            await asyncio.sleep(2.5)  # for as long as the endpoint would take to believe in the end
            assert types(await client.pong()) == ["pong"]
            await client.send(AudioStop())
            assert await client.transcript() == "Turn on the lights."


# Before `audio-stop`.


async def test_a_pause_is_enough_for_the_transcript(daemon: RunningDaemon) -> None:
    count = daemon.daemon._stages.speculative_transcripts
    async with connect(daemon.port()) as client:
        begun, used = count.begun, count.used
        # What comes at once is transcribed once.
        expected = await client.transcribed(LIGHTS + silence(1))
        await client.transcribed((LIGHTS + silence(1)) * 3)
        assert (count.begun, count.used) == (begun, used)
        await until_speculation(client, count)
        await client.send(chunk(silence(1)), AudioStop())
        assert await client.transcript() == expected
        assert (count.begun, count.used) == (begun + 1, used + 1)


async def test_a_client_that_leaves_in_a_pause_leaves_no_work(daemon: RunningDaemon) -> None:
    async with connect(daemon.port()) as client:
        await until_speculation(client, daemon.daemon._stages.speculative_transcripts)
    await daemon.settled()


class Steady(deque[float]):
    """Times of a machine that is always fast enough, so that the test does not depend on this one."""

    def append(self, seconds: float, /) -> None:
        return


async def test_words_come_while_somebody_speaks(daemon: RunningDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    engine: Any = daemon.daemon.engines.transcriber.engine
    monkeypatch.setattr(engine, "_recent_seconds", Steady([0.01]))
    first, second, third, fourth, *_ = [read_wav(wav) for wav in sorted((DATA / "commands").glob("*.wav"))]
    partial: list[Event] = []
    # Sent slower than it is spoken, by a busy machine, the recording would end at its first pause.
    with daemon.configured("stt", partials=True, own_endpoint=False):
        async with connect(daemon.port()) as client:
            for pcm in (first + second, third + fourth):
                before: list[Event] = []
                await client.send(Transcribe(language="en"), START)
                for piece in chunks(pcm):
                    await client.send(piece)
                    before += (await client.pong())[:-1]
                    await until(lambda: not any(worker.pending for worker in daemon.daemon._workers.values()))
                await client.send(AudioStop())
                after = await client.until("transcript-stop")
                assert types(before)[:1] in ([], ["transcript-start"])
                assert types(after)[-3:] == ["transcript-chunk", "transcript", "transcript-stop"]
                *begun, transcript, _ = before + after
                last = max(at for at, event in enumerate(begun) if event.type == "transcript-start")
                assert "".join(event.data["text"] for event in begun[last + 1 :]) == transcript.data["text"]
                partial += before
    assert "transcript-chunk" in types(partial)


# Long recordings.


async def test_minutes_of_dictation_are_transcribed_whole(daemon: RunningDaemon) -> None:
    wavs = sorted((DATA / "commands").glob("*.wav"))
    pcm, said = b"", []
    while len(pcm) < 1.6 * PART_SECONDS * BYTES_PER_SECOND:
        for wav in wavs:
            pcm += read_wav(wav) + bytes(BYTES_PER_SECOND // 2)
            said += words(wav.with_suffix(".txt").read_text())
    async with connect(daemon.port()) as client:
        await client.send(Transcribe(language="en"), START)
        await client.send(*chunks(pcm, len(LIGHTS) * 7), AudioStop())
        heard = words(await client.transcript())
        right = sum(block.size for block in SequenceMatcher(None, said, heard, autojunk=False).get_matching_blocks())
        # The second part is more than a third of it; which words the small model takes for others depends on
        # where the parts meet.
        assert right > 0.7 * len(said)
        assert len(heard) < 1.2 * len(said)
        await client.until("transcript-stop")
        assert await client.transcribed(LIGHTS) == "Turn on the lights."
    await daemon.settled()


async def test_what_is_spoken_too_long_is_an_error(daemon: RunningDaemon) -> None:
    with daemon.configured("wyoming", max_audio_seconds=5):
        async with connect(daemon.port()) as client:
            await client.send(Transcribe(language="en"), START)
            await client.send(*chunks(LIGHTS + bytes(8 * BYTES_PER_SECOND)), AudioStop())
            events = await client.until("error")
            assert types(events) == ["transcript-start", "transcript-chunk", "transcript", "transcript-stop", "error"]
            assert events[2].data["text"] == "Turn on the lights."
            assert events[-1].data["code"] == "stt-too-long"
            assert "5 s (wyoming.max_audio_seconds)" in events[-1].data["text"]
            assert types(await client.pong()) == ["pong"]
    await daemon.settled()
