"""`POST /stt`, `/tts` and `/converse`: recordings and spoken answers."""

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from satellite.audio.pcm import BYTES_PER_SECOND, AudioFormat
from satellite.engines.protocols import VoiceChoice
from satellite.errors import SatelliteError, Stage, TextToSpeechError
from satellite.events import TtsEnd
from satellite.http.accept import chosen
from satellite.http.chat_api import answer, check_length, client_of, json_response
from satellite.http.context import Context, Outcome, Step, finish, new_conversation, perform, run_request
from satellite.http.encoding import BY_MEDIA_TYPE, WAV, SoundType, encoded, require, wav
from satellite.http.problems import responses
from satellite.http.recordings import BODY, received, transcribed
from satellite.http.schemas import ConversationId, Language, SpeechRequest, SpokenAnswer, SpokenSound, Transcript
from satellite.http.streaming import Streamed
from satellite.pipeline.audio_queue import AudioInbox
from satellite.pipeline.request import RunRequest, Speech
from satellite.tasks import begin_task

_SHORT_CHARACTERS = 80
"""A text that takes some tenths of a second to speak: few readers of WAV bear a file that does not say its length."""

_FORMS = (*BY_MEDIA_TYPE, "application/json")

_SOUND: dict[str, Any] = {
    "description": "The sound, streamed from inside the first sentence on; in JSON whole, as a WAV file",
    "content": {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in BY_MEDIA_TYPE},
}


def routes(context: Context) -> APIRouter:
    """Return the endpoints."""
    router = APIRouter(tags=["speech"])

    @router.post(
        "/stt",
        summary="Understand a recording",
        responses=responses(415, 502, 504),
        response_model=Transcript,
        openapi_extra=BODY,
    )
    async def stt(request: Request, language: Annotated[Language | None, Query()] = None) -> Response:
        """Return what was said in a recording; the text is empty when nobody spoke."""
        pcm = await received(request, context)
        return json_response(await transcribed(context, pcm, language))

    @router.post(
        "/tts", summary="Speak a text", responses={200: _SOUND, **responses(406, 504)}, response_model=SpokenSound
    )
    async def tts(speech: SpeechRequest, request: Request) -> Response:
        """Speak a text, in the form that `Accept` asks for: WAV, raw 16-bit PCM, Ogg/Opus, MP3, or JSON."""
        form = chosen(request.headers.get("accept"), _FORMS)
        check_length(context, speech.text, TextToSpeechError)
        voice = VoiceChoice(speech.voice, speech.language, speech.speaker, strict=True)
        asked = run_request(client_of(request), None, start=Stage.TTS, end=Stage.TTS, text=speech.text, voice=voice)
        if form == "application/json":
            _, sound = await finish(context, asked)
            return json_response({"audio": _whole(sound), "voice": await _voice_name(context, voice)})
        return await streamed(context, asked, BY_MEDIA_TYPE[form], request)

    @router.post(
        "/converse",
        summary="Ask by voice",
        responses={200: _SOUND, **responses(406, 415, 502, 504)},
        response_model=SpokenAnswer,
        openapi_extra=BODY,
    )
    async def converse(
        request: Request,
        conversation_id: Annotated[ConversationId | None, Query()] = None,
        language: Annotated[Language | None, Query()] = None,
    ) -> Response:
        """Answer a voice command by voice; what is said behind the command's end is not heard.

        Sound comes with the headers `Satellite-Conversation-Id` and `Satellite-Heard` (percent-encoded).
        """
        form = chosen(request.headers.get("accept"), _FORMS)
        pcm = await received(request, context)
        conversation = conversation_id or new_conversation()
        asked = run_request(client_of(request), conversation, start=Stage.STT, end=Stage.TTS, language=language)
        inbox = AudioInbox()
        feeding = begin_task(_feed(inbox, pcm), "feed a recording")
        if form == "application/json":
            try:
                outcome, sound = await finish(context, asked, inbox)
            finally:
                feeding.cancel()
            return json_response({**answer(outcome, conversation), "heard": outcome.heard, "audio": _whole(sound)})
        return await streamed(context, asked, BY_MEDIA_TYPE[form], request, inbox, feeding, conversation)

    return router


async def streamed(
    context: Context,
    asked: RunRequest,
    sound: SoundType,
    request: Request,
    inbox: AudioInbox | None = None,
    feeding: asyncio.Task[None] | None = None,
    conversation: str | None = None,
    rate: int | None = None,
) -> Response:
    """Return a response that streams the sound of a run; errors before its first sound are raised.

    A WAV file of a short text, once that is known, comes whole, with its true length.
    """
    require(sound)
    steps = perform(context, asked, inbox)
    outcome = Outcome()
    whole: bytes | None = None
    try:
        first = await _first_sound(steps, outcome)
        if sound == WAV and 0 < len(asked.text or outcome.said) <= _SHORT_CHARACTERS:
            async with aclosing(_sound(first, steps, outcome)) as pieces:
                whole = b"".join([piece async for piece in pieces])
            await _end(steps, feeding)
    except BaseException:
        await _end(steps, feeding)
        raise

    async def body() -> AsyncGenerator[bytes, None]:
        try:
            async with (
                aclosing(_sound(first, steps, outcome)) as pieces,
                aclosing(encoded(pieces, first.format, sound, rate=rate)) as parts,
            ):
                async for part in parts:
                    yield part
        except SatelliteError:  # the log has it; a sound that ends early must not look complete
            request.scope.get("state", {}).get("abort", lambda: None)()
        finally:
            await _end(steps, feeding)

    headers = {"Satellite-Sample-Rate": str(rate or first.format.rate)}
    if conversation is not None:
        headers |= {"Satellite-Conversation-Id": quote(conversation), "Satellite-Heard": quote(outcome.heard)}
    if whole is not None:
        return Response(wav(whole, first.format), headers=headers, media_type=sound.media_type)
    return Streamed(body(), headers=headers, media_type=sound.media_type)


async def _first_sound(steps: AsyncIterator[Step], outcome: Outcome) -> Speech:
    async for step in steps:
        if isinstance(step, Speech):
            return step
        if isinstance(step, TtsEnd) and step.audio_seconds == 0:
            break
        outcome.note(step)
    raise TextToSpeechError("there is nothing to say", kind="empty")


async def _sound(first: Speech, steps: AsyncIterator[Step], outcome: Outcome) -> AsyncGenerator[bytes, None]:
    yield first.pcm
    async for step in steps:
        if isinstance(step, Speech):
            yield step.pcm
        else:
            outcome.note(step)


async def _end(steps: AsyncGenerator[Step, None], feeding: asyncio.Task[None] | None) -> None:
    if feeding is not None:
        feeding.cancel()
    with suppress(RuntimeError):  # it is being iterated: whoever does so is being cancelled, and closes it
        await steps.aclose()


async def _feed(inbox: AudioInbox, pcm: bytes) -> None:
    for at in range(0, len(pcm), BYTES_PER_SECOND):
        await inbox.put(pcm[at : at + BYTES_PER_SECOND])
    inbox.end()


def _whole(sound: list[Speech]) -> dict[str, Any]:
    """Return sound as JSON. Raises `TextToSpeechError` when there is none."""
    if not sound:
        raise TextToSpeechError("there is nothing to say", kind="empty")
    format_: AudioFormat = sound[0].format
    pcm = b"".join(piece.pcm for piece in sound)
    return {
        "content_type": "audio/wav",
        "rate": format_.rate,
        "seconds": round(len(pcm) / (format_.rate * format_.frame_bytes), 3),
        "base64": base64.b64encode(wav(pcm, format_)).decode(),
    }


async def _voice_name(context: Context, choice: VoiceChoice) -> str:
    return (await context.stages.speaker(choice)).voice.name
