"""One sound on its way to a device that fetches it: encoded as it comes, with silence wherever there is none."""

import asyncio
import random
import time
from array import array
from collections.abc import AsyncIterator, Callable

from satellite.audio.encoding import FLAC, WAV, Encoder
from satellite.audio.pcm import AudioFormat
from satellite.rooms.media import Container

_SOUND_TYPES = {"flac": FLAC, "wav": WAV}

_PIECE_SECONDS = 0.02
"""Of one frame of FLAC, and of silence that is added at a time."""

_AHEAD_SECONDS = 0.04
"""How far silence is sent ahead of playback: any of it delays the sound that comes next, or tears a word apart."""

_MOST_WAITING_SECONDS = 2.0
_MOST_BATCH_SECONDS = 0.1
"""Sound that is encoded at once, on the event loop: about a millisecond."""

_NOISE_LEVEL = 8

_KEPT_BYTES = 256 * 1024
"""What is kept of the beginning, some seconds, for players that look at it before they fetch it to play it."""


class EncodedStream:
    """Implements `MediaStream`; the server that it belongs to sends what it yields."""

    def __init__(self, layout: AudioFormat, container: Container, encoder: Encoder, url: str) -> None:
        """Prepare a stream that is fetched at `url`; `open_encoder` makes its encoder."""
        self.url = url
        self.media_type = _SOUND_TYPES[container].media_type
        self.fetched = asyncio.Event()
        self.over = asyncio.Event()
        """Set once nothing can be fetched any more."""

        self._begun: list[bytes] | None = [encoder.header()]
        """What was sent so far, whole; None once that is too much to be kept."""

        self._begun_bytes = self._sent_bytes = 0
        self._header = self._begun[0]
        self._encoder = encoder
        bytes_per_second = layout.rate * layout.frame_bytes
        self._bytes_per_second = bytes_per_second
        self._silence = _noise(round(layout.rate * _PIECE_SECONDS) * layout.channels)
        self._batch_bytes = round(layout.rate * _MOST_BATCH_SECONDS) * layout.frame_bytes
        self._most_waiting_bytes = _MOST_WAITING_SECONDS * bytes_per_second
        self._waiting = bytearray()
        self._ended = False
        self._changed = asyncio.Event()
        self._taken = asyncio.Event()

    async def write(self, pcm: bytes) -> None:
        """See `MediaStream.write`."""
        while len(self._waiting) > self._most_waiting_bytes and not self.over.is_set():
            self._taken.clear()
            await self._taken.wait()
        if self.over.is_set():
            raise ConnectionError("the device has stopped fetching")
        self._waiting += pcm
        self._changed.set()

    def end(self) -> None:
        """See `MediaStream.end`."""
        self._ended = True
        self._changed.set()

    def abort(self) -> None:
        """See `MediaStream.abort`."""
        self._waiting.clear()
        self.end()
        self.close()

    def close(self) -> None:
        """Nobody fetches any more: release those who write, and the encoder."""
        self._encoder.close()
        self.over.set()
        self._changed.set()
        self._taken.set()

    async def pieces(self, wanted: Callable[[], bool]) -> AsyncIterator[bytes]:
        """Yield the encoded sound while it is `wanted`; to a player that asks again, from its beginning if it is kept.

        Only one may read at a time: an earlier reader must not want any more.
        """
        began, skipped_bytes = time.monotonic(), 0 if self._begun else self._sent_bytes
        for data in self._begun or [self._header]:
            yield data
        while wanted() and not self.over.is_set():
            pcm = bytes(self._waiting[: self._batch_bytes])
            del self._waiting[: len(pcm)]
            if not pcm and self._ended:
                yield self._encoder.finish()
                self.close()
                return
            if pcm:
                self._taken.set()
            else:
                sent_seconds = (self._sent_bytes - skipped_bytes) / self._bytes_per_second
                ahead = sent_seconds - (time.monotonic() - began)
                if ahead >= _AHEAD_SECONDS:
                    await self._more_within(max(ahead - _AHEAD_SECONDS, _PIECE_SECONDS))
                    continue
                pcm = self._silence
            self._sent_bytes += len(pcm)
            if data := self._encoder.encode(pcm):
                self._keep(data)
                yield data

    def _keep(self, data: bytes) -> None:
        self._begun_bytes += len(data)
        if self._begun is not None:
            self._begun.append(data)
            if self._begun_bytes > _KEPT_BYTES:
                self._begun = None

    async def _more_within(self, seconds: float) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass


def _noise(samples: int) -> bytes:
    """Return 16-bit noise that nobody hears, at -77 dBFS, as silence.

    Zeros would be compressed to a few bytes, and a player that reads whole blocks would get none for seconds.
    """
    source = random.Random(0)
    return array("h", (source.randint(-_NOISE_LEVEL, _NOISE_LEVEL) for _ in range(samples))).tobytes()


def open_encoder(layout: AudioFormat, container: Container) -> Encoder:
    """Return the encoder of a stream; opening it takes milliseconds."""
    samples = round(layout.rate * _PIECE_SECONDS)
    return Encoder(layout, _SOUND_TYPES[container], layout.rate, frame_samples=samples)
