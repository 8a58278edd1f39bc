"""Recordings that clients send, and what was said in them."""

import asyncio
import time

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile

from satellite.audio import sound_files
from satellite.audio.pcm import AudioFormat, Converter, seconds_of
from satellite.errors import ProtocolError, SatelliteError
from satellite.http.context import Context
from satellite.http.error_codes import HttpError
from satellite.http.schemas import Transcript
from satellite.languages import read_yaml
from satellite.system.logs import log_words

_RAW = (b"audio/pcm", b"audio/x-raw")
_MULTIPART = b"multipart/form-data"

BODY = read_yaml("satellite.http", "recordings.yaml")
"""The OpenAPI description of a recording, which FastAPI cannot derive from a raw request."""


async def received(request: Request, context: Context) -> bytes:
    """Return the recording in a request as canonical PCM. Raises `SatelliteError` for what is none."""
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind == _MULTIPART:
        async with request.form(max_files=1, max_fields=20) as form:
            return await uploaded(form.get("file"), context)
    data = await request.body()
    if not data:
        raise HttpError("the request has no body; expected a recording", code="http-invalid")
    if kind in _RAW:
        return _raw(data, _format(options), context.settings.max_audio_seconds)
    return await _decoded(data, context)


async def uploaded(file: object, context: Context) -> bytes:
    """Return the recording in the field `file` of a form as canonical PCM."""
    if not isinstance(file, UploadFile):
        raise HttpError("the form has no file; expected a recording in the field `file`", code="http-invalid")
    return await _decoded(await file.read(), context)


async def transcribed(
    context: Context, pcm: bytes, language: str | None, vocabulary: tuple[str, ...] = ()
) -> Transcript:
    """Return what was said in canonical `pcm`."""
    began = time.monotonic()
    result = await context.stages.transcribe_pcm(pcm, language, vocabulary)
    log_words("http", result.text)
    return Transcript(
        text=result.text,
        language=result.language,
        audio_seconds=round(seconds_of(pcm), 3),
        timings_ms={"total": round(1000 * (time.monotonic() - began), 1)},
    )


async def _decoded(data: bytes, context: Context) -> bytes:
    return await asyncio.to_thread(sound_files.decode, data, context.settings.max_audio_seconds)


def _raw(data: bytes, source: AudioFormat, max_seconds: float) -> bytes:
    if len(data) > max_seconds * source.rate * source.frame_bytes:
        raise SatelliteError(f"the recording is longer than {max_seconds:g} s", code="audio-too-long")
    converter = Converter(source)
    return converter.convert(data) + converter.flush()


def _format(options: dict[bytes, bytes]) -> AudioFormat:
    try:
        return AudioFormat(
            int(options.get(b"rate", b"16000")), int(options.get(b"width", b"2")), int(options.get(b"channels", b"1"))
        )
    except ValueError:
        raise ProtocolError("rate, width and channels of audio/pcm are whole numbers") from None
