"""`POST /v1/audio/transcriptions` and `/v1/audio/speech`: OpenAI's clients understand and speak."""

from collections.abc import AsyncGenerator

from fastapi import APIRouter, Request
from starlette.datastructures import FormData
from starlette.responses import PlainTextResponse, Response

from satellite.audio.encoding import AAC, FLAC, MP3, OGG, PCM, WAV
from satellite.engines.protocols import VoiceChoice
from satellite.errors import Stage, TextToSpeechError
from satellite.http.context import run_request
from satellite.http.dependencies import ClientAddress, Parts
from satellite.http.json_route import JsonRoute
from satellite.http.openai_parameters import OPENAI, refuse, unsupported
from satellite.http.openai_schemas import OpenAISpeech
from satellite.http.problems import responses
from satellite.http.recordings import transcribed, uploaded
from satellite.http.replies import EVENT_SCHEMA, EVENT_STREAM, Streamed, json_response, sse
from satellite.http.schemas import Transcript
from satellite.http.speech_api import streamed

_FORMATS = {"mp3": MP3, "opus": OGG, "aac": AAC, "flac": FLAC, "wav": WAV, "pcm": PCM}

_PCM_RATE = 24_000
"""The rate that OpenAI's clients assume of raw sound."""

_OPENAI_VOICES = {"alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx", "sage"}
_OPENAI_VOICES |= {"default", "shimmer", "verse"}

_FIELDS = {"file", "language", "model", "prompt", "response_format", "stream", "temperature"}
"""Fields that are obeyed. Not `timestamp_granularities[]`: the times of words are unknown."""

router = APIRouter(prefix="/v1", tags=["OpenAI-compatible"], route_class=JsonRoute)


@router.post(
    "/audio/transcriptions",
    summary="Understand a recording",
    responses={200: {"content": {EVENT_STREAM: EVENT_SCHEMA}}, **responses(415, 502, 504)},
    openapi_extra=OPENAI["transcription"],
)
async def transcriptions(request: Request, context: Parts) -> Response:
    """Return what was said in the `file` of a form; `response_format` is json, text or verbose_json.

    With `stream` as server-sent events, once it is understood. Any other parameter is refused (400).
    """
    async with request.form(max_files=1, max_fields=40) as form:
        response_format, stream = _form(form)
        language, prompt = form.get("language"), form.get("prompt")
        pcm = await uploaded(form.get("file"), context)
    terms = tuple(prompt[:1000].split()) if isinstance(prompt, str) else ()
    transcript = await transcribed(context, pcm, language if isinstance(language, str) and language else None, terms)
    if stream:
        return Streamed(_events(transcript.text), media_type=EVENT_STREAM)
    return _response(transcript, response_format)


@router.post(
    "/audio/speech",
    summary="Speak a text",
    response_class=Streamed,
    responses={200: {"content": {one.media_type: {} for one in _FORMATS.values()}}, **responses(406, 504)},
)
async def speech(request: OpenAISpeech, http: Request, context: Parts, client: ClientAddress) -> Response:
    """Speak a text; raw sound (`pcm`) has 24000 samples a second."""
    refuse(request.model_extra)
    context.check_length(request.input, TextToSpeechError)
    name = request.voice if isinstance(request.voice, str) else request.voice.id
    voice = VoiceChoice(None if name in _OPENAI_VOICES else name, speed=request.speed or 1.0)
    run = run_request(client, None, start=Stage.TTS, end=Stage.TTS, text=request.input, voice=voice)
    form = _FORMATS[request.response_format or "mp3"]
    return await streamed(context, run, form, http, rate=_PCM_RATE if form == PCM else None)


def _form(form: FormData) -> tuple[str, bool]:
    """Return the format of the transcript, and whether it is streamed. Raises `HttpError` for other parameters."""
    wanted = form.get("response_format") or "json"
    if wanted not in OPENAI["transcripts"]:
        raise unsupported("response_format", OPENAI["transcripts"])
    stream = str(form.get("stream") or "false").lower()
    if stream not in ("true", "false"):
        raise unsupported("stream", ("true", "false"))
    if stream == "true" and wanted != "json":
        raise unsupported("stream", ("response_format json",))
    try:
        is_zero = float(str(form.get("temperature") or 0)) == 0
    except ValueError:
        is_zero = False
    if not is_zero:
        raise unsupported("temperature", ("0",))
    refuse({name: value or None for name, value in form.multi_items() if name not in _FIELDS})
    return str(wanted), stream == "true"


def _response(transcript: Transcript, response_format: str) -> Response:
    match response_format:
        case "text":
            return PlainTextResponse(transcript.text + "\n")
        case "json":
            return json_response({"text": transcript.text})
        case _:
            more = {"language": transcript.language, "duration": transcript.audio_seconds}
            return json_response({"task": "transcribe", "text": transcript.text, **more})


async def _events(text: str) -> AsyncGenerator[bytes, None]:
    if text:
        yield sse(None, {"type": "transcript.text.delta", "delta": text})
    yield sse(None, {"type": "transcript.text.done", "text": text})
