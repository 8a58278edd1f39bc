"""Wake words heard by other machines: a real daemon, reached through pieces of network that fail."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from wyoming.error import Error
from wyoming.event import Event, Eventable
from wyoming.wake import Detect
from wyoming.wake import Detection as WyomingDetection

from satellite.audio.pcm import BYTES_PER_SECOND, read_wav
from satellite.config.loader import parse
from satellite.config.settings import WakeSettings
from satellite.engines.protocols import Detection, WakeStream
from satellite.engines.remote.hosts import Hosts
from satellite.engines.remote.wake import RemoteWakeWords
from satellite.errors import Stage, WakeWordError
from satellite.services.info import describe
from satellite.wire import client
from satellite.wire.connection import Connection, Timeouts
from satellite.wire.server import AllowedNetworks, Server
from tests.relay import Relay
from tests.running_daemon import DATA, RunningDaemon
from tests.test_engines_remote import two
from tests.waiting import PATIENCE_SECONDS, until

pytestmark = pytest.mark.models

NABU = read_wav(DATA / "wake" / "okay_nabu.wav")
SILENCE = bytes(BYTES_PER_SECOND)
CHUNK = 2560
"""An openWakeWord frame of 80 ms, bytes."""


@asynccontextmanager
async def wake_words(daemon: RunningDaemon) -> AsyncIterator[tuple[RemoteWakeWords, Hosts, Relay, Relay]]:
    """Reach the daemon by two ways."""
    async with two(daemon, Stage.WAKE, check_seconds=0.1, second_port="wake_port") as (hosts, first, second):
        yield RemoteWakeWords(hosts, WakeSettings()), hosts, first, second


async def hear(stream: WakeStream, pcm: bytes) -> list[Detection]:
    """Return what is heard in `pcm`, chunk by chunk, the answers of a busy machine awaited."""
    found = []
    for at in range(0, len(pcm), CHUNK):
        found += await stream.feed(pcm[at : at + CHUNK])
    for _ in range(50):
        if found:
            break
        found += await stream.feed(bytes(CHUNK))
    return found


async def test_a_wake_word_is_heard_elsewhere(daemon: RunningDaemon) -> None:
    async with wake_words(daemon) as (wake, _, _, _):
        assert "hey_jarvis" in {word.name for word in wake.words}
        stream = await wake.stream(None)
        (heard,) = await hear(stream, SILENCE + NABU)
        assert heard.name == "okay_nabu"
        assert 1.3 < heard.seconds < 1 + len(NABU) / BYTES_PER_SECOND
        stream.close()
        assert await stream.feed(NABU) == []
        with pytest.raises(WakeWordError) as failure:
            await wake.stream(["okay_nobody"])
        assert failure.value.code == "wake-unknown-word"


async def test_the_next_server_goes_on(daemon: RunningDaemon) -> None:
    for fault in (Relay.close, Relay.cut):
        async with wake_words(daemon) as (wake, hosts, first, second):
            stream = await wake.stream(None)
            assert await stream.feed(SILENCE + NABU[: 16_000 * 2 // 4 * 2]) == []
            assert (first.connections > 0, second.connections > 0) == (True, True)
            if fault is Relay.close:
                await first.close()
            else:
                first.cut()
                await until(lambda: "was silent" in hosts.summary)
            (heard,) = await hear(stream, NABU[16_000 * 2 // 4 * 2 :])
            assert heard.name == "okay_nabu"
            assert hosts.trouble == ""
            stream.close()


async def test_without_a_server_there_is_no_wake_word(daemon: RunningDaemon) -> None:
    async with wake_words(daemon) as (wake, hosts, first, second):
        stream = await wake.stream(None)
        await first.close()
        await second.close()
        await until(lambda: bool(hosts.trouble))
        with pytest.raises(WakeWordError, match=rf":{first.port} .*:{second.port} "):
            await stream.feed(SILENCE)
        stream.close()
        assert f":{second.port} nothing answers" in hosts.trouble
        await second.open()
        await until(lambda: not hosts.trouble)
        stream = await wake.stream(None)
        assert await hear(stream, NABU)
        stream.close()


async def test_streams_are_spread(daemon: RunningDaemon) -> None:
    async with wake_words(daemon) as (wake, _, first, second):
        before = (len(first._links), len(second._links))
        streams = [await wake.stream(None) for _ in range(2)]
        await until(lambda: (len(first._links), len(second._links)) >= (before[0] + 1, before[1] + 1))
        for stream in streams:
            stream.close()


@asynccontextmanager
async def heard_elsewhere(daemon: RunningDaemon, answer: Eventable) -> AsyncIterator[tuple[WakeStream, list[Event]]]:
    """Listen by a server that answers each `detect` with `answer`, and list these."""
    asked: list[Event] = []

    async def serve(connection: Connection) -> None:
        async for event in connection:
            if event.type == "describe":
                await connection.send(describe(daemon.daemon.engines, frozenset({Stage.WAKE})))
            elif Detect.is_type(event.type):
                asked.append(event)
                await connection.send(answer)

    server = Server(AllowedNetworks(()), Timeouts(), max_connections=9)
    port = await server.listen("127.0.0.1", 0, serve)
    try:
        hosts = Hosts(Stage.WAKE, [f"tcp://127.0.0.1:{port}"], 20)
        await hosts.load()
        stream = await RemoteWakeWords(hosts, WakeSettings()).stream(None)
        yield stream, asked
        stream.close()
    finally:
        await server.close()


async def test_a_server_that_fails_again_and_again_is_no_endless_loop(daemon: RunningDaemon) -> None:
    async with heard_elsewhere(daemon, Error("the model is broken", code="wake-failed")) as (stream, asked):
        with pytest.raises(WakeWordError, match="the model is broken"):
            for _ in range(100):
                await stream.feed(SILENCE)
        assert len(asked) <= 2


@pytest.mark.parametrize("timestamp", [None, -1, 10**400, 60_000])
async def test_a_time_that_cannot_be_is_that_of_hearing(daemon: RunningDaemon, timestamp: int | None) -> None:
    async with heard_elsewhere(daemon, WyomingDetection("okay_nabu", timestamp)) as (stream, _):
        (heard,) = await hear(stream, SILENCE)
        assert heard.name == "okay_nabu"
        assert 0 < heard.seconds < 60


async def test_a_daemon_that_hears_by_another_one(
    daemon: RunningDaemon, models_directory: Path, question: bytes
) -> None:
    config = parse(
        f"models: {{directory: {models_directory}}}\nwyoming: {{host: 127.0.0.1}}\nzeroconf: {{enabled: false}}\n"
        f"http: {{enabled: false}}\nwake: {{uri: '{daemon.uri}'}}\nstt: {{uri: '{daemon.uri}'}}\n"
        f"tts: {{uri: '{daemon.uri}'}}\n"
    )
    with RunningDaemon(config) as front:
        assert await client.detects(front.uri, NABU)
        assert not await client.detects(front.uri, SILENCE)
        asked = client.converse(front.uri, client.recording(NABU + question, realtime=True))
        heard = await asyncio.wait_for(asked, PATIENCE_SECONDS)
        assert heard.wake_word == "okay_nabu"
        assert "capital of France" in heard.transcript
        stages = {stage["stage"]: stage for stage in (await client.status(front.uri))["stages"]}
        assert stages["wake"]["state"] == "ready"
        assert stages["wake"]["device"] == f"{daemon.uri} answers"


def test_configured_words_are_the_servers_affair() -> None:
    config = parse("wake: {uri: 'tcp://ears:10400', words: [computer]}")
    assert config.wake.uri == ("tcp://ears:10400",)
