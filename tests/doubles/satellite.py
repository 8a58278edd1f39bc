"""A room whose satellite does over real TCP what rhasspy/wyoming-satellite 1.4.1 does, until told to misbehave."""

import asyncio
import socket
import struct
import time
from collections import defaultdict, deque
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self

from wyoming.event import Event, async_read_event, async_write_event
from wyoming.ping import Ping, Pong

from satellite.tasks import end_tasks
from tests.doubles.satellite_modes import Listening, Microphone, Settings, Speaker

_REMEMBERED_EVENTS = 10_000
_PING_SECONDS = 2.0
"""Between a pong and its next ping, once it has been pinged."""

_PONG_SECONDS = 5.0
"""How long it waits for a pong before it takes the server for lost; it does not close the connection."""

_BROKEN = {"garbage": b"\x16\x03\x01\x02 no Wyoming \xff\n", "header": b'{"type": "audio-chunk", "data": {"rate": '}


class Received(NamedTuple):
    """An event from a server and when it was read, by `time.monotonic`; its sound, only the speaker keeps."""

    at: float
    type: str
    data: dict[str, Any]


@dataclass(eq=False, kw_only=True)
class ScriptedSatellite(Settings):
    """A satellite to be dialled at `uri`; its fields, those of `Settings` too, may be changed while it runs."""

    port: int = 0
    """Where it listens; 0 becomes a free one at the first start."""

    never_plays: bool = False
    """Never says `played`."""

    refuse: bool = False
    """Belongs to another server: describes itself, and turns away whatever else is sent."""

    hangs_up: bool = True
    """Closes the connection of a server that it turns away; on Python before 3.13 it stays open, without a word."""

    def __post_init__(self) -> None:
        self.microphone = Microphone(self)
        self.speaker = Speaker()
        self.events: deque[Received] = deque(maxlen=_REMEMBERED_EVENTS)
        self._listening = Listening(self, self.send)
        self._unseen: defaultdict[str, deque[Received]] = defaultdict(lambda: deque(maxlen=_REMEMBERED_EVENTS))
        self._news = asyncio.Event()
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._pong = asyncio.Event()
        self._on = False
        self._connected: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}
        self._owner: asyncio.StreamWriter | None = None
        self._cut: asyncio.StreamWriter | None = None
        self._pinging: asyncio.Task[None] | None = None
        self._player: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._reserved = socket.socket()

    @property
    def uri(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def claimed(self) -> bool:
        return self._owner is not None

    @property
    def streaming(self) -> bool:
        return self.claimed and self._listening.streaming_since is not None

    async def __aenter__(self) -> Self:
        """Switch on, in a room where time passes."""
        # Kept, lest while it is switched off another program, or the server that tries to dial it, gets the port.
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.bind(("127.0.0.1", self.port))
        self.port = self._reserved.getsockname()[1]
        await self.start()
        self._own(self._hear())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        await end_tasks(*self._tasks)
        self._reserved.close()

    async def start(self) -> None:
        """Switch on, knowing nothing of what was before."""
        self._on = True
        self._listening = Listening(self, self.send)
        self._player = self._own(self._play())
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def stop(self) -> None:
        """Pull the plug: nobody listens, every connection is reset, the speaker falls silent."""
        if self._server is None or self._player is None:
            return
        self._server.close()
        self._server, self._on = None, False
        self._player.cancel()
        self.thaw()
        self.speaker.cut()
        self.vanish()
        await end_tasks(*self._connected.values())

    async def say(self, pcm: bytes) -> None:
        """Say canonical `pcm` in the room; returns when it is said, whether or not anybody heard it."""
        await self.microphone.say(pcm)

    async def wake(self) -> bool:
        """Detect the wake word in the room; False when the satellite takes no notice."""
        assert self.mode == "wake", "the server detects the wake words of this satellite"
        return self.claimed and not self._hears_nothing and await self._listening.detect()

    async def until(self, *types: str, seconds: float = 120.0) -> Received:
        """Return the next event of one of `types`, each event once; raises `TimeoutError` with what came instead."""
        try:
            async with asyncio.timeout(seconds):
                while not (found := [self._unseen[type_][0] for type_ in types if self._unseen[type_]]):
                    await self._news.wait()
        except TimeoutError:
            came = [event.type for event in self.events][-20:]
            raise TimeoutError(f"{self.name}: no {' or '.join(types)} in {seconds} s, but {came}") from None
        return self._unseen[min(found, key=lambda event: event.at).type].popleft()

    def forget(self) -> None:
        """Let `until` wait for what is yet to come."""
        self._unseen.clear()

    async def send(self, event: Event) -> None:
        """Send the server an event; without a server, nobody."""
        if self._owner is not None:
            await self._write(self._owner, event)

    async def send_broken(self, what: Literal["garbage", "header"]) -> None:
        """Send what is no Wyoming; or an event that is cut off in its header, and nothing after it."""
        if self._owner is not None:
            self._owner.write(_BROKEN[what])
            self._cut = None if what == "garbage" else self._owner

    def hang(self) -> None:
        """Stop reading and writing, as a stopped process does; connections stay, and new ones are made."""
        self._thawed.clear()

    def thaw(self) -> None:
        self._thawed.set()

    def vanish(self) -> None:
        for writer in self._connected:
            with suppress(OSError):  # it was closed already
                no_linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
            writer.transport.abort()
        self._forget(self._owner)

    @property
    def _hears_nothing(self) -> bool:
        return not self._on or not self._thawed.is_set()

    def _own(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self._tasks.add(task := asyncio.create_task(work))
        task.add_done_callback(self._tasks.discard)
        return task

    async def _hear(self) -> None:
        due = time.monotonic()
        while True:
            due += self.microphone.chunk_seconds
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            chunk = self.microphone.record()
            if not self._hears_nothing:
                await self._listening.hear(chunk)

    async def _play(self) -> None:
        while True:
            await self.speaker.next_played()
            if not self.never_plays:
                await self.send(Event("played"))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or not self._on:  # it was accepted, but the plug has been pulled since
            writer.transport.abort()
            return
        self._connected[writer] = task
        # By `stop`; asyncio 3.11 logs it as an error when a connection's task ends cancelled.
        with suppress(OSError, EOFError, asyncio.CancelledError):
            await self._converse(reader, writer)
            self._forget(writer)
            if not self.hangs_up and not reader.at_eof():
                await asyncio.Event().wait()
        self._forget(writer)
        del self._connected[writer]
        writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (event := await async_read_event(reader)) is not None:
            await self._thawed.wait()
            if not await self._take(writer, event):
                return
        await self._thawed.wait()

    async def _take(self, writer: asyncio.StreamWriter, event: Event) -> bool:
        """Take an event; False when it comes from a server that does not have this satellite."""
        if event.type != "describe":
            if self.refuse or self._owner not in (None, writer):
                return False
            self._owner = writer
        self._note(event)
        match event.type:
            case "describe":
                await self._write(writer, Event("info", self._info()))
                return True
            case "ping":
                await self.send(Pong(Ping.from_event(event).text).event())
                self._pinging = self._pinging or self._own(self._ping())
            case "pong":
                self._pong.set()
            case "audio-start" | "audio-chunk" | "audio-stop" if self.has_speaker:
                self.speaker.take(event)
        await self._listening.from_server(event)
        return True

    def _note(self, event: Event) -> None:
        received = Received(time.monotonic(), event.type, event.data)
        self.events.append(received)
        self._unseen[event.type].append(received)
        self._news.set()
        self._news = asyncio.Event()

    def _forget(self, writer: asyncio.StreamWriter | None) -> None:
        if writer is None or self._owner is not writer:
            return
        self._owner = None
        self._listening.server_gone()
        if self._pinging is not None and self._pinging is not asyncio.current_task():
            self._pinging.cancel()
        self._pinging = None

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(_PING_SECONDS)
            self._pong.clear()
            await self.send(Ping().event())
            try:
                async with asyncio.timeout(_PONG_SECONDS):
                    await self._pong.wait()
            except TimeoutError:
                self._forget(self._owner)
                return

    async def _write(self, writer: asyncio.StreamWriter, event: Event) -> None:
        await self._thawed.wait()
        try:
            if writer is not self._cut:
                await async_write_event(event, writer)
        except OSError:
            self._forget(writer)

    def _info(self) -> dict[str, Any]:
        info: dict[str, Any] = {domain: [] for domain in ("asr", "tts", "handle", "intent", "wake")}
        attribution = {"name": "", "url": ""}
        info["satellite"] = {"name": self.name, "attribution": attribution, "installed": True, "version": "1.4.1"}
        return info
