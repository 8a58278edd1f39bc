"""A plain Wyoming client for tests: send events, collect what comes back, with a bound on every wait."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from wyoming.asr import Transcribe
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.event import Event, Eventable, async_read_event, async_write_event
from wyoming.ping import Ping

from tests.waiting import PATIENCE_SECONDS

START = AudioStart(16000, 2, 1)


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

    async def error(self) -> str:
        """Return the code of the next error."""
        return str((await self.until("error"))[-1].data["code"])

    async def transcript(self) -> str:
        """Return the text of the next transcript."""
        return str((await self.until("transcript"))[-1].data["text"])

    async def transcribed(self, pcm: bytes, request: Transcribe | None = None) -> str:
        """Return the text of a recording that is sent at once."""
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
    """Connect to a port of this machine."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


def chunks(pcm: bytes, size: int = 2048, rate: int = 16000, width: int = 2, channels: int = 1) -> list[AudioChunk]:
    """Return `pcm` as events of so many bytes."""
    return [AudioChunk(rate, width, channels, pcm[at : at + size]) for at in range(0, len(pcm), size)]


def chunk(pcm: bytes) -> AudioChunk:
    """Return canonical `pcm` as one event."""
    return AudioChunk(16000, 2, 1, pcm)


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
