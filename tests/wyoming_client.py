"""A plain Wyoming client for tests: send events, collect what comes back, with a bound on every wait."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.event import Event, Eventable, async_read_event, async_write_event

from tests.waiting import PATIENCE_SECONDS


class Client:
    """One connection, by `wyoming`'s own reader and writer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *events: Event | Eventable) -> None:
        """Write events."""
        for event in events:
            await async_write_event(event if isinstance(event, Event) else event.event(), self.writer)

    async def read(self) -> Event | None:
        """Return the next event, None at the end."""
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

    async def send_audio(self, pcm: bytes, *, rate: int = 16000, width: int = 2, channels: int = 1) -> None:
        """Send audio-start, chunks of 64 ms and audio-stop."""
        size = rate // 16 * width * channels
        await self.send(AudioStart(rate=rate, width=width, channels=channels))
        for at in range(0, len(pcm), size):
            await self.send(AudioChunk(rate=rate, width=width, channels=channels, audio=pcm[at : at + size]))
        await self.send(AudioStop())


@asynccontextmanager
async def connect(port: int) -> AsyncIterator[Client]:
    """Connect to a port of this machine."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


def types(events: list[Event]) -> list[str]:
    """Return the events' types with runs of audio-chunk as one."""
    found: list[str] = []
    for event in events:
        if event.type != "audio-chunk" or found[-1:] != ["audio-chunk"]:
            found.append(event.type)
    return found


def sound(events: list[Event]) -> bytes:
    """Return the audio in `events`."""
    return b"".join(event.payload or b"" for event in events if event.type == "audio-chunk")
