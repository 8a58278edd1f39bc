"""The reader of sound files of users and clients: any format of FFmpeg, to canonical PCM."""

import io
import wave
from pathlib import Path

from satellite.audio.pcm import BYTES_PER_SECOND, RATE, read_wav
from satellite.errors import ProtocolError, SatelliteError

SUFFIXES = frozenset(
    (
        *(".wav", ".w64", ".aif", ".aiff", ".au", ".caf", ".ogg", ".oga", ".opus"),
        *(".mp3", ".flac", ".mka", ".webm", ".mp4", ".m4a", ".aac", ".amr"),
    )
)
"""Suffixes of sound files."""

_FORMATS = "wav,w64,aiff,au,caf,ogg,mp3,flac,matroska,webm,mov,mp4,m4a,aac,amr"
"""Plain files only: playlists would make FFmpeg open other files and addresses."""

_OPTIONS = {"format_whitelist": _FORMATS, "protocol_whitelist": ""}

_LONGEST_SECONDS = 3600.0


def read_sound(path: Path, max_seconds: float = _LONGEST_SECONDS) -> bytes:
    """Return the canonical PCM of a sound file; blocking.

    Raises `SatelliteError` (audio-unreadable or audio-too-long), which names the file.
    """
    try:
        try:
            pcm = read_wav(path)  # most files, and without loading FFmpeg
        except (wave.Error, EOFError, ProtocolError):
            return decode(path.read_bytes(), max_seconds)
    except OSError as error:
        raise SatelliteError(f"{path} cannot be read: {error.strerror}", code="audio-unreadable") from error
    except SatelliteError as error:
        raise SatelliteError(f"{path}: {error}", code=error.code) from error
    if len(pcm) > max_seconds * BYTES_PER_SECOND:
        raise SatelliteError(f"{path}: {_too_long(max_seconds)}", code="audio-too-long")
    return pcm


def decode(data: bytes, max_seconds: float) -> bytes:
    """Return the canonical PCM of a sound file's content; blocking.

    Raises `SatelliteError` (audio-unreadable or audio-too-long).
    """
    import av
    import numpy as np
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
            for part in resampler.resample(None):  # what it still holds
                pcm += part.to_ndarray().astype(np.int16).tobytes()
    except (FFmpegError, ValueError, OSError, MemoryError) as error:
        raise ProtocolError(
            f"the sound cannot be read: {type(error).__name__}; expected an audio file such as WAV, Ogg, MP3 or FLAC",
            code="audio-unreadable",
        ) from error
    return bytes(pcm)


def _too_long(max_seconds: float) -> SatelliteError:
    return SatelliteError(f"the recording is longer than {max_seconds:g} s", code="audio-too-long")
