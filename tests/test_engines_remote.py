"""Stages on other machines: a real daemon, reached through pieces of network that fail."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event, Eventable
from wyoming.info import Info
from wyoming.wake import Detection as WyomingDetection

from satellite.audio.pcm import BYTES_PER_SECOND, AudioFormat, read_wav, to_float
from satellite.config.loader import parse
from satellite.config.settings import SttSettings, TtsSettings, WakeSettings
from satellite.engines.protocols import Detection, Transcription, VoiceChoice, WakeStream
from satellite.engines.remote.hosts import Hosts
from satellite.engines.remote.speech import RemoteSynthesizer, RemoteTranscriber
from satellite.engines.remote.wake import RemoteWakeWords
from satellite.engines.tts.level import TARGET_LUFS, loudness
from satellite.engines.tts.limiter import CEILING
from satellite.errors import SpeechToTextError, Stage, TextToSpeechError, WakeWordError
from satellite.services.info import describe
from satellite.wire import client
from satellite.wire.connection import Connection, Timeouts
from satellite.wire.server import AllowedNetworks, Server
from tests.relay import Relay
from tests.running_daemon import DATA, RunningDaemon, lonely
from tests.waiting import PATIENCE_SECONDS, until

pytestmark = pytest.mark.models

NABU = read_wav(DATA / "wake" / "okay_nabu.wav")
SPEECH = [1.0] * (len(NABU) // 1024)
SILENCE = bytes(BYTES_PER_SECOND)
CHUNK = 2560
"""An openWakeWord frame of 80 ms, bytes."""


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


@asynccontextmanager
async def two_for_wake_words(daemon: RunningDaemon) -> AsyncIterator[tuple[RemoteWakeWords, Hosts, Relay, Relay]]:
    async with two(daemon, Stage.WAKE, check_seconds=0.1, second_port="wake_port") as (hosts, first, second):
        yield RemoteWakeWords(hosts, WakeSettings()), hosts, first, second


@asynccontextmanager
async def scripted(
    stage: Stage, info: Info, after: str, *answers: Eventable
) -> AsyncIterator[tuple[Hosts, list[Event]]]:
    """Serve `stage` by a server that answers each event `after` with the next of `answers`, and lists what it gets."""
    received: list[Event] = []
    following = itertools.cycle(answers)

    async def serve(connection: Connection) -> None:
        async for event in connection:
            received.append(event)
            if event.type in ("describe", after):
                await connection.send(info if event.type == "describe" else next(following))

    server = Server(AllowedNetworks(()), Timeouts(), max_connections=9)
    port = await server.listen("127.0.0.1", 0, serve)
    try:
        hosts = Hosts(stage, [f"tcp://127.0.0.1:{port}"], 20)
        await hosts.load()
        yield hosts, received
    finally:
        await server.close()


def transcriber(hosts: Hosts) -> RemoteTranscriber:
    return RemoteTranscriber(hosts, SttSettings(language="en"))


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


async def test_speech_is_understood_elsewhere(daemon: RunningDaemon) -> None:
    async with two(daemon, Stage.STT) as (hosts, first, second):
        stt = transcriber(hosts)
        assert stt.languages == ["en"]
        heard = (await stt.transcribe(NABU, speech=SPEECH)).text
        assert "nab" in heard.lower()
        assert (await stt.transcribe(NABU, speech=[0.1] * len(SPEECH))).text == heard  # the server judges
        asked = (first.connections, second.connections)
        assert (await stt.transcribe(SILENCE, speech=SPEECH)).text == ""
        assert (first.connections, second.connections) == asked
        with pytest.raises(SpeechToTextError, check=lambda error: error.code == "stt-unsupported-language"):
            await stt.transcribe(NABU, speech=SPEECH, language="xx")
        assert hosts.summary.count("answers") == 2  # a refusal is no trouble
        await first.close()
        assert (await stt.transcribe(NABU, speech=SPEECH)).text == heard
        assert f":{first.port} nothing answers" in hosts.summary
        assert hosts.summary.endswith(f":{second.port} answers")
        await first.open()
        await until(lambda: "nothing answers" not in hosts.summary)


@pytest.mark.parametrize(("decibels", "peak"), [(-60, 0.08), (-30, 0.5), (0, None)])
async def test_quiet_speech_is_sent_louder(daemon: RunningDaemon, decibels: float, peak: float | None) -> None:
    samples = np.frombuffer(NABU, np.int16) / 32768
    quiet = np.round(samples / np.abs(samples).max() * 0.8 * 10 ** (decibels / 20) * 32768).astype(np.int16)
    info = describe(daemon.daemon.engines, frozenset({Stage.STT}))
    async with scripted(Stage.STT, info, "audio-stop", Transcript(text="Nabu.")) as (hosts, received):
        await transcriber(hosts).transcribe(quiet.tobytes(), speech=[0.0] * len(SPEECH))
    sent = np.frombuffer(b"".join(event.payload or b"" for event in received if event.type == "audio-chunk"), np.int16)
    assert len(sent) == len(quiet)
    if peak is None:
        assert np.abs(sent - (quiet - quiet.mean())).max() <= 1
    else:
        assert np.abs(sent).max() / 32768 == pytest.approx(peak, rel=0.1)


async def test_language_and_vocabulary_are_passed_on(daemon: RunningDaemon) -> None:
    answers = [Transcript(text=" Allume la lampe. ", language=language) for language in ("fr", None)]
    info = describe(daemon.daemon.engines, frozenset({Stage.STT}))
    async with scripted(Stage.STT, info, "audio-stop", *answers) as (hosts, received):
        stt = RemoteTranscriber(hosts, SttSettings(vocabulary=("Aurore",)))
        assert [
            await stt.transcribe(NABU, speech=SPEECH, vocabulary=["Nabu"]),
            await stt.transcribe(NABU, speech=SPEECH, language="de"),
        ] == [Transcription("Allume la lampe.", "fr"), Transcription("Allume la lampe.", "de")]
    asked = [Transcribe.from_event(event) for event in received if Transcribe.is_type(event.type)]
    assert [(one.language, one.transcript_names) for one in asked] == [(None, ["Nabu", "Aurore"]), ("de", ["Aurore"])]


@pytest.mark.parametrize(
    ("spoken", "asked", "heard"),
    [((), [None], "it"), (("fr",), ["fr"], "it"), (("fr", "it"), [None], "it"), (("fr", "en"), [None, "fr"], "it")],
)
async def test_a_server_may_detect_only_languages_of_the_house(
    daemon: RunningDaemon, spoken: tuple[str, ...], asked: list[str | None], heard: str
) -> None:
    info = describe(daemon.daemon.engines, frozenset({Stage.STT}))
    async with scripted(Stage.STT, info, "audio-stop", Transcript(text="La lampe.", language="it")) as (
        hosts,
        received,
    ):
        result = await RemoteTranscriber(hosts, SttSettings(), spoken).transcribe(NABU, speech=SPEECH)
    requests = [Transcribe.from_event(event).language for event in received if Transcribe.is_type(event.type)]
    assert (requests, result.language) == (asked, heard)


async def test_a_server_that_hangs_costs_its_share_of_the_time(daemon: RunningDaemon) -> None:
    async with two(daemon, Stage.STT, seconds=4) as (hosts, first, second):
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


async def test_words_are_spoken_elsewhere(daemon: RunningDaemon) -> None:
    async def whole(sound: AsyncIterator[bytes]) -> bytes:
        return b"".join([pcm async for pcm in sound])

    async with two(daemon, Stage.TTS) as (hosts, first, _second):
        tts = RemoteSynthesizer(hosts, TtsSettings())
        assert tts.voices[0].name == "en_US-joe-medium"
        speaker = await tts.speaker(VoiceChoice(language="en-GB"))
        assert speaker.format.rate == 22_050
        spoken = await whole(speaker.speak("Dinner is ready."))
        assert len(spoken) > 22_050
        await first.close()
        again = np.frombuffer(await whole(speaker.speak("Dinner is ready.")), np.int16)
        assert again == pytest.approx(np.frombuffer(spoken, np.int16), abs=40)  # windows are cut anew every time
        with pytest.raises(TextToSpeechError, check=lambda error: error.code == "tts-unknown-voice"):
            await tts.speaker(VoiceChoice("nobody"))


@pytest.mark.parametrize("level", [0.02, 0.2, 1.0])
@pytest.mark.parametrize("layout", [AudioFormat(22_050, 2, 1), AudioFormat(48_000, 2, 2), AudioFormat(16_000, 4, 1)])
async def test_the_voices_of_servers_are_as_loud_as_others(
    daemon: RunningDaemon, level: float, layout: AudioFormat
) -> None:
    seconds = np.arange(2 * layout.rate) / layout.rate
    words = level * np.sin(2 * np.pi * 300 * seconds) * (np.sin(2 * np.pi * seconds) > 0)
    words[-layout.rate // 5 :] *= 4  # a shout
    samples = np.repeat(words.clip(-1, 1), layout.channels) * (2 ** (8 * layout.width - 1) - 1)
    pcm = samples.astype(f"<i{layout.width}").tobytes()

    async def serve(connection: Connection) -> None:
        async for event in connection:
            if event.type == "describe":
                await connection.send(describe(daemon.daemon.engines, frozenset({Stage.TTS})))
            elif event.type == "synthesize":
                form = {"rate": layout.rate, "width": layout.width, "channels": layout.channels}
                await connection.send(AudioStart(**form), AudioChunk(audio=pcm, **form), AudioStop())

    server = Server(AllowedNetworks(()), Timeouts(), max_connections=9)
    try:
        hosts = Hosts(Stage.TTS, [f"tcp://127.0.0.1:{await server.listen('127.0.0.1', 0, serve)}"], 20)
        await hosts.load()
        found = []
        for volume in (1.0, 0.5):
            speaker = await RemoteSynthesizer(hosts, TtsSettings(volume=volume)).speaker(VoiceChoice())
            assert speaker.format == AudioFormat(layout.rate)
            heard = to_float(b"".join([pcm async for pcm in speaker.speak("Words.")]))
            assert np.abs(heard).max() <= CEILING + 1e-3
            found.append(loudness(heard, layout.rate))
        assert found[0] == pytest.approx(TARGET_LUFS, abs=1)
        assert found[1] == pytest.approx(TARGET_LUFS - 6, abs=1.5)
    finally:
        await server.close()


async def test_a_server_without_the_stage_is_of_no_use(daemon: RunningDaemon) -> None:
    hosts = Hosts(Stage.STT, [f"tcp://127.0.0.1:{daemon.port('tts_port')}"], 1)
    await hosts.load()
    assert hosts.summary.endswith("offers no stt")


async def test_a_wake_word_is_heard_elsewhere_by_servers_in_turn(daemon: RunningDaemon) -> None:
    async with two_for_wake_words(daemon) as (wake, _, first, second):
        assert "hey_jarvis" in {word.name for word in wake.words}
        before = (len(first._links), len(second._links))
        stream, other = await wake.stream(None), await wake.stream(None)
        await until(lambda: (len(first._links), len(second._links)) >= (before[0] + 1, before[1] + 1))
        other.close()
        (heard,) = await hear(stream, SILENCE + NABU)
        assert heard.name == "okay_nabu"
        assert 1.3 < heard.seconds < 1 + len(NABU) / BYTES_PER_SECOND
        stream.close()
        assert await stream.feed(NABU) == []
        with pytest.raises(WakeWordError, check=lambda error: error.code == "wake-unknown-word"):
            await wake.stream(["okay_nobody"])


@pytest.mark.parametrize("fault", ["close", "cut"])
async def test_the_next_server_continues(daemon: RunningDaemon, fault: str) -> None:
    async with two_for_wake_words(daemon) as (wake, hosts, first, second):
        stream = await wake.stream(None)
        assert await stream.feed(SILENCE + NABU[:16_000]) == []
        assert (first.connections > 0, second.connections > 0) == (True, True)
        if fault == "close":
            await first.close()
        else:
            first.cut()
            await until(lambda: "was silent" in hosts.summary)
        (heard,) = await hear(stream, NABU[16_000:])
        assert heard.name == "okay_nabu"
        assert hosts.trouble == ""
        stream.close()


async def test_without_a_server_there_is_no_wake_word(daemon: RunningDaemon) -> None:
    async with two_for_wake_words(daemon) as (wake, hosts, first, second):
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


@asynccontextmanager
async def heard_elsewhere(daemon: RunningDaemon, answer: Eventable) -> AsyncIterator[tuple[WakeStream, list[Event]]]:
    """Listen by a server that answers each `detect` with `answer`."""
    info = describe(daemon.daemon.engines, frozenset({Stage.WAKE}))
    async with scripted(Stage.WAKE, info, "detect", answer) as (hosts, received):
        stream = await RemoteWakeWords(hosts, WakeSettings()).stream(None)
        yield stream, received
        stream.close()


async def test_a_server_that_fails_again_and_again_is_given_up(daemon: RunningDaemon) -> None:
    async with heard_elsewhere(daemon, Error("the model is broken", code="wake-failed")) as (stream, received):
        with pytest.raises(WakeWordError, match="the model is broken"):
            for _ in range(100):
                await stream.feed(SILENCE)
        assert [event.type for event in received].count("detect") <= 2


@pytest.mark.parametrize("timestamp", [None, -1, 10**400, 60_000], ids=["none", "negative", "huge", "later"])
async def test_a_time_that_cannot_be_is_that_of_hearing(daemon: RunningDaemon, timestamp: int | None) -> None:
    async with heard_elsewhere(daemon, WyomingDetection("okay_nabu", timestamp)) as (stream, _):
        (heard,) = await hear(stream, SILENCE)
        assert heard.name == "okay_nabu"
        assert 0 < heard.seconds < 60


async def test_a_daemon_without_models_of_its_own(
    daemon: RunningDaemon, models_directory: Path, question: bytes
) -> None:
    elsewhere = "".join(f"{stage}: {{uri: '{daemon.uri}'}}\n" for stage in ("wake", "stt", "tts"))
    with RunningDaemon(lonely(models_directory, f"commands: {{enabled: false}}\n{elsewhere}")) as front:
        assert await client.detects(front.uri, NABU)
        assert not await client.detects(front.uri, SILENCE)
        asked = client.converse(front.uri, client.recording(NABU + question, realtime=True))
        heard = await asyncio.wait_for(asked, PATIENCE_SECONDS)
        assert heard.wake_word == "okay_nabu"
        assert "capital of France" in heard.transcript
        assert heard.audio_seconds > 0.5
        stages = {stage["stage"]: stage for stage in (await client.status(front.uri))["stages"]}
        for stage in ("wake", "stt", "tts"):
            assert (stages[stage]["state"], stages[stage]["device"]) == ("ready", f"{daemon.uri} answers")


def test_configured_words_are_the_servers_affair() -> None:
    assert parse("wake: {uri: 'tcp://ears:10400', words: [computer]}").wake.uri == ("tcp://ears:10400",)
