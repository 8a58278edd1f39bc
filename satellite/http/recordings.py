"""Recordings that clients send, and what was said in them."""

import time
from typing import Any

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile

from satellite.audio.pcm import AudioFormat, seconds_of
from satellite.errors import ProtocolError
from satellite.http.context import Context
from satellite.http.decoding import decoded, raw
from satellite.http.http_errors import HttpError
from satellite.system.logs import log_words

_RAW = (b"audio/pcm", b"audio/x-raw")
_MULTIPART = b"multipart/form-data"

BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "An audio file (WAV, Ogg, MP3, FLAC, WebM, MP4 ...), alone or as the field `file` of a form; "
        "or raw little-endian PCM as `audio/pcm`, whose `rate` (16000), `width` (2 bytes) and `channels` (1) may be "
        "given as parameters of the content type.",
        "content": {
            "audio/wav": {"schema": {"type": "string", "format": "binary"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "audio/pcm": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"file": {"type": "string", "format": "binary"}},
                    "required": ["file"],
                }
            },
        },
    }
}
"""What FastAPI cannot tell by itself of an endpoint that takes a recording."""


async def received(request: Request, context: Context) -> bytes:
    """Return the recording in a request as canonical PCM. Raises `SatelliteError` for what is none."""
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    longest = context.settings.max_audio_seconds
    if kind == _MULTIPART:
        return await uploaded(request, context)
    data = await request.body()
    if not data:
        raise HttpError("the request has no body; expected a recording", code="http-invalid")
    if kind in _RAW:
        return raw(data, _format(options), longest)
    return await decoded(data, longest)


async def uploaded(request: Request, context: Context) -> bytes:
    """Return the recording in the field `file` of a form."""
    async with request.form(max_files=1, max_fields=20) as form:
        return await read(form.get("file"), context)


async def read(file: object, context: Context) -> bytes:
    """Return the recording in a file of a form."""
    if not isinstance(file, UploadFile):
        raise HttpError("the form has no file; expected a recording in the field `file`", code="http-invalid")
    return await decoded(await file.read(), context.settings.max_audio_seconds)


async def transcribed(
    context: Context, pcm: bytes, language: str | None, vocabulary: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return what was said in canonical `pcm`, as the endpoints tell it."""
    began = time.monotonic()
    result = await context.stages.transcribe_pcm(pcm, language, vocabulary)
    log_words("http", result.text)
    return {
        "text": result.text,
        "language": result.language,
        "audio_seconds": round(seconds_of(pcm), 3),
        "timings_ms": {"total": round(1000 * (time.monotonic() - began), 1)},
    }


def _format(options: dict[bytes, bytes]) -> AudioFormat:
    try:
        return AudioFormat(
            int(options.get(b"rate", b"16000")), int(options.get(b"width", b"2")), int(options.get(b"channels", b"1"))
        )
    except ValueError:
        raise ProtocolError("rate, width and channels of audio/pcm are whole numbers") from None
