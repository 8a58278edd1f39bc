"""A server of sound with every way of misbehaving, over a real socket; and sound files made by FFmpeg."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np

from satellite.audio.encoding import AAC, FLAC, MP3, OGG, WAV, SoundType, encoded
from satellite.audio.pcm import AudioFormat

FORMATS: dict[str, SoundType] = {"wav": WAV, "mp3": MP3, "ogg": OGG, "flac": FLAC, "aac": AAC}

LOUDNESS = 5000.0


async def sound_file(kind: str, seconds: int = 1) -> bytes:
    """Return a tone of `LOUDNESS` as a file of a kind of `FORMATS`."""
    samples = LOUDNESS * 2**0.5 * np.sin(2 * np.pi * 440 * np.arange(seconds * 16_000) / 16_000)

    async def pieces() -> AsyncIterator[bytes]:
        yield samples.astype(np.int16).tobytes()

    return b"".join([data async for data in encoded(pieces(), AudioFormat(16_000), FORMATS[kind])])


class MediaServer:
    """Answers `/KIND.wav` and the like with a file, and every other path with the fault that it names."""

    def __init__(self) -> None:
        self.sent_bytes = 0
        self.hung_up = asyncio.Event()
        self.url = ""

    async def answer(self, path: str, writer: asyncio.StreamWriter) -> None:
        name, _, kind = path.partition("?")[0].strip("/").partition(".")
        ok = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
        match name:
            case "radio":  # without an end, as fast as it is taken
                writer.write(ok + await sound_file("wav"))
                while True:
                    writer.write(bytes(65_536))
                    await writer.drain()
                    self.sent_bytes += 65_536
            case "icy":
                writer.write(b"ICY 200 OK\r\nicy-name: Jazz\r\n\r\n" + await sound_file("mp3"))
            case "joined":  # in the middle of a frame
                writer.write(ok + (await sound_file("mp3", 3))[1000:])
            case "page":
                writer.write(ok + b"<!doctype html><title>Login</title>" * 5000)
            case "playlist":
                writer.write(ok + b"#EXTM3U\n/etc/passwd\n")
            case "http://radio":  # asked as a proxy, for a server outside the house
                writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://192.168.1.1/reboot\r\nContent-Length: 0\r\n\r\n")
            case "pictures":
                writer.write(ok + b"fLaC\0\0\0\x22\x10\0\x10\0" + bytes(6) + b"\x03\xe8\0\xf0" + bytes(20))
                picture = struct.pack(">II9s6I", 3, 9, b"image/png", 0, 1, 1, 24, 0, 1 << 20) + bytes(1 << 20)
                while True:
                    writer.write(b"\6" + len(picture).to_bytes(3) + picture)
                    await writer.drain()
                    self.sent_bytes += len(picture)
            case "loop":
                writer.write(b"HTTP/1.1 302 Found\r\nLocation: /loop\r\nContent-Length: 0\r\n\r\n")
            case "moved":
                writer.write(b"HTTP/1.1 302 Found\r\nLocation: /file.ogg\r\nContent-Length: 0\r\n\r\n")
            case "cut":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + await sound_file("wav"))
            case "silent":
                await asyncio.sleep(3600)
            case "drip":  # so slowly that nothing comes of it
                writer.write(ok)
                for byte in await sound_file("wav"):
                    writer.write(bytes([byte]))
                    await asyncio.sleep(5)
            case "file":
                writer.write(ok + await sound_file(kind))
            case _:
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")


@asynccontextmanager
async def media_server() -> AsyncIterator[MediaServer]:
    server = MediaServer()
    answering: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            await server.answer(request.split()[1].decode(), writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            server.hung_up.set()
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        answering.add(task)
        task.add_done_callback(answering.discard)

    listening = await asyncio.start_server(accept, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listening.close()
        for task in list(answering):
            task.cancel()
        await asyncio.gather(*answering, return_exceptions=True)
