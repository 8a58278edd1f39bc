"""OpenAI's API, so that existing clients work: `/v1/chat/completions`, `/v1/audio/*` and `/v1/models`."""

import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from satellite.engines import ChatDelta, Message, VoiceChoice
from satellite.errors import SatelliteError, Stage, TextToSpeechError
from satellite.events import RunEvent, RunEventType, new_run_id
from satellite.http.chat import check_length, client_of, json_response
from satellite.http.context import Context, run_request
from satellite.http.encoding import AAC, FLAC, MP3, OGG, PCM, WAV
from satellite.http.openai_schemas import Completion, CompletionRequest, OpenAIModels, SpeechRequest
from satellite.http.problems import HttpError, of_error, responses
from satellite.http.recordings import read, transcribed
from satellite.http.speech import streamed
from satellite.http.streaming import EVENT_SCHEMA, EVENT_STREAM, Streamed, sse
from satellite.turn.clauses import finished
from satellite.turn.dialogue import Question

MODEL = "satellite"

_FORMATS = {"mp3": MP3, "opus": OGG, "aac": AAC, "flac": FLAC, "wav": WAV, "pcm": PCM}

_PCM_RATE = 24_000
"""What OpenAI's clients take raw sound for."""

_THEIR_VOICES = {"alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx", "sage"}
_THEIR_VOICES |= {"default", "shimmer", "verse"}


def routes(context: Context) -> APIRouter:
    """Return the endpoints."""
    router = APIRouter(prefix="/v1", tags=["OpenAI-compatible"])

    @router.post(
        "/chat/completions",
        summary="Go on with a conversation",
        response_model=Completion,
        responses={200: {"content": {EVENT_STREAM: EVENT_SCHEMA}}, **responses(502, 504)},
    )
    async def completions(request: CompletionRequest, http: Request) -> Response:
        """Answer the last message of a conversation: what the house can do itself, else the chat model."""
        question = request.messages[-1].text
        if not question.strip():
            raise HttpError("the last message is empty", code="http-invalid")
        check_length(context, "".join(message.text for message in request.messages))
        deltas = _deltas(context, request, client_of(http))
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": MODEL}
        if request.stream:
            first = await anext(deltas, None)  # errors before the first word are plain responses
            usage = request.stream_options is not None and request.stream_options.include_usage
            return Streamed(_chunks(head, first, deltas, usage=usage), media_type=EVENT_STREAM)
        text, last = "", None
        async with aclosing(deltas):
            async for last in deltas:
                text += last.text
        cut = bool(last and last.stats and last.stats.truncated)
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": finished(text) if cut else text.strip(), "refusal": None},
            "logprobs": None,
            "finish_reason": "length" if cut else "stop",
        }
        body = {**head, "object": "chat.completion", "choices": [choice], "usage": _usage(last)}
        return json_response(body)

    @router.post(
        "/audio/transcriptions",
        summary="Understand a recording",
        responses=responses(415, 502, 504),
        openapi_extra=_TRANSCRIPTION,
    )
    async def transcriptions(request: Request) -> Response:
        """Return what was said in the `file` of a form; `response_format` is json, text or verbose_json."""
        async with request.form(max_files=1, max_fields=20) as form:
            wanted = form.get("response_format") or "json"
            if wanted not in ("json", "text", "verbose_json"):
                raise HttpError("response_format: expected json, text or verbose_json", code="http-invalid")
            language, prompt = form.get("language"), form.get("prompt")
            pcm = await read(form.get("file"), context)
        terms = tuple(str(prompt)[:1000].split()) if isinstance(prompt, str) else ()
        told = await transcribed(context, pcm, language if isinstance(language, str) and language else None, terms)
        if wanted == "text":
            return PlainTextResponse(told["text"] + "\n")
        if wanted == "json":
            return json_response({"text": told["text"]})
        more = {"language": told["language"], "duration": told["audio_seconds"], "segments": []}
        return json_response({"task": "transcribe", "text": told["text"], **more})

    @router.post(
        "/audio/speech",
        summary="Speak a text",
        response_class=Streamed,
        responses={200: {"content": {one.media_type: {} for one in _FORMATS.values()}}, **responses(406, 504)},
    )
    async def speech(request: SpeechRequest, http: Request) -> Response:
        """Speak a text; raw sound (`pcm`) has 24000 samples a second."""
        check_length(context, request.input, TextToSpeechError)
        voice = VoiceChoice(None if request.voice in _THEIR_VOICES else request.voice)
        asked = run_request(client_of(http), None, start=Stage.TTS, end=Stage.TTS, text=request.input, voice=voice)
        sound = _FORMATS[request.response_format]
        return await streamed(context, asked, sound, http, rate=_PCM_RATE if sound == PCM else None)

    @router.get("/models", summary="The models", responses=responses(), response_model=OpenAIModels)
    async def models() -> OpenAIModels:
        """Return the one model there is to ask, the one that understands, and the voices."""
        engines = context.stages.engines
        voices = [voice.name for voice in engines.synthesizer.engine.voices]
        names = [MODEL, engines.transcriber.engine.model, *voices]
        return OpenAIModels.model_validate({"data": [{"id": name} for name in dict.fromkeys(names)]})

    return router


async def _deltas(context: Context, request: CompletionRequest, client: str) -> AsyncGenerator[ChatDelta, None]:
    """Yield the answer; with the usual system prompt, where the client has none of its own."""
    messages = [Message("system" if one.role == "developer" else one.role, one.text) for one in request.messages]
    if messages[0].role != "system":
        messages = [*context.stages.dialogue.beginning(None), *messages]
    question = Question(messages[-1].content, place=f"http {client}")
    tell = _Teller(context, question)
    try:
        async with aclosing(context.stages.read_ahead(context.stages.answer(question, messages))) as deltas:
            async for delta in deltas:
                tell.delta(delta)
                yield delta
    except SatelliteError as error:
        tell.failed(error)
        raise
    finally:
        tell.end()


class _Teller:
    """Tells the event bus of an answer to a conversation that the client keeps, as a run tells of its own."""

    def __init__(self, context: Context, question: Question) -> None:
        self._bus = context.bus
        self._room = question.place
        self._run_id = new_run_id()
        self._text = ""
        self._ended = False
        self._publish(RunEventType.RUN_START, start=Stage.CHAT, end=Stage.CHAT)
        self._publish(RunEventType.CHAT_START, text=question.text)

    def delta(self, delta: ChatDelta) -> None:
        self._text += delta.text
        if delta.text:
            self._publish(RunEventType.CHAT_DELTA, text=delta.text)
        if delta.stats is not None:
            self._publish(
                RunEventType.CHAT_END, text=self._text.strip(), provider=delta.provider, **delta.stats.described()
            )
            self._end()

    def failed(self, error: SatelliteError) -> None:
        self._publish(RunEventType.ERROR, stage=Stage.CHAT, code=error.code, text=str(error))
        self._end()

    def end(self) -> None:
        """It is over: if it had not ended before, the client has left."""
        if not self._ended:
            self._end(cancelled=True)

    def _end(self, **data: bool) -> None:
        self._ended = True
        self._publish(RunEventType.RUN_END, **data)

    def _publish(self, type_: RunEventType, **data: Any) -> None:
        self._bus.publish(RunEvent(type_, self._run_id, self._room, data))


async def _chunks(
    head: dict[str, Any], first: ChatDelta | None, rest: AsyncGenerator[ChatDelta, None], *, usage: bool
) -> AsyncGenerator[bytes, None]:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return sse(None, {**head, "object": "chat.completion.chunk", "choices": [choice]})

    last = first
    try:
        async with aclosing(rest):
            yield chunk({"role": "assistant", "content": first.text if first else ""})
            async for last in rest:
                if last.text:
                    yield chunk({"content": last.text})
    except SatelliteError as error:
        problem = of_error(error)
        yield sse(None, {"error": {"message": problem["detail"], "type": "server_error", "code": problem["code"]}})
        return
    cut = bool(last and last.stats and last.stats.truncated)
    yield chunk({}, "length" if cut else "stop")
    if usage:
        yield sse(None, {**head, "object": "chat.completion.chunk", "choices": [], "usage": _usage(last)})
    yield b"data: [DONE]\n\n"


def _usage(last: ChatDelta | None) -> dict[str, int]:
    stats = last.stats if last else None
    prompt, answer = (stats.prompt_tokens or 0, stats.answer_tokens or 0) if stats else (0, 0)
    return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}


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
                        "response_format": {"type": "string", "enum": ["json", "text", "verbose_json"]},
                    },
                    "required": ["file"],
                }
            }
        },
    }
}
