"""Every Wyoming flow against a real daemon, as Home Assistant and other clients use it."""

import asyncio
from pathlib import Path

import pytest
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.event import Event
from wyoming.handle import Handled
from wyoming.info import Describe, Info, SelectProgram
from wyoming.intent import Intent
from wyoming.tts import Synthesize, SynthesizeChunk, SynthesizeStart, SynthesizeStop, SynthesizeVoice
from wyoming.wake import Detect, Detection

from satellite.audio.pcm import BYTES_PER_SECOND, read_wav
from tests.running_daemon import DATA, RunningDaemon
from tests.wyoming_client import START, chunks, connect, sound, types

pytestmark = pytest.mark.models

LIGHTS = read_wav(DATA / "commands" / "turn_on_the_lights.wav")
NABU = read_wav(DATA / "wake" / "okay_nabu.wav")
JARVIS = read_wav(DATA / "wake" / "hey_jarvis.wav")
OTHER = read_wav(DATA / "wake" / "not_a_wake_word_computer.wav")


async def described(port: int) -> Info:
    """Return the port's info."""
    async with connect(port) as client:
        await client.send(Describe())
        event = await client.read()
        assert event is not None
        return Info.from_event(event)


async def test_one_port_offers_everything(daemon: RunningDaemon) -> None:
    info = await described(daemon.port())
    assert [program.name for program in info.asr] == ["satellite"]
    assert [program.name for program in info.tts] == ["satellite"]
    assert [program.name for program in info.wake] == ["satellite", "microwakeword"]
    assert [program.name for program in info.handle] == ["satellite"]
    assert info.intent == []
    assert info.satellite is None
    assert info.asr[0].models[0].languages == ["en"]
    assert not info.asr[0].requires_external_vad
    assert info.asr[0].supports_transcript_streaming
    assert info.tts[0].supports_synthesize_streaming
    assert info.tts[0].voices[0].name == "en_US-joe-medium"
    assert info.handle[0].supports_handled_streaming
    assert not info.handle[0].supports_home_control
    assert [model.name for model in info.handle[0].models] == [daemon.daemon.config.chat.providers[0].model]
    assert "okay_nabu" in [model.name for model in info.wake[0].models]
    programs = [*info.asr, *info.tts, *info.wake, *info.handle]
    assert all(program.installed for program in programs)
    assert {program.attribution.name for program in programs} == {"satellite"}


@pytest.mark.parametrize(
    ("port", "domain"), [("stt_port", "asr"), ("tts_port", "tts"), ("wake_port", "wake"), ("handle_port", "handle")]
)
async def test_each_stage_has_a_port_of_its_own(daemon: RunningDaemon, port: str, domain: str) -> None:
    info = await described(daemon.port(port))
    offered = [name for name in ("asr", "tts", "wake", "handle") if getattr(info, name)]
    assert offered == [domain]


@pytest.mark.parametrize("port", ["port", "stt_port"])
async def test_speech_to_text(daemon: RunningDaemon, port: str) -> None:
    async with connect(daemon.port(port)) as client:
        await client.send(Transcribe(language="en", context={"id": 7}))
        await client.send_audio(LIGHTS)
        events = await client.until("transcript-stop")
        assert types(events) == ["transcript-start", "transcript-chunk", "transcript", "transcript-stop"]
        transcript = Transcript.from_event(events[2])
        assert transcript.text.lower().strip(".") == "turn on the lights"
        assert transcript.language == "en"
        assert transcript.context == {"id": 7}
        await client.send_audio(bytes(BYTES_PER_SECOND))
        assert await client.transcript() == ""


async def test_audio_without_start_and_without_request(daemon: RunningDaemon) -> None:
    async with connect(daemon.port("stt_port")) as client:
        await client.send(*chunks(LIGHTS, 3000), AudioStop())
        assert "lights" in await client.transcript()


async def test_any_audio_format_is_converted(daemon: RunningDaemon) -> None:
    import wave

    with wave.open(str(DATA / "other" / "turn_on_the_living_room_lamp_44k_stereo.wav")) as wav:
        raw = wav.readframes(wav.getnframes())
    async with connect(daemon.port()) as client:
        await client.send(Transcribe())
        await client.send_audio(raw, rate=44100, channels=2)
        assert "living room lamp" in await client.transcript()


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (Transcribe(language="fr"), "stt-unsupported-language"),
        (Transcribe(name="large"), "stt-unknown-model"),
    ],
)
async def test_what_cannot_be_transcribed_is_an_error(daemon: RunningDaemon, request_: Transcribe, code: str) -> None:
    async with connect(daemon.port()) as client:
        await client.send(request_)
        if code == "stt-unsupported-language":
            await client.send_audio(LIGHTS)
        assert await client.error() == code
        await client.pong("still here")


@pytest.mark.parametrize("port", ["port", "tts_port"])
async def test_text_to_speech(daemon: RunningDaemon, port: str) -> None:
    async with connect(daemon.port(port)) as client:
        await client.send(Synthesize(text="The lights are on. It is eight o'clock."))
        events = await client.until("audio-stop")
        assert types(events) == ["audio-start", "audio-chunk", "audio-stop"]
        assert {(e.data["rate"], e.data["width"], e.data["channels"]) for e in events if e.type != "audio-stop"} == {
            (22050, 2, 1)
        }
        assert 1.5 < len(sound(events)) / 44100 < 6


async def test_streamed_text_to_speech(daemon: RunningDaemon) -> None:
    async with connect(daemon.port()) as client:
        await client.send(SynthesizeStart(voice=SynthesizeVoice(name="en_US-joe-medium")))
        await client.send(SynthesizeChunk(text="The lights in the kitchen, "), SynthesizeChunk(text="are on"))
        early = await client.until("audio-chunk")
        assert types(early) == ["audio-start", "audio-chunk"]
        await client.send(SynthesizeChunk(text=" now."), Synthesize(text="The lights in the kitchen, are on now."))
        await client.send(SynthesizeStop())
        events = early + await client.until("synthesize-stopped")
        assert types(events) == ["audio-start", "audio-chunk", "audio-stop", "synthesize-stopped"]
        assert 1.0 < len(sound(events)) / 44100 < 4.5
        await client.send(Synthesize(text="Good."))
        assert types(await client.until("audio-stop")) == ["audio-start", "audio-chunk", "audio-stop"]


@pytest.mark.parametrize("text", ["", "🎉", "\n", "...", "   "])
async def test_empty_text_is_silence(daemon: RunningDaemon, text: str) -> None:
    async with connect(daemon.port()) as client:
        await client.send(Synthesize(text=text))
        events = await client.until("audio-stop")
        assert types(events) == ["audio-start", "audio-chunk", "audio-stop"]
        assert sound(events) == bytes(2 * 2205)
        await client.send(SynthesizeStart(), SynthesizeChunk(text=text), SynthesizeStop())
        events = await client.until("synthesize-stopped")
        assert types(events) == ["audio-start", "audio-chunk", "audio-stop", "synthesize-stopped"]
        assert sound(events) == bytes(2 * 2205)


async def test_an_unknown_voice_is_an_error(daemon: RunningDaemon) -> None:
    voice = SynthesizeVoice(name="en_US-jo-medium")
    async with connect(daemon.port()) as client:
        await client.send(Synthesize(text="Hello", voice=voice))
        assert await client.error() == "tts-unknown-voice"
        await client.send(SynthesizeStart(voice=voice), SynthesizeChunk(text="Hello"), SynthesizeStop())
        assert types(await client.until("synthesize-stopped")) == ["error", "synthesize-stopped"]


async def test_a_text_that_is_too_long_is_an_error(daemon: RunningDaemon) -> None:
    async with connect(daemon.port()) as client:
        await client.send(Synthesize(text="x " * 250_000))
        assert await client.error() == "tts-too-long"
        await client.send(Transcript(text="x " * 250_000))
        told = (await client.until("not-handled"))[-1].data
        assert (told["code"], told["text"]) == ("chat-too-long", "Sorry, I can't answer right now.")


@pytest.mark.parametrize("port", ["port", "wake_port"])
async def test_wake_word(daemon: RunningDaemon, port: str) -> None:
    async with connect(daemon.port(port)) as client:
        await client.send(Detect(names=["okay_nabu"], context={"room": "kitchen"}))
        await client.send_audio(NABU + bytes(BYTES_PER_SECOND))
        detection = Detection.from_event((await client.until("detection"))[-1])
        assert detection.name == "okay_nabu"
        assert detection.timestamp is not None
        assert 300 < detection.timestamp < 2500
        assert detection.context == {"room": "kitchen"}
        await client.send_audio(OTHER)
        assert types(await client.until("not-detected")) == ["not-detected"]
        await client.send(Detect(names=["hey_jarvis", "alexa"]))
        await client.send_audio(JARVIS)
        assert Detection.from_event((await client.until("detection"))[-1]).name == "hey_jarvis"


async def test_timestamps_follow_the_clients_clock(daemon: RunningDaemon) -> None:
    async with connect(daemon.port("wake_port")) as client:
        await client.send(Detect(names=["okay_nabu"]), AudioStart(16000, 2, 1, timestamp=1_000_000))
        for at in range(0, len(NABU), 2560):
            stamp = 1_000_000 + at // 32
            await client.send(AudioChunk(rate=16000, width=2, channels=1, audio=NABU[at : at + 2560], timestamp=stamp))
        detection = Detection.from_event((await client.until("detection"))[-1])
        assert detection.timestamp is not None
        assert 1_000_300 < detection.timestamp < 1_002_500


async def test_an_unknown_wake_word_is_an_error(daemon: RunningDaemon) -> None:
    async with connect(daemon.port()) as client:
        await client.send(Detect(names=["okay_naboo"]), START)
        event = (await client.until("error"))[-1]
        assert event.data["code"] == "wake-unknown-word"
        assert "okay_nabu" in event.data["text"]


async def test_programs_can_be_selected(daemon: RunningDaemon) -> None:
    async with connect(daemon.port()) as client:
        await client.send(SelectProgram(name="microwakeword"), Detect(names=["okay_nabu"]))
        await client.send_audio(NABU + bytes(BYTES_PER_SECOND))
        assert Detection.from_event((await client.until("detection"))[-1]).name == "okay_nabu"
        await client.send(Detect(names=["hey_rhasspy"]), START)
        assert await client.error() == "wake-unknown-word"
        for name in ("satellite", "openwakeword", "faster-whisper", "piper"):
            await client.send(SelectProgram(name="microwakeword"), SelectProgram(name=name))
            await client.send(Detect(names=["okay_nabu"]))
            await client.send_audio(OTHER)
            assert types(await client.until("not-detected", "error")) == ["not-detected"]
        await client.send(SelectProgram(name="satellite"), Detect(names=["hey_rhasspy"]))
        await client.send_audio(OTHER)
        assert types(await client.until("not-detected", "error")) == ["not-detected"]
        await client.send(SelectProgram(name="piperr"))
        assert await client.error() == "unknown-program"


@pytest.mark.parametrize("port", ["port", "handle_port"])
async def test_conversation(daemon: RunningDaemon, port: str) -> None:
    async with connect(daemon.port(port)) as client:
        context = {"conversation_id": "abc"}
        await client.send(Transcript(text="What is the capital of France?", language="en", context=context))
        events = await client.until("handled-stop")
        assert types(events)[0] == "handled-start"
        chunks = "".join(event.data["text"] for event in events if event.type == "handled-chunk")
        handled = Handled.from_event(events[-2])
        assert handled.text is not None
        assert "Paris" in handled.text
        assert chunks.strip() == handled.text
        assert handled.context is not None
        assert handled.context.items() >= {"conversation_id": "abc", "provider": "local"}.items()
        assert handled.context["first_token_ms"] > 0
        assert sum(event.type == "handled-chunk" for event in events) > 3


async def test_an_intent_is_taken_by_its_text(daemon: RunningDaemon) -> None:
    async with connect(daemon.port()) as client:
        await client.send(Intent(name="Ask", text="What is the capital of France?"))
        assert "Paris" in (await client.until("handled"))[-1].data["text"]
        await client.send(Intent(name="Ask"), Event(type="transcript", data={"text": None}))
        assert types(await client.until("not-handled")) in (["not-handled"], ["handled-stop", "not-handled"])
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
    "event",
    [
        Event(type="audio-start", data={"rate": "fast"}),
        Event(type="audio-start", data={"rate": 16000, "width": 2, "channels": 99}),
        Event(type="audio-chunk", data={}, payload=b"x"),
        Event(type="synthesize", data={"voice": 3}),
        Event(type="synthesize", data={"text": 3}),
        Event(type="synthesize-stop"),
        Event(type="select-program"),
        Event(type="transcript", data={"txt": "x"}),
        Event(type="transcript", data={"text": 3}),
        Event(type="run-pipeline", data={"start_stage": "tts", "end_stage": "asr"}),
        Event(type="run-pipeline", data={"start_stage": "x"}),
        Event(type="detect", data={"names": 3}),
        Event(type="transcribe", data={"language": 3}),
        Event(type="transcribe", data={"transcript_terms": 3}),
        Event(type="transcript", data={"text": "Hello", "context": [1]}),
        Event(type="synthesize", data={"text": "Hello", "voice": {"name": 3}}),
    ],
)
async def test_events_with_wrong_fields_are_errors(daemon: RunningDaemon, event: Event) -> None:
    async with connect(daemon.port()) as client:
        await client.send(event)
        assert await client.error()
        await client.pong("a")


async def test_eight_clients_at_once_get_their_own_answers(daemon: RunningDaemon) -> None:
    commands = sorted((DATA / "commands").glob("*.wav"))
    answers: dict[str, str] = {}

    async def transcribe(wav: Path, key: str) -> None:
        async with connect(daemon.port()) as client:
            await client.send(Transcribe(context={"key": key}))
            await client.send_audio(read_wav(wav))
            transcript = Transcript.from_event((await client.until("transcript"))[-1])
            assert transcript.context == {"key": key}
            answers[key] = transcript.text

    async def speak(words: int) -> None:
        async with connect(daemon.port()) as client:
            await client.send(Synthesize(text="word " * words))
            seconds = len(sound(await client.until("audio-stop"))) / 44100
            assert 0.1 * words < seconds < 1.0 * words + 1

    async def wake(pcm: bytes, word: str) -> None:
        async with connect(daemon.port()) as client:
            await client.send(Detect(names=["okay_nabu", "hey_jarvis"]))
            await client.send_audio(pcm + bytes(BYTES_PER_SECOND))
            assert Detection.from_event((await client.until("detection"))[-1]).name == word

    for wav in commands:
        await transcribe(wav, f"{wav.stem} alone")
    await asyncio.gather(
        *(transcribe(wav, wav.stem) for wav in commands),
        *(speak(words) for words in (2, 10, 20)),
        *(wake(pcm, word) for pcm, word in ((NABU, "okay_nabu"), (JARVIS, "hey_jarvis")) * 3),
    )
    for wav in commands:
        assert answers[wav.stem] == answers[f"{wav.stem} alone"]
