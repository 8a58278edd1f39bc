"""Stages on other machines: a real daemon, reached through pieces of network that fail."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioStop
from wyoming.event import async_read_event, async_write_event
from wyoming.pipeline import PipelineStage

from satellite.audio.pcm import read_wav
from satellite.config.loader import parse
from satellite.config.settings import SttSettings
from satellite.engines.protocols import Transcription, VoiceChoice
from satellite.engines.remote.hosts import Hosts
from satellite.engines.remote.speech import RemoteSynthesizer, RemoteTranscriber
from satellite.errors import SpeechToTextError, Stage, TextToSpeechError
from satellite.wire import client
from tests.relay import Relay
from tests.running_daemon import DATA, RunningDaemon
from tests.waiting import PATIENCE_SECONDS, until

pytestmark = pytest.mark.models

NABU = read_wav(DATA / "wake" / "okay_nabu.wav")
SPEECH = [1.0] * (len(NABU) // 1024)


@asynccontextmanager
async def two(
    daemon: RunningDaemon, stage: Stage, seconds: float = 20, check_seconds: float = 10, second_port: str = "port"
) -> AsyncIterator[tuple[Hosts, Relay, Relay]]:
    """Reach the daemon by two ways, and watch both."""
    async with Relay(daemon.port()) as first, Relay(daemon.port(second_port)) as second:
        uris = [f"tcp://127.0.0.1:{relay.port}" for relay in (first, second)]
        hosts = Hosts(stage, uris, seconds, check_seconds=check_seconds)
        await hosts.load()
        watch = asyncio.create_task(hosts.watch())
        try:
            yield hosts, first, second
        finally:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch


async def whole(sound: AsyncIterator[bytes]) -> bytes:
    """Return sound that comes in pieces, joined."""
    return b"".join([pcm async for pcm in sound])


def transcriber(hosts: Hosts) -> RemoteTranscriber:
    """Return speech to text by `hosts`."""
    return RemoteTranscriber(hosts, SttSettings(language="en"))


async def test_speech_is_understood_elsewhere(daemon: RunningDaemon) -> None:
    async with two(daemon, Stage.STT) as (hosts, first, second):
        stt = transcriber(hosts)
        assert stt.languages == ["en"]
        heard = (await stt.transcribe(NABU, speech=SPEECH)).text
        assert "nab" in heard.lower()
        asked = (first.connections, second.connections)
        assert (await stt.transcribe(NABU, speech=[0.1] * len(SPEECH))).text == ""
        assert (first.connections, second.connections) == asked
        await first.close()
        assert (await stt.transcribe(NABU, speech=SPEECH)).text == heard
        assert f":{first.port} nothing answers" in hosts.summary
        assert hosts.summary.endswith(f":{second.port} answers")
        await first.open()
        await until(lambda: "nothing answers" not in hosts.summary)


async def test_the_language_and_the_names_travel() -> None:
    asked: list[Transcribe] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (event := await async_read_event(reader)) is not None:
            if Transcribe.is_type(event.type):
                asked.append(Transcribe.from_event(event))
            elif AudioStop.is_type(event.type):
                language = "fr" if asked[-1].language is None else None
                await async_write_event(Transcript(text=" Allume la lampe. ", language=language).event(), writer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        hosts = Hosts(Stage.STT, [f"tcp://127.0.0.1:{port}"], 20)
        stt = RemoteTranscriber(hosts, SttSettings(vocabulary=("Aurore",)))
        found = await stt.transcribe(NABU, speech=SPEECH, vocabulary=["Nabu"])
        told = await stt.transcribe(NABU, speech=SPEECH, language="de")
        assert (found, told) == (
            Transcription("Allume la lampe.", "fr"),
            Transcription("Allume la lampe.", "de"),
        )
    assert [(one.language, one.transcript_names) for one in asked] == [
        (None, ["Nabu", "Aurore"]),
        ("de", ["Aurore"]),
    ]


async def test_a_server_that_hangs_costs_its_share_of_the_time(daemon: RunningDaemon) -> None:
    async with two(daemon, Stage.STT, seconds=10) as (hosts, first, second):
        stt = transcriber(hosts)
        first.cut()
        assert (await stt.transcribe(NABU, speech=SPEECH)).text
        assert "was silent" in hosts.summary
        served = second.connections
        assert (await stt.transcribe(NABU, speech=SPEECH)).text
        assert second.connections > served


async def test_when_no_server_is_left_each_is_named(daemon: RunningDaemon) -> None:
    async with two(daemon, Stage.STT) as (hosts, first, second):
        await first.close()
        await second.close()
        with pytest.raises(SpeechToTextError, match=rf":{first.port} .*:{second.port} "):
            await transcriber(hosts).transcribe(NABU, speech=SPEECH)
        late = Hosts(Stage.STT, [f"tcp://127.0.0.1:{first.port}"], 20)
        await late.load()
        assert "nothing answers" in late.summary
        await first.open()
        assert (await transcriber(late).transcribe(NABU, speech=SPEECH)).text


async def test_a_refusal_is_no_trouble(daemon: RunningDaemon) -> None:
    async with two(daemon, Stage.STT) as (hosts, _first, _second):
        with pytest.raises(SpeechToTextError) as failure:
            await transcriber(hosts).transcribe(NABU, speech=SPEECH, language="xx")
        assert failure.value.code == "stt-unsupported-language"
        assert hosts.summary.count("answers") == 2


async def test_words_are_spoken_elsewhere(daemon: RunningDaemon) -> None:
    async with two(daemon, Stage.TTS) as (hosts, first, _second):
        tts = RemoteSynthesizer(hosts, voice=None)
        assert [voice.name for voice in tts.voices] == ["en_US-joe-medium"]
        speaker = await tts.speaker(VoiceChoice(language="en-GB"))
        assert speaker.format.rate == 22_050
        spoken = await whole(speaker.speak("Dinner is ready."))
        assert len(spoken) > 22_050
        await first.close()
        again = np.frombuffer(await whole(speaker.speak("Dinner is ready.")), np.int16)
        assert again == pytest.approx(np.frombuffer(spoken, np.int16), abs=40)  # windows are cut anew every time
        with pytest.raises(TextToSpeechError) as failure:
            await tts.speaker(VoiceChoice("nobody"))
        assert failure.value.code == "tts-unknown-voice"


async def test_a_server_without_the_stage_is_of_no_use(daemon: RunningDaemon) -> None:
    hosts = Hosts(Stage.STT, [f"tcp://127.0.0.1:{daemon.port('tts_port')}"], 1)
    await hosts.load()
    assert hosts.summary.endswith("offers no stt")


async def test_a_daemon_without_models_of_its_own(
    daemon: RunningDaemon, models_directory: Path, question: bytes
) -> None:
    config = parse(
        f"models: {{directory: {models_directory}}}\nwyoming: {{host: 127.0.0.1}}\nzeroconf: {{enabled: false}}\n"
        "http: {enabled: false}\ncommands: {enabled: false}\n"
        f"stt: {{uri: '{daemon.uri}'}}\ntts: {{uri: ['{daemon.uri}']}}\n"
    )
    with RunningDaemon(config) as front:
        asked = client.converse(front.uri, client.recording(question, realtime=False), start=PipelineStage.ASR)
        heard = await asyncio.wait_for(asked, PATIENCE_SECONDS)
        assert heard.transcript == "What is the capital of France?"
        assert heard.audio_seconds > 0.5
        stages = {stage["stage"]: stage for stage in (await client.status(front.uri))["stages"]}
        assert stages["stt"]["device"] == f"{daemon.uri} answers"
        assert stages["tts"]["state"] == "ready"
