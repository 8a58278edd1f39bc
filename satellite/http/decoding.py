"""Sound that a client sends: any audio file, or raw PCM, to canonical PCM."""

import asyncio

from satellite.audio import sound_files
from satellite.audio.pcm import AudioFormat, Converter
from satellite.errors import SatelliteError


async def decoded(data: bytes, max_seconds: float) -> bytes:
    """Return the sound of an audio file. Raises `SatelliteError` for what is none, and for one that is too long."""
    return await asyncio.to_thread(sound_files.decode, data, max_seconds)


def raw(data: bytes, source: AudioFormat, max_seconds: float) -> bytes:
    """Return raw PCM as canonical PCM. Raises `SatelliteError` when it is too long."""
    if len(data) > max_seconds * source.rate * source.frame_bytes:
        raise SatelliteError(f"the recording is longer than {max_seconds:g} s", code="audio-too-long")
    converter = Converter(source)
    return converter.convert(data) + converter.flush()
