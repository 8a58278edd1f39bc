"""Sound that a client sends: any audio file, or raw PCM, to canonical PCM."""

import asyncio
import io

import numpy as np

from satellite.audio import BYTES_PER_SECOND, RATE, AudioFormat, Converter
from satellite.errors import ProtocolError, SatelliteError

_FORMATS = "wav,w64,aiff,au,caf,ogg,mp3,flac,matroska,webm,mov,mp4,m4a,aac,amr"
"""Plain files: FFmpeg also knows playlists, which make it open other files and addresses."""

_OPTIONS = {"format_whitelist": _FORMATS, "protocol_whitelist": ""}


async def decoded(data: bytes, max_seconds: float) -> bytes:
    """Return the sound of an audio file. Raises `SatelliteError` for what is none, and for one that is too long."""
    return await asyncio.to_thread(_decode, data, max_seconds)


def raw(data: bytes, source: AudioFormat, max_seconds: float) -> bytes:
    """Return raw PCM as canonical PCM. Raises `SatelliteError` when it is too long."""
    if len(data) > max_seconds * source.rate * source.frame_bytes:
        raise _too_long(max_seconds)
    converter = Converter(source)
    return converter.convert(data) + converter.flush()


def _decode(data: bytes, max_seconds: float) -> bytes:
    import av
    from av.error import FFmpegError

    pcm = bytearray()
    try:
        with av.open(io.BytesIO(data), "r", options=_OPTIONS) as container:
            if not container.streams.audio:
                raise ProtocolError("there is no sound in the file", code="audio-unreadable")
            resampler = av.AudioResampler("s16", "mono", RATE)
            for frame in container.decode(audio=0):
                for part in resampler.resample(frame):
                    pcm += part.to_ndarray().astype(np.int16).tobytes()
                if len(pcm) > max_seconds * BYTES_PER_SECOND:
                    raise _too_long(max_seconds)
            for part in resampler.resample(None):
                pcm += part.to_ndarray().astype(np.int16).tobytes()
    except (FFmpegError, ValueError, OSError, MemoryError) as error:
        raise ProtocolError(
            f"the sound cannot be read: {type(error).__name__}; expected an audio file such as WAV, Ogg, MP3 or FLAC",
            code="audio-unreadable",
        ) from error
    return bytes(pcm)


def _too_long(max_seconds: float) -> SatelliteError:
    return SatelliteError(f"the recording is longer than {max_seconds:g} s", code="audio-too-long")
