"""The sound of an answer in the format that a client wants, piece by piece as it is spoken."""

import asyncio
import struct
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from satellite.audio.pcm import AudioFormat, Converter
from satellite.http.error_codes import HttpError

_UNKNOWN_BYTES = 0xFFFF_FFFF
"""In a WAV header: the length is unknown, read to the end. FFmpeg writes the same into a pipe."""


@dataclass(frozen=True, slots=True)
class SoundType:
    """An audio format."""

    media_type: str
    container: str = ""
    """FFmpeg's name; empty for uncompressed sound, as is `codec`."""

    codec: str = ""
    rate: int | None = None
    """The only sample rate that the codec supports; None for any."""

    options: tuple[tuple[str, str], ...] = ()
    """Options that make FFmpeg write early, and no header that could only be completed at the end."""


WAV = SoundType("audio/wav")
PCM = SoundType("audio/pcm")
OGG = SoundType("audio/ogg", "ogg", "libopus", 48_000, (("page_duration", "20000"),))
MP3 = SoundType("audio/mpeg", "mp3", "libmp3lame", None, (("write_xing", "0"),))
FLAC = SoundType("audio/flac", "flac", "flac")
AAC = SoundType("audio/aac", "adts", "aac")

BY_MEDIA_TYPE = {one.media_type: one for one in (WAV, PCM, OGG, MP3)}


class _Encoder(Protocol):
    def encode(self, pcm: bytes) -> bytes:
        """Return the encoded bytes that `pcm` completes."""

    def finish(self) -> bytes:
        """Return the remaining bytes."""


def require(sound: SoundType) -> None:
    """Raise `HttpError` where FFmpeg lacks the encoder."""
    import av

    if sound.codec and sound.codec not in av.codecs_available:
        raise HttpError(f"there is no encoder for {sound.media_type} here", code="http-not-acceptable")


async def encoded(
    pieces: AsyncIterator[bytes], source: AudioFormat, sound: SoundType, *, rate: int | None = None
) -> AsyncGenerator[bytes, None]:
    """Yield 16-bit mono `pieces` as `sound`; raw PCM has `rate` samples a second, if given."""
    # Encoding takes milliseconds of CPU time, and opening an encoder more: not on the event loop.
    encoder = await asyncio.to_thread(_encoder, source, sound, rate)
    async for pcm in pieces:
        if data := await asyncio.to_thread(encoder.encode, pcm):
            yield data
    if data := await asyncio.to_thread(encoder.finish):
        yield data


def wav(pcm: bytes, source: AudioFormat) -> bytes:
    """Return a whole WAV file."""
    return _wav_header(source, len(pcm)) + pcm


def _encoder(source: AudioFormat, sound: SoundType, rate: int | None) -> _Encoder:
    if sound == WAV:
        return _Wav(source)
    return _Compressed(source, sound) if sound.codec else _Pcm(source, rate or source.rate)


class _Wav:
    def __init__(self, source: AudioFormat) -> None:
        self._header = _wav_header(source, None)

    def encode(self, pcm: bytes) -> bytes:
        header, self._header = self._header, b""
        return header + pcm

    def finish(self) -> bytes:
        return self.encode(b"")


def _wav_header(source: AudioFormat, size: int | None) -> bytes:
    whole, data = (_UNKNOWN_BYTES, _UNKNOWN_BYTES) if size is None else (size + 36, size)
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        whole,
        b"WAVE",
        b"fmt ",
        16,
        1,
        source.channels,
        source.rate,
        source.rate * source.frame_bytes,
        source.frame_bytes,
        8 * source.width,
        b"data",
        data,
    )


class _Pcm:
    def __init__(self, source: AudioFormat, rate: int) -> None:
        self._converter = Converter(source, replace(source, rate=rate))

    def encode(self, pcm: bytes) -> bytes:
        return self._converter.convert(pcm)

    def finish(self) -> bytes:
        return self._converter.flush()


class _Written:
    """A file for FFmpeg to write to, emptied as it grows."""

    def __init__(self) -> None:
        self._data = bytearray()

    def write(self, data: bytes) -> int:
        self._data += data
        return len(data)

    def taken(self) -> bytes:
        data = bytes(self._data)
        self._data.clear()
        return data


class _Compressed:
    def __init__(self, source: AudioFormat, sound: SoundType) -> None:
        import av

        self._source = source
        self._file = _Written()
        rate = sound.rate or source.rate
        options = {"flush_packets": "1", **dict(sound.options)}
        self._container: Any = av.open(self._file, "w", format=sound.container, options=options)
        self._stream: Any = self._container.add_stream(sound.codec, rate=rate, layout="mono")
        context: Any = self._stream.codec_context
        self._resampler = av.AudioResampler(context.format.name, "mono", rate)

    def encode(self, pcm: bytes) -> bytes:
        from av import AudioFrame

        if pcm:
            frame = AudioFrame.from_ndarray(np.frombuffer(pcm, np.int16).reshape(1, -1), format="s16", layout="mono")
            frame.sample_rate = self._source.rate
            self._mux(self._resampler.resample(frame))
        return self._file.taken()

    def finish(self) -> bytes:
        self._mux([*self._resampler.resample(None), None])
        self._container.close()
        return self._file.taken()

    def _mux(self, frames: list[Any]) -> None:
        for frame in frames:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
