"""Every Wyoming flow against a real daemon, as Home Assistant and other clients use it."""

import asyncio
import wave
from dataclasses import replace
from pathlib import Path

import pytest
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.event import Event, Eventable
from wyoming.handle import Handled
from wyoming.info import Describe, Info, SelectProgram
from wyoming.intent import Intent
from wyoming.tts import Synthesize, SynthesizeChunk, SynthesizeStart, SynthesizeStop, SynthesizeVoice
from wyoming.wake import Detect, Detection

from satellite.audio.pcm import BYTES_PER_SECOND, read_wav
from tests.running_daemon import DATA, RunningDaemon
from tests.wyoming_client import START, Client, chunks, connect, sound, types

pytestmark = pytest.mark.models

LIGHTS = read_wav(DATA / "commands" / "turn_on_the_lights.wav")
NABU = read_wav(DATA / "wake" / "okay_nabu.wav")
JARVIS = read_wav(DATA / "wake" / "hey_jarvis.wav")
OTHER = read_wav(DATA / "wake" / "not_a_wake_word_computer.wav")
SPOKEN = ["audio-start", "audio-chunk", "audio-stop"]


async def described(port: int) -> Info:
    async with connect(port) as client:
        await client.send(Describe())
        return Info.from_event((await client.until("info"))[-1])


async def detected(client: Client) -> Detection:
    return Detection.from_event((await client.until("detection"))[-1])


async def test_one_port_offers_everything(daemon: RunningDaemon) -> None:
    info = await described(daemon.port())
    programs = [*info.asr, *info.tts, *info.wake, *info.handle]
    assert [program.name for program in programs] == ["satellite"] * 3 + ["microwakeword", "satellite"]
    assert {(program.installed, program.attribution.name) for program in programs} == {(True, "satellite")}
    assert (info.intent, info.satellite) == ([], None)
    (asr,), (tts,), (handle,) = info.asr, info.tts, info.handle
    assert (asr.requires_external_vad, asr.supports_transcript_streaming) == (False, True)
    assert asr.models[0].languages == ["en"]
    assert (tts.voices[0].name, tts.supports_synthesize_streaming) == ("en_US-joe-medium", True)
    assert (handle.supports_handled_streaming, handle.supports_home_control) == (True, False)
    assert [model.name for model in handle.models] == [daemon.daemon.config.chat.providers[0].model]
    assert "okay_nabu" in [model.name for model in info.wake[0].models]


@pytest.mark.parametrize(
    ("port", "domain"), [("stt_port", "asr"), ("tts_port", "tts"), ("wake_port", "wake"), ("handle_port", "handle")]
)
async def test_each_stage_has_a_port_of_its_own(daemon: RunningDaemon, port: str, domain: str) -> None:
    info = await described(daemon.port(port))
    assert [name for name in ("asr", "tts", "wake", "handle") if getattr(info, name)] == [domain]


@pytest.mark.parametrize("port", ["port", "stt_port"])
async def test_speech_to_text(daemon: RunningDaemon, port: str) -> None:
    async with connect(daemon.port(port)) as client:
        await client.send(Transcribe(language="en", context={"id": 7}))
        await client.send_audio(LIGHTS)
        events = await client.until("transcript-stop")
        assert types(events) == ["transcript-start", "transcript-chunk", "transcript", "transcript-stop"]
        assert Transcript.from_event(events[2]) == Transcript("Turn on the lights.", {"id": 7}, "en")
        await client.send_audio(bytes(BYTES_PER_SECOND))
        assert await client.transcript() == ""


async def test_audio_without_start_and_without_request_is_transcribed(daemon: RunningDaemon) -> None:
    async with connect(daemon.port("stt_port")) as client:
        await client.send(*chunks(LIGHTS, 3000), AudioStop())
        assert "lights" in await client.transcript()


async def test_any_audio_format_is_converted(daemon: RunningDaemon) -> None:
    with wave.open(str(DATA / "other" / "turn_on_the_living_room_lamp_44k_stereo.wav")) as wav:
        raw = wav.readframes(wav.getnframes())
    async with connect(daemon.port()) as client:
        await client.send(Transcribe())
        await client.send_audio(raw, rate=44100, channels=2)
        assert "living room lamp" in await client.transcript()


@pytest.mark.parametrize("port", ["port", "tts_port"])
async def test_text_to_speech(daemon: RunningDaemon, port: str) -> None:
    async with connect(daemon.port(port)) as client:
        await client.send(Synthesize(text="The lights are on. It is eight o'clock."))
        events = await client.until("audio-stop")
        assert types(events) == SPOKEN
        shapes = {(e.data["rate"], e.data["width"], e.data["channels"]) for e in events if e.type != "audio-stop"}
        assert shapes == {(22050, 2, 1)}
        assert 1.5 < len(sound(events)) / 44100 < 6


async def test_streamed_text_to_speech(daemon: RunningDaemon) -> None:
    async with connect(daemon.port()) as client:
        await client.send(SynthesizeStart(voice=SynthesizeVoice(name="en_US-joe-medium")))
        await client.send(SynthesizeChunk(text="The lights in the kitchen, "), SynthesizeChunk(text="are on"))
        events = await client.until("audio-chunk")
        await client.send(SynthesizeChunk(text=" now."), Synthesize(text="The lights in the kitchen, are on now."))
        await client.send(SynthesizeStop())
        events += await client.until("synthesize-stopped")
        assert types(events) == [*SPOKEN, "synthesize-stopped"]
        assert 1.0 < len(sound(events)) / 44100 < 4.5
        await client.send(Synthesize(text="Good."))
        assert types(await client.until("audio-stop")) == SPOKEN


@pytest.mark.parametrize("text", ["", "🎉", "\n", "...", "   "])
async def test_empty_text_is_silence(daemon: RunningDaemon, text: str) -> None:
    async with connect(daemon.port()) as client:
        await client.send(Synthesize(text=text), SynthesizeStart(), SynthesizeChunk(text=text), SynthesizeStop())
        events = await client.until("synthesize-stopped")
        assert types(events) == [*SPOKEN, *SPOKEN, "synthesize-stopped"]
        assert sound(events) == bytes(2 * 2 * 2205)


async def test_a_stream_of_text_with_an_unknown_voice_ends_after_its_error(daemon: RunningDaemon) -> None:
    voice = SynthesizeVoice(name="en_US-jo-medium")
    async with connect(daemon.port()) as client:
        await client.send(SynthesizeStart(voice=voice), SynthesizeChunk(text="Hello"), SynthesizeStop())
        assert types(await client.until("synthesize-stopped")) == ["error", "synthesize-stopped"]


@pytest.mark.parametrize("port", ["port", "wake_port"])
async def test_wake_word(daemon: RunningDaemon, port: str) -> None:
    async with connect(daemon.port(port)) as client:
        await client.send(Detect(names=["okay_nabu"], context={"room": "kitchen"}))
        await client.send_audio(NABU + bytes(BYTES_PER_SECOND))
        detection = await detected(client)
        assert (detection.name, detection.context) == ("okay_nabu", {"room": "kitchen"})
        assert detection.timestamp is not None
        assert 300 < detection.timestamp < 2500
        await client.send_audio(OTHER)
        assert types(await client.until("not-detected")) == ["not-detected"]
        await client.send(Detect(names=["hey_jarvis", "alexa"]))
        await client.send_audio(JARVIS)
        assert (await detected(client)).name == "hey_jarvis"


async def test_timestamps_follow_the_clients_clock(daemon: RunningDaemon) -> None:
    async with connect(daemon.port("wake_port")) as client:
        await client.send(Detect(names=["okay_nabu"]), AudioStart(16000, 2, 1, timestamp=1_000_000))
        for at, chunk in enumerate(chunks(NABU, 2560)):
            await client.send(AudioChunk(16000, 2, 1, chunk.audio, timestamp=1_000_000 + 80 * at))
        timestamp = (await detected(client)).timestamp
        assert timestamp is not None
        assert 1_000_300 < timestamp < 1_002_500


async def test_programs_can_be_selected(daemon: RunningDaemon) -> None:
    async with connect(daemon.port()) as client:
        await client.send(SelectProgram(name="microwakeword"), Detect(names=["okay_nabu"]))
        await client.send_audio(NABU + bytes(BYTES_PER_SECOND))
        assert (await detected(client)).name == "okay_nabu"
        await client.send(Detect(names=["hey_rhasspy"]), START)
        error = (await client.until("error"))[-1].data
        assert error["code"] == "wake-unknown-word"
        assert "did you mean" in error["text"]
        for name in ("satellite", "openwakeword", "faster-whisper", "piper"):
            word = "hey_rhasspy" if name == "satellite" else "okay_nabu"
            await client.send(SelectProgram(name="microwakeword"), SelectProgram(name=name), Detect(names=[word]))
            await client.send_audio(OTHER)
            assert types(await client.until("not-detected", "error")) == ["not-detected"]


@pytest.mark.parametrize("port", ["port", "handle_port"])
async def test_conversation(daemon: RunningDaemon, port: str) -> None:
    async with connect(daemon.port(port)) as client:
        context = {"conversation_id": "abc"}
        await client.send(Transcript(text="What is the capital of France?", language="en", context=context))
        events = await client.until("handled-stop")
        pieces = [event.data["text"] for event in events if event.type == "handled-chunk"]
        assert types(events) == ["handled-start", *["handled-chunk"] * len(pieces), "handled", "handled-stop"]
        handled = Handled.from_event(events[-2])
        assert handled.text == "".join(pieces).strip()
        assert "Paris" in handled.text
        assert len(pieces) > 3
        assert handled.context is not None
        assert handled.context.items() >= {"conversation_id": "abc", "provider": "local"}.items()
        assert handled.context["first_token_ms"] > 0


async def test_an_intent_is_taken_by_its_text(daemon: RunningDaemon) -> None:
    async with connect(daemon.port()) as client:
        await client.send(Intent(name="Ask", text="What is the capital of France?"))
        assert "Paris" in (await client.until("handled-stop"))[-2].data["text"]
        await client.send(Intent(name="Ask"), Event(type="transcript", data={"text": None}))
        for _ in range(2):
            assert types(await client.until("not-handled")) == ["not-handled"]


@pytest.mark.parametrize(
    ("port", "sent"),
    [
        ("tts_port", ["from-the-future", "detect"]),
        ("port", ["voice-started", "run-satellite", "pause-satellite"]),
        ("port", ["info", "handled", "detection", "transcript-start", "synthesize-stopped", "pong", "error"]),
    ],
    ids=["of a newer protocol or another port", "for satellites", "of servers"],
)
async def test_events_for_others_are_ignored(daemon: RunningDaemon, port: str, sent: list[str]) -> None:
    async with connect(daemon.port(port)) as client:
        await client.send(*(Event(type_, {"text": "x"}, b"x") for type_ in sent))
        assert types(await client.pong()) == ["pong"]


@pytest.mark.parametrize(
    ("code", "sent"),
    [
        ("stt-unsupported-language", [Transcribe(language="fr"), *chunks(LIGHTS), AudioStop()]),
        ("stt-unknown-model", [Transcribe(name="large")]),
        ("tts-unknown-voice", [Synthesize(text="Hello", voice=SynthesizeVoice(name="en_US-jo-medium"))]),
        ("tts-unknown-speaker", [Synthesize(text="Hi", voice=SynthesizeVoice(name="en_US-joe-medium", speaker="x"))]),
        ("tts-too-long", [Synthesize(text="x " * 250_000)]),
        *(("unknown-room", [Event("announce", {"text": "Hi", "rooms": one})]) for one in ([], None, 5, "kitchen", [5])),
        ("wake-unknown-word", [Detect(names=["okay_naboo"]), START]),
        ("unknown-program", [SelectProgram(name="piperr")]),
        ("protocol-error", [Event("audio-start", {"rate": "fast"})]),
        ("protocol-error", [Event("audio-start", {"rate": 16000, "width": 2, "channels": 99})]),
        ("protocol-error", [Event("audio-chunk", payload=b"x")]),
        ("protocol-error", [Event("synthesize", {"voice": 3})]),
        ("protocol-error", [Event("synthesize", {"text": 3})]),
        ("protocol-error", [Event("synthesize", {"text": "Hello", "voice": {"name": 3}})]),
        ("protocol-error", [Event("synthesize-stop")]),
        ("protocol-error", [Event("select-program")]),
        ("protocol-error", [Event("transcript", {"txt": "x"})]),
        ("protocol-error", [Event("transcript", {"text": 3})]),
        ("protocol-error", [Event("transcript", {"text": "Hello", "context": [1]})]),
        ("protocol-error", [Event("run-pipeline", {"start_stage": "tts", "end_stage": "asr"})]),
        ("protocol-error", [Event("run-pipeline", {"start_stage": "x"})]),
        ("protocol-error", [Event("detect", {"names": 3})]),
        ("protocol-error", [Event("transcribe", {"language": 3})]),
        ("protocol-error", [Event("transcribe", {"transcript_terms": 3})]),
    ],
)
async def test_a_request_that_cannot_be_met_is_an_error(
    daemon: RunningDaemon, code: str, sent: list[Event | Eventable]
) -> None:
    async with connect(daemon.port()) as client:
        await client.send(*sent)
        assert await client.error() == code
        await client.pong()


async def test_eight_clients_at_once_get_their_own_answers(daemon: RunningDaemon) -> None:
    commands = sorted((DATA / "commands").glob("*.wav"))

    async def transcribe(wav: Path) -> Transcript:
        async with connect(daemon.port()) as client:
            await client.send(Transcribe(context={"key": wav.stem}))
            await client.send_audio(read_wav(wav))
            heard = Transcript.from_event((await client.until("transcript"))[-1])
            # A busy engine makes no speculative transcript, and more silence can change a capital.
            return replace(heard, text=heard.text.casefold())

    async def speak(words: int) -> None:
        async with connect(daemon.port()) as client:
            await client.send(Synthesize(text="word " * words))
            seconds = len(sound(await client.until("audio-stop"))) / 44100
            assert 0.1 * words < seconds < 1.0 * words + 1

    async def wake(pcm: bytes, word: str) -> None:
        async with connect(daemon.port()) as client:
            await client.send(Detect(names=["okay_nabu", "hey_jarvis"]))
            await client.send_audio(pcm + bytes(BYTES_PER_SECOND))
            assert (await detected(client)).name == word

    alone = [await transcribe(wav) for wav in commands]
    assert [transcript.context for transcript in alone] == [{"key": wav.stem} for wav in commands]
    others = [speak(words) for words in (2, 10, 20)]
    others += [wake(pcm, word) for pcm, word in ((NABU, "okay_nabu"), (JARVIS, "hey_jarvis")) * 3]
    together, *_ = await asyncio.gather(asyncio.gather(*map(transcribe, commands)), *others)
    assert together == alone
