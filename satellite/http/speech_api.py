"""`POST /stt`, `/tts` and `/converse`: recordings and spoken answers."""

import base64
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from satellite.audio.encoding import BY_MEDIA_TYPE, WAV, SoundType, encoded, wav
from satellite.engines.protocols import VoiceChoice
from satellite.errors import SatelliteError, Stage, TextToSpeechError
from satellite.events import TtsEnd
from satellite.http.chat_api import answer
from satellite.http.context import Context, Outcome, Step, finish, new_conversation, perform, run_request
from satellite.http.dependencies import ClientAddress, Parts
from satellite.http.error_codes import HttpError
from satellite.http.json_route import JsonRoute
from satellite.http.problems import responses
from satellite.http.recordings import BODY, received, transcribed
from satellite.http.replies import Streamed, json_response, preferred
from satellite.http.schemas import ConversationId, Language, SpeechRequest, SpokenAnswer, SpokenSound, Transcript
from satellite.pipeline.request import RunRequest, Speech

# Few players cope with a WAV file whose length is unknown, so a short text, which takes some tenths of a second to
# speak, is sent whole.
_SHORT_CHARACTERS = 80

_FORMS = (*BY_MEDIA_TYPE, "application/json")

_SOUND: dict[str, Any] = {
    "description": "The sound, streamed from within the first sentence; in JSON whole, as a WAV file",
    "content": {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in BY_MEDIA_TYPE},
}


router = APIRouter(tags=["speech"], route_class=JsonRoute)


@router.post(
    "/stt",
    summary="Understand a recording",
    responses=responses(415, 502, 504),
    response_model=Transcript,
    openapi_extra=BODY,
)
async def stt(request: Request, context: Parts, language: Annotated[Language | None, Query()] = None) -> Response:
    """Return what was said in a recording; the text is empty when nobody spoke."""
    pcm = await received(request, context)
    return json_response((await transcribed(context, pcm, language)).model_dump())


@router.post("/tts", summary="Speak a text", responses={200: _SOUND, **responses(406, 504)}, response_model=SpokenSound)
async def tts(speech: SpeechRequest, request: Request, context: Parts, client: ClientAddress) -> Response:
    """Speak a text, in the form that `Accept` asks for: WAV, raw 16-bit PCM, Ogg/Opus, MP3, or JSON."""
    form = preferred(request.headers.get("accept"), _FORMS)
    context.check_length(speech.text, TextToSpeechError)
    voice = VoiceChoice(speech.voice, speech.language, speech.speaker, strict=True)
    run = run_request(client, None, start=Stage.TTS, end=Stage.TTS, text=speech.text, voice=voice)
    if form == "application/json":
        _, sound = await finish(context, run)
        name = (await context.stages.speaker(voice)).voice.name
        return json_response({"audio": _whole(sound), "voice": name})
    return await streamed(context, run, BY_MEDIA_TYPE[form], request)


@router.post(
    "/converse",
    summary="Ask by voice",
    responses={200: _SOUND, **responses(406, 415, 502, 504)},
    response_model=SpokenAnswer,
    openapi_extra=BODY,
)
async def converse(
    request: Request,
    context: Parts,
    client: ClientAddress,
    conversation_id: Annotated[ConversationId | None, Query()] = None,
    language: Annotated[Language | None, Query()] = None,
) -> Response:
    """Answer a voice command by voice; audio after the end of the command is ignored.

    Sound comes with the headers `Satellite-Conversation-Id` and `Satellite-Heard` (percent-encoded).
    """
    form = preferred(request.headers.get("accept"), _FORMS)
    pcm = await received(request, context)
    conversation = conversation_id or new_conversation()
    run = run_request(client, conversation, start=Stage.STT, end=Stage.TTS, language=language)
    if form == "application/json":
        outcome, sound = await finish(context, run, pcm)
        return json_response({**answer(outcome, conversation), "heard": outcome.run.heard, "audio": _whole(sound)})
    return await streamed(context, run, BY_MEDIA_TYPE[form], request, recording=pcm, conversation=conversation)


async def streamed(
    context: Context,
    run: RunRequest,
    form: SoundType,
    request: Request,
    *,
    recording: bytes = b"",
    conversation: str | None = None,
    rate: int | None = None,
) -> Response:
    """Return a response with the sound of a run, streamed; errors before its first sound are raised."""
    _require(form)
    steps = perform(context, run, recording)
    outcome = Outcome(run)
    try:
        first = await _first_sound(steps, outcome)
        headers = {"Satellite-Sample-Rate": str(rate or first.format.rate)}
        if conversation is not None:
            headers |= {"Satellite-Conversation-Id": quote(conversation), "Satellite-Heard": quote(outcome.run.heard)}
        if form == WAV and 0 < len(run.text or outcome.run.said) <= _SHORT_CHARACTERS:
            async with aclosing(_sound(first, steps, outcome)) as pieces:
                pcm = b"".join([piece async for piece in pieces])
            return Response(wav(pcm, first.format), headers=headers, media_type=form.media_type)
    except BaseException:  # a request that is cancelled must end its run as well
        await steps.aclose()
        raise

    async def body() -> AsyncGenerator[bytes, None]:
        async with (
            aclosing(steps),  # `_sound` closes them only once it has begun, which an encoder that fails prevents
            aclosing(_sound(first, steps, outcome)) as pieces,
            aclosing(encoded(pieces, first.format, form, rate=rate)) as parts,
        ):
            # The run's error is in the log already. An answer that ends early must not look complete: no last chunk.
            with suppress(SatelliteError):
                async for part in parts:
                    yield part
                return
        request.scope.get("state", {}).get("abort", lambda: None)()

    return Streamed(body(), headers=headers, media_type=form.media_type)


async def _first_sound(steps: AsyncGenerator[Step, None], outcome: Outcome) -> Speech:
    async for step in steps:
        if isinstance(step, Speech):
            return step
        if isinstance(step, TtsEnd) and step.audio_seconds == 0:
            break
        outcome.note(step)
    raise TextToSpeechError("there is nothing to say", kind="empty")


async def _sound(first: Speech, steps: AsyncGenerator[Step, None], outcome: Outcome) -> AsyncGenerator[bytes, None]:
    async with aclosing(steps):
        yield first.pcm
        async for step in steps:
            if isinstance(step, Speech):
                yield step.pcm
            else:
                outcome.note(step)


def _whole(sound: list[Speech]) -> dict[str, object]:
    """Return a `Sound`. Raises `TextToSpeechError` when there is none."""
    if not sound:
        raise TextToSpeechError("there is nothing to say", kind="empty")
    layout = sound[0].format
    pcm = b"".join(piece.pcm for piece in sound)
    return {
        "content_type": "audio/wav",
        "rate": layout.rate,
        "seconds": round(len(pcm) / (layout.rate * layout.frame_bytes), 3),
        "base64": base64.b64encode(wav(pcm, layout)).decode(),
    }


def _require(sound: SoundType) -> None:
    """Raise `HttpError` where FFmpeg lacks the encoder."""
    import av

    if sound.codec not in av.codecs_available:
        raise HttpError(f"there is no encoder for {sound.media_type} here", code="http-not-acceptable")
