"""OpenAI's own client: transcriptions and speech."""

import io
import wave
from typing import Any

import openai
import pytest

from satellite.audio.pcm import CANONICAL
from satellite.http.encoding import wav

pytestmark = pytest.mark.models

QUESTION = "What is the capital of France?"


def test_transcription(ai: openai.OpenAI, question: bytes) -> None:
    file = ("question.wav", wav(question, CANONICAL))
    assert "capital of france" in ai.audio.transcriptions.create(model="whisper-1", file=file).text.lower()
    text = ai.audio.transcriptions.create(model="whisper-1", file=file, response_format="text", language="en")
    assert "capital of france" in str(text).lower()
    told = ai.audio.transcriptions.create(model="whisper-1", file=file, response_format="verbose_json", prompt="Paris")
    assert float(told.duration) == pytest.approx(len(question) / 32_000, abs=0.1)
    assert (told.segments, told.words) == (None, None)  # nobody knows when a word was said


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
def test_a_transcript_that_there_is_not(ai: openai.OpenAI, question: bytes, wish: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ai.audio.transcriptions.create(model="whisper-1", file=("question.wav", wav(question, CANONICAL)), **wish)
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", param)
    assert param in caught.value.message


def test_transcription_streams(ai: openai.OpenAI, question: bytes) -> None:
    file = ("question.wav", wav(question, CANONICAL))
    events = list(ai.audio.transcriptions.create(model="whisper-1", file=file, stream=True, temperature=0))
    assert [event.type for event in events] == ["transcript.text.delta", "transcript.text.done"]
    assert "capital of france" in str(events[-1].to_dict()["text"]).lower()


@pytest.mark.parametrize("form", ["mp3", "opus", "aac", "flac", "wav"])
def test_speech(ai: openai.OpenAI, form: str) -> None:
    spoken = ai.audio.speech.create(model="tts-1", voice="alloy", input=QUESTION, response_format=form)  # type: ignore[arg-type]  # a Literal there
    heard = ai.audio.transcriptions.create(model="whisper-1", file=(f"x.{form}", spoken.content))
    assert "capital of france" in heard.text.lower()


def test_raw_speech_has_the_rate_they_expect(ai: openai.OpenAI) -> None:
    with ai.audio.speech.with_streaming_response.create(
        model="tts-1", voice="en_US-joe-medium", input=QUESTION, response_format="pcm", speed=1.0
    ) as streamed:
        raw = b"".join(streamed.iter_bytes())
    file = ai.audio.speech.create(model="tts-1", voice="alloy", input=QUESTION, response_format="wav").content
    with wave.open(io.BytesIO(file)) as sound:
        seconds = len(sound.readframes(sound.getnframes())) / 2 / sound.getframerate()
    assert len(raw) / 2 / 24_000 == pytest.approx(seconds, rel=0.1)


def test_errors_are_understood(ai: openai.OpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        ai.audio.speech.create(model="tts-1", voice="nobody", input="x")
    assert caught.value.code == "tts-unknown-voice"
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        ai.chat.completions.create(model="x", messages=[])
    assert "messages" in str(caught.value)
    with pytest.raises(openai.UnprocessableEntityError):
        ai.chat.completions.create(model="x", messages=[{"role": "user", "content": " "}])
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        ai.audio.speech.create(model="tts-1", voice="alloy", input="x", speed=9)
    assert caught.value.param == "speed"
    with pytest.raises(openai.NotFoundError) as missing:
        ai.responses.create(model="x", input="Hi")
    assert missing.value.code == "http-not-found"


def seconds(sound: bytes) -> float:
    """Return how long a WAV file is heard."""
    with wave.open(io.BytesIO(sound)) as file:
        return float(file.getnframes() / file.getframerate())


@pytest.mark.parametrize("speed", [0.5, 1.5])
def test_speed(ai: openai.OpenAI, speed: float) -> None:
    def spoken(**wishes: Any) -> bytes:
        voice: Any = {"id": "en_US-joe-medium"}
        one = ai.audio.speech.create(model="tts-1", voice=voice, input=QUESTION, response_format="wav", **wishes)
        return one.content

    usual = spoken()
    other = spoken(speed=speed, instructions="")
    share = seconds(other) / seconds(usual)
    assert share > 1.5 if speed < 1 else share < 0.85  # no phoneme is shorter than a frame
    assert seconds(spoken(speed=1)) == seconds(usual)
    heard = ai.audio.transcriptions.create(model="whisper-1", file=("x.wav", other)).text
    assert "what is the capital" in heard.lower()


@pytest.mark.parametrize("wish", [{"instructions": "Whisper."}, {"stream_format": "sse"}])
def test_speech_that_there_is_not(ai: openai.OpenAI, wish: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ai.audio.speech.create(model="tts-1", voice="alloy", input="x", **wish)
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", next(iter(wish)))
