"""The sound of an answer in the format that a client wants, piece by piece as it is spoken."""

import asyncio
import io
import threading
import wave
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Any

from satellite.audio.pcm import AudioFormat


@dataclass(frozen=True, slots=True)
class SoundType:
    """An audio format."""

    media_type: str
    container: str
    """FFmpeg's name, as that of `codec`."""

    codec: str
    rate: int | None = None
    """The only sample rate that the codec supports; None for any."""

    options: tuple[tuple[str, str], ...] = ()
    """Options that make FFmpeg write early, and no header that could only be completed at the end."""


# `bitexact` leaves FFmpeg's name out of the header.
WAV = SoundType("audio/wav", "wav", "pcm_s16le", None, (("fflags", "+bitexact"),))
PCM = SoundType("audio/pcm", "s16le", "pcm_s16le")
OGG = SoundType("audio/ogg", "ogg", "libopus", 48_000, (("page_duration", "20000"),))
MP3 = SoundType("audio/mpeg", "mp3", "libmp3lame", None, (("write_xing", "0"),))
FLAC = SoundType("audio/flac", "flac", "flac", None, (("metadata_header_padding", "0"),))
AAC = SoundType("audio/aac", "adts", "aac")

BY_MEDIA_TYPE = {one.media_type: one for one in (WAV, PCM, OGG, MP3)}


async def encoded(
    pieces: AsyncIterator[bytes], source: AudioFormat, sound: SoundType, *, rate: int | None = None
) -> AsyncGenerator[bytes, None]:
    """Yield 16-bit mono `pieces` as `sound`, with `rate` samples a second if given."""
    # Encoding takes milliseconds of CPU time, and opening an encoder more: not on the event loop.
    encoder = await asyncio.to_thread(Encoder, source, sound, rate or sound.rate or source.rate)
    try:
        async for pcm in pieces:
            if data := await asyncio.to_thread(encoder.encode, pcm):
                yield data
        if data := await asyncio.to_thread(encoder.finish):
            yield data
    finally:
        encoder.close()


def wav(pcm: bytes, source: AudioFormat) -> bytes:
    """Return a WAV file, which says its length, unlike one that is streamed."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((source.channels, source.width, source.rate, 0, "NONE", ""))
        out.writeframes(pcm)
    return file.getvalue()


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


class Encoder:
    """Encodes 16-bit sound piece by piece; to be closed."""

    def __init__(self, source: AudioFormat, sound: SoundType, rate: int, *, frame_samples: int | None = None) -> None:
        """Open an encoder of `source` as `sound` at `rate`; this takes milliseconds.

        It keeps back less than a frame, of `frame_samples` where the codec may choose: else what it takes for best.
        """
        import av

        self._source = source
        self._layout = "mono" if source.channels == 1 else "stereo"
        self._file = _Written()
        self._lock = threading.Lock()  # who is cancelled leaves a thread behind, and what it uses must not be freed
        options = {"flush_packets": "1", **dict(sound.options)}
        self._container: Any = av.open(self._file, "w", format=sound.container, options=options)
        size = {} if frame_samples is None else {"frame_size": str(frame_samples), "compression_level": "0"}
        self._stream: Any = self._container.add_stream(sound.codec, rate=rate, layout=self._layout, options=size)
        context: Any = self._stream.codec_context
        self._resampler: Any = av.AudioResampler(context.format.name, self._layout, rate)

    def header(self) -> bytes:
        """Return what every reader of the sound needs first; at most once, before `encode`."""
        self._container.start_encoding()
        return self._file.taken()

    def encode(self, pcm: bytes) -> bytes:
        """Return what becomes of the next whole frames of sound, and of the rest of those before."""
        import numpy as np
        from av import AudioFrame

        if pcm:
            frame = AudioFrame.from_ndarray(
                np.frombuffer(pcm, np.int16).reshape(1, -1), format="s16", layout=self._layout
            )
            frame.sample_rate = self._source.rate
            with self._lock:
                self._mux(self._resampler.resample(frame))
        return self._file.taken()

    def finish(self) -> bytes:
        """Return the end; only `close` may follow."""
        with self._lock:
            self._mux([*self._resampler.resample(None), None])
            self._release()
            return self._file.taken()

    def close(self) -> None:
        """Release what FFmpeg holds, megabytes and threads, once no thread encodes any more; may be called twice."""
        with self._lock:
            self._release()

    def _release(self) -> None:
        if self._container is not None:
            self._container.close()
            # The threads of the codec and of the resampler end with the objects, which this one outlives.
            self._container = self._stream = self._resampler = None

    def _mux(self, frames: list[Any]) -> None:
        for frame in frames:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
