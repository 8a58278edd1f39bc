"""OpenAI's own client: transcriptions and speech."""

import io
import wave
from typing import Any

import openai
import pytest

from satellite.audio.encoding import wav
from satellite.audio.pcm import CANONICAL
from tests.http_daemon import QUESTION

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def file(question: bytes) -> tuple[str, bytes]:
    return "question.wav", wav(question, CANONICAL)


def spoken(ai: openai.OpenAI, form: Any = "wav", voice: Any = "alloy", **wishes: Any) -> bytes:
    """Return the question as a sound file."""
    return ai.audio.speech.create(model="tts-1", voice=voice, input=QUESTION, response_format=form, **wishes).content


def seconds(sound: bytes) -> float:
    """Return how long a WAV file is heard."""
    with wave.open(io.BytesIO(sound)) as read:
        return float(len(read.readframes(read.getnframes())) / 2 / read.getframerate())


def test_transcription(ai: openai.OpenAI, question: bytes, file: tuple[str, bytes]) -> None:
    assert "capital of france" in ai.audio.transcriptions.create(model="whisper-1", file=file).text.lower()
    text = ai.audio.transcriptions.create(model="whisper-1", file=file, response_format="text", language="en")
    assert "capital of france" in str(text).lower()
    found = ai.audio.transcriptions.create(model="whisper-1", file=file, response_format="verbose_json", prompt="Paris")
    assert float(found.duration) == pytest.approx(len(question) / 32_000, abs=0.1)
    assert (found.segments, found.words) == (None, None)  # nobody knows when a word was said
    events = list(ai.audio.transcriptions.create(model="whisper-1", file=file, stream=True, temperature=0))
    assert [event.type for event in events] == ["transcript.text.delta", "transcript.text.done"]
    assert "capital of france" in str(events[-1].to_dict()["text"]).lower()


@pytest.mark.parametrize(
    ("wish", "param"),
    [
        ({"response_format": "srt"}, "response_format"),
        ({"response_format": "vtt"}, "response_format"),
        ({"response_format": "verbose_json", "timestamp_granularities": ["word"]}, "timestamp_granularities[]"),
        ({"response_format": "text", "stream": True}, "stream"),
        ({"temperature": 0.5}, "temperature"),
        ({"include": ["logprobs"]}, "include[]"),
        ({"extra_body": {"diarize": "true"}}, "diarize"),
    ],
)
def test_a_transcript_that_there_is_not(
    ai: openai.OpenAI, file: tuple[str, bytes], wish: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ai.audio.transcriptions.create(model="whisper-1", file=file, **wish)
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", param)
    assert param in caught.value.message


@pytest.mark.parametrize("form", ["mp3", "opus", "aac", "flac", "wav"])
def test_speech(ai: openai.OpenAI, form: str) -> None:
    heard = ai.audio.transcriptions.create(model="whisper-1", file=(f"x.{form}", spoken(ai, form)))
    assert "capital of france" in heard.text.lower()


def test_raw_speech_has_the_rate_they_expect(ai: openai.OpenAI) -> None:
    with ai.audio.speech.with_streaming_response.create(
        model="tts-1", voice="en_US-joe-medium", input=QUESTION, response_format="pcm", speed=1.0
    ) as streamed:
        raw = b"".join(streamed.iter_bytes())
    assert len(raw) / 2 / 24_000 == pytest.approx(seconds(spoken(ai)), rel=0.1)


@pytest.mark.parametrize("speed", [0.5, 1.5])
def test_speed(ai: openai.OpenAI, speed: float) -> None:
    usual = seconds(spoken(ai))
    other = spoken(ai, voice={"id": "en_US-joe-medium"}, speed=speed, instructions="")
    share = seconds(other) / usual
    assert share > 1.5 if speed < 1 else share < 0.85  # no phoneme is shorter than a frame
    assert seconds(spoken(ai, speed=1)) == usual
    heard = ai.audio.transcriptions.create(model="whisper-1", file=("x.wav", other)).text
    assert "what is the capital" in heard.lower()


@pytest.mark.parametrize("wish", [{"instructions": "Whisper."}, {"stream_format": "sse"}])
def test_speech_that_there_is_not(ai: openai.OpenAI, wish: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        spoken(ai, **wish)
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", next(iter(wish)))


def test_errors_are_understood(ai: openai.OpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError, check=lambda error: error.code == "tts-unknown-voice"):
        spoken(ai, voice="nobody")
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        spoken(ai, speed=9)
    assert caught.value.param == "speed"
    with pytest.raises(openai.UnprocessableEntityError, match="messages"):
        ai.chat.completions.create(model="x", messages=[])
    with pytest.raises(openai.UnprocessableEntityError):
        ai.chat.completions.create(model="x", messages=[{"role": "user", "content": " "}])
    with pytest.raises(openai.NotFoundError, check=lambda error: error.code == "http-not-found"):
        ai.responses.create(model="x", input="Hi")
