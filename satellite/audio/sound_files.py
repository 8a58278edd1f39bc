"""The reader of sound files of users and clients: any format of FFmpeg, to canonical PCM."""

import io
import wave
from pathlib import Path

from satellite.audio.decoder import SoundDecoder
from satellite.audio.pcm import BYTES_PER_SECOND, RATE, read_wav
from satellite.errors import ProtocolError, SatelliteError

SUFFIXES = frozenset(
    (
        *(".wav", ".w64", ".aif", ".aiff", ".au", ".caf", ".ogg", ".oga", ".opus"),
        *(".mp3", ".flac", ".mka", ".webm", ".mp4", ".m4a", ".aac", ".amr"),
    )
)
"""Suffixes of sound files."""

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
    decoder = SoundDecoder(io.BytesIO(data), rate=RATE, code="audio-unreadable")
    try:
        pcm = bytearray()
        while piece := decoder.read():
            pcm += piece
            if len(pcm) > max_seconds * BYTES_PER_SECOND:
                raise _too_long(max_seconds)
    finally:
        decoder.close()
    return bytes(pcm)


def _too_long(max_seconds: float) -> SatelliteError:
    return SatelliteError(f"the recording is longer than {max_seconds:g} s", code="audio-too-long")
