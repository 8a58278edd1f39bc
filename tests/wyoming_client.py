"""A plain Wyoming client for tests: send events, collect what comes back, with a bound on every wait."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml
from wyoming.asr import Transcribe
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.event import Event, Eventable, async_read_event, async_write_event
from wyoming.ping import Ping

from tests.waiting import PATIENCE_SECONDS

START = AudioStart(16000, 2, 1)
WRONG: list[Any] = [None, True, 5, -5, 12.5, 1e400, "", "x", [], [5], [[]], {}, {"name": 5}, {"a": {"b": []}}, "\ud800"]
"""Values of every JSON type, for fields that want another one."""
EVENTS: dict[str, dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "data" / "events.yaml").read_text())


class Client:
    """One connection, by `wyoming`'s own reader and writer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *events: Event | Eventable) -> None:
        for event in events:
            await async_write_event(event if isinstance(event, Event) else event.event(), self.writer)

    def write(self, header: dict[str, Any], payload: bytes = b"") -> None:
        """Write an event as it stands, however odd."""
        self.writer.write(json.dumps({**header, "payload_length": len(payload)}).encode() + b"\n" + payload)

    async def read(self) -> Event | None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await async_read_event(self.reader)

    async def until(self, *types: str) -> list[Event]:
        """Return the events up to the first of one of `types`; fails when the connection ends before."""
        events: list[Event] = []
        while True:
            event = await self.read()
            assert event is not None, f"closed after {[e.type for e in events]}"
            events.append(event)
            if event.type in types:
                return events

    async def error(self) -> str:
        return str((await self.until("error"))[-1].data["code"])

    async def transcript(self) -> str:
        return str((await self.until("transcript"))[-1].data["text"])

    async def transcribed(self, pcm: bytes, request: Transcribe | None = None) -> str:
        await self.send(request or Transcribe(language="en"))
        await self.send_audio(pcm)
        return await self.transcript()

    async def pong(self, text: str = "x") -> list[Event]:
        """Ping, and return what comes up to the answer."""
        await self.send(Ping(text=text))
        events = await self.until("pong")
        while events[-1].data.get("text") != text:
            events += await self.until("pong")
        return events

    async def send_audio(self, pcm: bytes, *, rate: int = 16000, width: int = 2, channels: int = 1) -> None:
        """Send audio-start, chunks of 64 ms and audio-stop."""
        shape = {"rate": rate, "width": width, "channels": channels}
        await self.send(AudioStart(**shape), *chunks(pcm, rate // 16 * width * channels, **shape), AudioStop())


@asynccontextmanager
async def connect(port: int) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


def chunks(pcm: bytes, size: int = 2048, rate: int = 16000, width: int = 2, channels: int = 1) -> list[AudioChunk]:
    """Return `pcm` as events of so many bytes."""
    return [AudioChunk(rate, width, channels, pcm[at : at + size]) for at in range(0, len(pcm), size)]


def chunk(pcm: bytes) -> AudioChunk:
    return AudioChunk(16000, 2, 1, pcm)


def types(events: list[Event]) -> list[str]:
    """Return the events' types with runs of audio-chunk as one."""
    found: list[str] = []
    for event in events:
        if event.type != "audio-chunk" or found[-1:] != ["audio-chunk"]:
            found.append(event.type)
    return found


def sound(events: list[Event]) -> bytes:
    return b"".join(event.payload or b"" for event in events if event.type == "audio-chunk")
