"""Decodes a sound file of any format of FFmpeg as it is read; the file may be a stream without an end."""

import ctypes
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from satellite.audio.pcm import AudioFormat
from satellite.errors import SatelliteError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

_FORMATS = "wav,w64,aiff,au,caf,ogg,mp3,flac,matroska,webm,mov,mp4,m4a,aac,amr"
"""Plain files only: playlists would make FFmpeg open other files and addresses."""

_OPTIONS = {"format_whitelist": _FORMATS, "protocol_whitelist": ""}

_RATES = range(8_000, 48_001)
"""Samples a second that are kept as they are."""

_MOST_ALLOCATED_BYTES = 64 * 1024 * 1024
"""The largest piece of memory FFmpeg may take. It takes what a file says that its title or picture has, or what these
expand to, up to 2 GiB; the index of a book of ten hours has 40 MiB."""


class Readable(Protocol):
    """What a decoder reads; with `seek` and `tell` as well, FFmpeg goes back in it where a format needs that."""

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes, as many as `size`; empty at the end."""


class SoundDecoder:
    """Decodes one file to 16-bit mono PCM; every method blocks, and may be called in another thread each time.

    Errors of the file are `SatelliteError`s (`code`); those of reading it pass through.
    """

    def __init__(self, file: Readable, *, rate: int | None = None, code: str, tolerated: int = 0) -> None:
        """Open `file`, to be decoded at `rate`, the file's own without one; up to `tolerated` broken pieces in a row
        are skipped, as a radio has them."""
        import av

        _limit_allocations(Path(av.__file__).parent)
        self._code = code
        self._tolerated = tolerated
        try:
            with ExitStack() as stack:
                self._container = stack.enter_context(av.open(file, "r", options=_OPTIONS))
                if not self._container.streams.audio:
                    raise SatelliteError("there is no sound in the file", code=code)
                own = self._container.streams.audio[0].rate or 0
                self.format = AudioFormat(rate or (own if own in _RATES else _RATES[-1]))
                self._resampler: Any = av.AudioResampler("s16", "mono", self.format.rate)
                stack.pop_all()
        except _foreign() as error:
            raise self._unreadable(error) from error
        self._pieces = self._decoded()

    def read(self) -> bytes:
        """Return the next piece of sound, some hundredths of a second; empty at the end."""
        try:
            return next(self._pieces, b"")
        except _foreign() as error:
            raise self._unreadable(error) from error

    def close(self) -> None:
        """Release what FFmpeg holds, and the file, which is read no more; no thread may decode any longer."""
        self._pieces.close()  # it and this object hold each other
        self._container.close()

    def _decoded(self) -> "Generator[bytes]":
        from av.error import InvalidDataError

        broken = 0
        for packet in self._container.demux(audio=0):
            try:
                frames = packet.decode()
            except InvalidDataError:
                broken += 1
                if broken > self._tolerated:
                    raise
                continue
            broken = 0
            for frame in frames:
                yield from self._resampled(frame)
        yield from self._resampled(None)  # what it still holds

    def _resampled(self, frame: Any) -> "Iterator[bytes]":
        import numpy as np

        for part in self._resampler.resample(frame):
            if part.samples:
                yield part.to_ndarray().astype(np.int16).tobytes()

    def _unreadable(self, error: Exception) -> SatelliteError:
        expected = "expected an audio file such as WAV, Ogg, MP3 or FLAC"
        return SatelliteError(f"the sound cannot be read: {type(error).__name__}; {expected}", code=self._code)


@cache
def _limit_allocations(package: Path) -> None:
    """Limit FFmpeg's allocations in this process, where its libraries came with the wheel of `av`."""
    for library in package.parent.glob("av.libs/libavutil*"):
        ctypes.CDLL(str(library)).av_max_alloc(ctypes.c_size_t(_MOST_ALLOCATED_BYTES))


def _foreign() -> tuple[type[Exception], ...]:
    from av.error import FFmpegError

    return (FFmpegError, ValueError, OSError, MemoryError)
