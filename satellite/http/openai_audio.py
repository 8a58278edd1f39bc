"""`POST /v1/audio/transcriptions` and `/v1/audio/speech`: OpenAI's clients understand and speak."""

from collections.abc import AsyncGenerator
from typing import Any

from fastapi import APIRouter, Request
from starlette.datastructures import FormData
from starlette.responses import PlainTextResponse, Response

from satellite.engines.protocols import VoiceChoice
from satellite.errors import Stage, TextToSpeechError
from satellite.http.chat_api import check_length, client_of, json_response
from satellite.http.context import Context, run_request
from satellite.http.encoding import AAC, FLAC, MP3, OGG, PCM, WAV
from satellite.http.openai_parameters import refuse, unsupported
from satellite.http.openai_schemas import SpeechRequest
from satellite.http.problems import responses
from satellite.http.recordings import read, transcribed
from satellite.http.speech_api import streamed
from satellite.http.streaming import EVENT_SCHEMA, EVENT_STREAM, Streamed, sse

_FORMATS = {"mp3": MP3, "opus": OGG, "aac": AAC, "flac": FLAC, "wav": WAV, "pcm": PCM}

_PCM_RATE = 24_000
"""What OpenAI's clients take raw sound for."""

_THEIR_VOICES = {"alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx", "sage"}
_THEIR_VOICES |= {"default", "shimmer", "verse"}

_TRANSCRIPTS = ("json", "text", "verbose_json")

_UNDERSTOOD = {"file", "language", "model", "prompt", "response_format", "stream", "temperature"}
"""Fields of the form; no word's time is known, so that `timestamp_granularities[]` is none of them."""


def routes(context: Context) -> APIRouter:
    """Return the endpoints."""
    router = APIRouter()

    @router.post(
        "/audio/transcriptions",
        summary="Understand a recording",
        responses={200: {"content": {EVENT_STREAM: EVENT_SCHEMA}}, **responses(415, 502, 504)},
        openapi_extra=_TRANSCRIPTION,
    )
    async def transcriptions(request: Request) -> Response:
        """Return what was said in the `file` of a form; `response_format` is json, text or verbose_json.

        With `stream` as server-sent events, once it is understood. What is asked for beyond that is refused (400).
        """
        async with request.form(max_files=1, max_fields=40) as form:
            wanted, stream = _form(form)
            language, prompt = form.get("language"), form.get("prompt")
            pcm = await read(form.get("file"), context)
        terms = tuple(str(prompt)[:1000].split()) if isinstance(prompt, str) else ()
        told = await transcribed(context, pcm, language if isinstance(language, str) and language else None, terms)
        if stream:
            return Streamed(_transcript(told["text"]), media_type=EVENT_STREAM)
        if wanted == "text":
            return PlainTextResponse(told["text"] + "\n")
        if wanted == "json":
            return json_response({"text": told["text"]})
        more = {"language": told["language"], "duration": told["audio_seconds"]}
        return json_response({"task": "transcribe", "text": told["text"], **more})

    @router.post(
        "/audio/speech",
        summary="Speak a text",
        response_class=Streamed,
        responses={200: {"content": {one.media_type: {} for one in _FORMATS.values()}}, **responses(406, 504)},
    )
    async def speech(request: SpeechRequest, http: Request) -> Response:
        """Speak a text; raw sound (`pcm`) has 24000 samples a second."""
        refuse(request.model_extra)
        check_length(context, request.input, TextToSpeechError)
        name = request.voice if isinstance(request.voice, str) else request.voice.id
        voice = VoiceChoice(None if name in _THEIR_VOICES else name, speed=request.speed or 1.0)
        asked = run_request(client_of(http), None, start=Stage.TTS, end=Stage.TTS, text=request.input, voice=voice)
        sound = _FORMATS[request.response_format or "mp3"]
        return await streamed(context, asked, sound, http, rate=_PCM_RATE if sound == PCM else None)

    return router


def _form(form: FormData) -> tuple[str, bool]:
    """Return the form of the transcript, and whether it streams. Raises `HttpError` for what is not understood."""
    wanted = form.get("response_format") or "json"
    if wanted not in _TRANSCRIPTS:
        raise unsupported("response_format", _TRANSCRIPTS)
    stream = str(form.get("stream") or "false").lower()
    if stream not in ("true", "false"):
        raise unsupported("stream", ("true", "false"))
    if stream == "true" and wanted != "json":
        raise unsupported("stream", ("response_format json",))
    try:
        cold = float(str(form.get("temperature") or 0)) == 0
    except ValueError:
        cold = False
    if not cold:
        raise unsupported("temperature", ("0",))
    refuse({name: value or None for name, value in form.multi_items() if name not in _UNDERSTOOD})
    return str(wanted), stream == "true"


async def _transcript(text: str) -> AsyncGenerator[bytes, None]:
    if text:
        yield sse(None, {"type": "transcript.text.delta", "delta": text})
    yield sse(None, {"type": "transcript.text.done", "text": text})


_TRANSCRIPTION: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": "Any audio file"},
                        "model": {"type": "string", "description": "Passed over: there is one"},
                        "language": {"type": "string", "example": "en"},
                        "prompt": {"type": "string", "description": "Names and terms to expect"},
                        "response_format": {"type": "string", "enum": list(_TRANSCRIPTS)},
                        "stream": {"type": "boolean"},
                    },
                    "required": ["file"],
                }
            }
        },
    }
}
