"""Decoding of WAV and FLAC while they come, a frame as soon as it is there, as a device with little memory does."""

import struct
from collections.abc import Iterator
from typing import Any

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from numpy.typing import NDArray

from satellite.audio.pcm import AudioFormat

_SHORTEST_FRAME = 9
_LONGEST_HEADER = 16


class SoundDecoder:
    """Decodes one file to 16-bit PCM of its own rate and channels; raises `ValueError` for what it cannot play."""

    def __init__(self) -> None:
        self.container = ""
        """`wav` or `flac`, once it is known."""

        self.layout: AudioFormat | None = None
        """Known from the head of the file on."""

        self._head = bytearray()
        self._flac: _FlacFrames | None = None

    def decode(self, data: bytes) -> bytes:
        """Take the next part of the file, and return what can be heard by it."""
        if self.layout is None:
            self._head += data
            rest = self._flac_head() if self._head.startswith(b"fLaC") else self._wav_head()
            if rest is None:
                return b""
            data = rest
        if self._flac is not None:
            return self._flac.decode(data)
        self._head += data
        whole = len(self._head) // self.layout.frame_bytes * self.layout.frame_bytes if self.layout else 0
        sound = bytes(self._head[:whole])
        del self._head[:whole]
        return sound

    def finish(self) -> bytes:
        """Return the last sound: the file has ended."""
        return self._flac.finish() if self._flac is not None else b""

    def _wav_head(self) -> bytes | None:
        if len(self._head) >= 12 and (self._head[:4] != b"RIFF" or self._head[8:12] != b"WAVE"):
            raise ValueError(f"neither WAV nor FLAC: {bytes(self._head[:12])!r}")
        at, layout = 12, None
        while len(self._head) >= at + 8:
            kind, size = struct.unpack_from("<4sI", self._head, at)
            if kind == b"data":
                if layout is None or layout.width != 2:
                    raise ValueError(f"WAV of {layout}")
                rest = bytes(self._head[at + 8 :])
                self.container, self.layout = "wav", layout
                self._head.clear()
                return rest
            if kind == b"fmt " and len(self._head) >= at + 24:
                _, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", self._head, at + 8)
                layout = AudioFormat(rate, bits // 8, channels)
            at += 8 + size + size % 2
        return None

    def _flac_head(self) -> bytes | None:
        at, last = 4, False
        while not last:
            if len(self._head) < at + 4:
                return None
            last, size = bool(self._head[at] & 0x80), int.from_bytes(self._head[at + 1 : at + 4], "big")
            at += 4 + size
        if len(self._head) < at:
            return None
        info = bytes(self._head[8:42])
        packed = int.from_bytes(info[10:14], "big")
        self.container, self.layout = "flac", AudioFormat(packed >> 12, 2, (packed >> 9 & 7) + 1)
        self._flac = _FlacFrames(info)
        rest = bytes(self._head[at:])
        self._head.clear()
        return rest


class _FlacFrames:
    """Splits a stream into frames. FFmpeg's parser would do it, but it holds ten frames back, nearly a second."""

    def __init__(self, info: bytes) -> None:
        codec = av.CodecContext.create("flac", "r")
        assert isinstance(codec, AudioCodecContext)
        codec.extradata = info
        codec.thread_count = 1
        self._codec = codec
        self._data = bytearray()
        self._searched = _SHORTEST_FRAME
        self._crc, self._crc_to = 0, 0

    def decode(self, data: bytes) -> bytes:
        self._data += data
        sound = b"".join(self._complete())
        self._crc = _crc16(self._data[self._crc_to :], self._crc)
        self._crc_to = len(self._data)
        if self._data and self._crc == 0:  # most probably the end of a frame: the server writes whole ones
            sound += self._try(len(self._data))
        return sound

    def finish(self) -> bytes:
        return self._try(len(self._data)) if self._data else b""

    def _complete(self) -> Iterator[bytes]:
        while (end := self._next_header()) is not None:
            if sound := self._try(end):
                yield sound
            else:
                self._searched = end + 1

    def _next_header(self) -> int | None:
        at = self._data.find(b"\xff", self._searched)
        while at != -1 and at + _LONGEST_HEADER <= len(self._data):
            if self._data[at + 1] & 0xFE == 0xF8 and _is_header(self._data[at : at + _LONGEST_HEADER]):
                return at
            at = self._data.find(b"\xff", at + 1)
        self._searched = max(_SHORTEST_FRAME, len(self._data) - _LONGEST_HEADER if at == -1 else at)
        return None

    def _try(self, end: int) -> bytes:
        """Decode a frame of `end` bytes; return nothing when it is none."""
        try:
            frames = [frame for frame in self._codec.decode(av.Packet(bytes(self._data[:end])))]
        except av.FFmpegError:
            return b""
        if frames:
            del self._data[:end]
            self._searched, self._crc, self._crc_to = _SHORTEST_FRAME, 0, 0
        return b"".join(_samples(frame) for frame in frames)


def _samples(frame: AudioFrame) -> bytes:
    samples: NDArray[Any] = frame.to_ndarray()
    if frame.format.is_planar:
        samples = samples.T
    return (samples >> 16 if samples.dtype == np.int32 else samples).astype(np.int16).tobytes()


def _table(bits: int, polynomial: int) -> list[int]:
    table = []
    for byte in range(256):
        crc = byte << bits - 8
        for _ in range(8):
            crc = (crc << 1) ^ (polynomial if crc >> bits - 1 else 0)
            crc &= (1 << bits) - 1
        table.append(crc)
    return table


_CRC8 = _table(8, 0x07)
_CRC16 = _table(16, 0x8005)


def _crc16(data: bytes | bytearray, crc: int) -> int:
    for byte in data:
        crc = (crc << 8 & 0xFFFF) ^ _CRC16[crc >> 8 ^ byte]
    return crc


def _is_header(data: bytearray) -> bool:
    """Whether `data` begins with the header of a frame: its number, sizes that follow it, and its checksum."""
    number = data[4]
    size = 5 + (0 if number < 0x80 else 7 - (number ^ 0xFF).bit_length())
    size += {6: 1, 7: 2}.get(data[2] >> 4, 0)
    size += {12: 1, 13: 2, 14: 2}.get(data[2] & 0x0F, 0)
    crc = 0
    for byte in data[:size]:
        crc = _CRC8[crc ^ byte]
    return size < len(data) and crc == data[size]
