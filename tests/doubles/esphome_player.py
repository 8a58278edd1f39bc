"""What a device plays: URLs that it fetches itself, or audio that comes over the API, and what was heard when."""

import asyncio
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal, NamedTuple, TypeAlias

import av
import httpx
import numpy as np
from numpy.typing import NDArray

from satellite.audio.pcm import BYTES_PER_SECOND, CANONICAL, RATE, AudioFormat
from satellite.tasks import begin_task, end_tasks
from tests.doubles.esphome_decoding import SoundDecoder

_LOUD = 300
"""The smallest sample that can be heard in the room."""

_AHEAD_SECONDS = 0.5
"""How much decoded sound a device has room for."""

_FETCH_SECONDS = 5.0
"""How long the firmware waits for a server."""

SPEAKER_BUFFER_BYTES = 16 * 1024
_SPEAKER_FIRST_BYTES = 4 * 1024

Waves: TypeAlias = NDArray[np.int16]


class Piece(NamedTuple):
    """Part of a sound, which is played without a gap."""

    at: float
    first: int
    last: int


@dataclass(eq=False)
class Heard:
    """A sound of the device; times are those of `time.monotonic`, and None for what has not happened."""

    url: str
    """Empty for what came over the API."""

    asked_at: float
    announcement: bool = True
    container: str = ""
    layout: AudioFormat = CANONICAL
    fetched_at: float | None = None
    """When the first byte of the file came."""

    loud_at: float | None = None
    """When the first sample that is no silence was heard."""

    loud_came_at: float | None = None
    """When that had come."""

    ended_at: float | None = None
    trouble: str = ""
    pcm: bytearray = field(default_factory=bytearray)
    """16-bit, of `layout`; what is played, and what was to be played when it was stopped."""

    pieces: list[Piece] = field(default_factory=list)
    until: float = 0.0
    """To when what has come so far is played."""

    @property
    def started_at(self) -> float | None:
        """When the first sound was heard, which may be silence."""
        return self.pieces[0].at if self.pieces else None

    @property
    def seconds(self) -> float:
        return len(self.pcm) / self.layout.frame_bytes / self.layout.rate

    @property
    def gap_seconds(self) -> float:
        """For how long the sound was interrupted because nothing had come."""
        played = [piece.at + (piece.last - piece.first) / self.layout.rate for piece in self.pieces]
        return sum(after.at - end for end, after in zip(played, self.pieces[1:], strict=False))

    def take(self, pcm: bytes, now: float) -> None:
        """Play `pcm` as soon as what came before it has been played."""
        if not pcm:
            return
        first = len(self.pcm) // self.layout.frame_bytes
        self.pcm += pcm
        last = len(self.pcm) // self.layout.frame_bytes
        at = max(now, self.until)
        if self.pieces and at <= self.until:
            self.pieces[-1] = self.pieces[-1]._replace(last=last)
        else:
            self.pieces.append(Piece(at, first, last))
        if self.loud_at is None:
            loud = np.flatnonzero(np.abs(np.frombuffer(pcm, np.int16).astype(np.int32)) > _LOUD)
            if loud.size:
                self.loud_at = float(at + loud[0] / self.layout.channels / self.layout.rate)
                self.loud_came_at = now
        self.until = at + (last - first) / self.layout.rate

    def end(self, now: float) -> None:
        self.ended_at = self.until = min(now, self.until) if self.pieces else now

    def waves(self, at: float, samples: int) -> Waves:
        """Return what of it is heard in the room from `at` on, at 16 kHz."""
        times = at + np.arange(samples) / RATE
        room = np.zeros(samples, np.int16)
        for piece in self.pieces[-8:]:
            index = piece.first + ((times - piece.at) * self.layout.rate).astype(np.int64)
            sounds = (index >= piece.first) & (index < piece.last) & (times < self.until)
            if sounds.any():
                first, last = index[sounds].min(), index[sounds].max() + 1
                size = self.layout.frame_bytes
                part = np.frombuffer(self.pcm[first * size : last * size], np.int16)[:: self.layout.channels]
                room[sounds] = part[index[sounds] - first]
        return room


def loud(waves: Waves) -> NDArray[np.bool_]:
    """Return which samples of `waves` can be heard."""
    return np.abs(waves.astype(np.int32)) > _LOUD


@dataclass(eq=False, kw_only=True)
class Fetching:
    """How a device fetches; may be changed while it runs."""

    never_fetches: bool = False
    fetch_bytes_per_second: float = inf
    fetches: int = 1
    """How often it asks for each URL, as players that look at a file's head first do."""

    fetches_from: str = ""
    """Another address of the device; empty is the one by which the server is reached."""

    async def each(self, url: str, take: Callable[[bytes], Any]) -> None:
        """Fetch `url`; raises `httpx.HTTPError`."""
        # As little is on the way as in the device's own TCP stack: what it does not read, the server still holds.
        transport = httpx.AsyncHTTPTransport(
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            local_address=self.fetches_from or None,
            socket_options=[(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)],
        )
        async with httpx.AsyncClient(transport=transport, timeout=_FETCH_SECONDS) as client:
            for _ in range(self.fetches - 1):
                async with client.stream("GET", url) as response:
                    await anext(response.aiter_raw(), b"")
            async with client.stream("GET", url) as response:
                response.raise_for_status()
                async for data in response.aiter_raw():
                    await take(data)
                    await asyncio.sleep(len(data) / self.fetch_bytes_per_second)


class Pipeline:
    """Plays one URL after another; `ended` is called whenever it falls silent."""

    def __init__(self, fetching: Fetching, announcement: bool, ended: Callable[[], None], began: Callable[[], None]):
        self.heard: deque[Heard] = deque(maxlen=1000)
        self.running = asyncio.Event()
        self.running.set()
        self.repeats = False
        """It plays the same again and again, also what comes next."""

        self._fetching, self._announcement = fetching, announcement
        self._ended, self._began = ended, began
        self._urls: deque[str] = deque()
        self._task: asyncio.Task[None] | None = None

    @property
    def current(self) -> Heard | None:
        return self.heard[-1] if self._task is not None and self.heard else None

    @property
    def sounding(self) -> bool:
        """Whether the first sound has come."""
        return self.current is not None and bool(self.current.pieces)

    def play(self, url: str, enqueue: bool) -> None:
        if not enqueue:
            self._cut()
        self._urls.append(url)
        if self._task is None:
            self._task = begin_task(self._play_all(), "player")

    def stop(self) -> None:
        if self._task is not None:
            self._cut()
            self._ended()

    async def close(self) -> None:
        task = self._task
        self._cut()
        if task is not None:
            await end_tasks(task)

    def _cut(self) -> None:
        self._urls.clear()
        if self._task is not None:
            if self.heard and self.heard[-1].ended_at is None:
                self.heard[-1].end(time.monotonic())
            self._task.cancel()
            self._task = None
        self.running.set()

    async def _play_all(self) -> None:
        while self._urls:
            await self._play(self._urls[0])
            if not self.repeats:
                self._urls.popleft()
        self._task = None
        self._ended()

    async def _play(self, url: str) -> None:
        heard = Heard(url, time.monotonic(), self._announcement)
        self.heard.append(heard)
        if self._fetching.never_fetches:
            await asyncio.Event().wait()
        decoder = SoundDecoder()

        async def take(data: bytes) -> None:
            heard.fetched_at = heard.fetched_at or time.monotonic()
            await self._sound(heard, decoder, decoder.decode(data))

        try:
            await self._fetching.each(url, take)
            await self._sound(heard, decoder, decoder.finish())
        except (httpx.HTTPError, ValueError, av.FFmpegError) as error:
            heard.trouble = f"{type(error).__name__}: {error}"
        await asyncio.sleep(heard.until - time.monotonic())
        heard.end(time.monotonic())

    async def _sound(self, heard: Heard, decoder: SoundDecoder, pcm: bytes) -> None:
        if not pcm:
            return
        assert decoder.layout is not None
        await self.running.wait()
        heard.container, heard.layout = decoder.container, decoder.layout
        first = not heard.pieces
        heard.take(pcm, time.monotonic())
        if first:
            self._began()
        await asyncio.sleep(heard.until - time.monotonic() - _AHEAD_SECONDS)


class MediaPlayer:
    """A media player with a pipeline for announcements beside the one for media; `changed` follows its state."""

    def __init__(self, fetching: Fetching, changed: Callable[[], None]) -> None:
        self.volume = 0.5
        self.muted = False
        self.announcements = Pipeline(fetching, True, changed, changed)
        self.media = Pipeline(fetching, False, changed, changed)
        self._changed = changed

    @property
    def state(self) -> Literal["ANNOUNCING", "PAUSED", "PLAYING", "IDLE"]:
        """The firmware's; it announces from the first sound on."""
        if self.announcements.sounding:
            return "ANNOUNCING"
        if not self.media.running.is_set():
            return "PAUSED"
        return "PLAYING" if self.media.sounding else "IDLE"

    def play(self, url: str, *, announcement: bool, enqueue: bool = False) -> None:
        (self.announcements if announcement else self.media).play(url, enqueue)

    def command(self, name: str, announcement: bool) -> None:
        """Do what a `MEDIA_PLAYER_COMMAND_` says."""
        match name:
            case "STOP":
                (self.announcements if announcement else self.media).stop()
            case "REPEAT_ONE" | "REPEAT_OFF":
                (self.announcements if announcement else self.media).repeats = name == "REPEAT_ONE"
            case "PAUSE":
                self.media.running.clear()
            case "PLAY":
                self.media.running.set()
            case "TOGGLE":
                self.command("PLAY" if self.state == "PAUSED" else "PAUSE", announcement)
            case "MUTE" | "UNMUTE":
                self.muted = name == "MUTE"
            case "VOLUME_UP" | "VOLUME_DOWN":
                self.volume = min(1.0, max(0.0, self.volume + (0.05 if name == "VOLUME_UP" else -0.05)))
        self._changed()

    def waves(self, at: float, samples: int) -> Waves:
        """Return what it plays in the room, at 16 kHz."""
        played = np.zeros(samples, np.int32)
        for heard in (self.announcements.current, self.media.current):
            if heard is not None and not self.muted:
                played += heard.waves(at, samples)
        waves: Waves = np.clip(played * self.volume, -32768, 32767).astype(np.int16)
        return waves

    async def close(self) -> None:
        await self.announcements.close()
        await self.media.close()


class ApiSpeaker:
    """A bare speaker, whose 16 kHz PCM comes over the API into a buffer of half a second: what overflows is lost."""

    def __init__(self) -> None:
        self.heard: deque[Heard] = deque(maxlen=1000)
        self.lost_bytes = 0
        """What did not fit into the buffer, or came while there was none."""

        self._before = b""

    def take(self, pcm: bytes) -> None:
        now = time.monotonic()
        if not self.heard or self.heard[-1].ended_at is not None:
            self.heard.append(Heard("", now))
        heard = self.heard[-1]
        waiting = max(0.0, heard.until - now) * BYTES_PER_SECOND + len(self._before)
        if waiting + len(pcm) > SPEAKER_BUFFER_BYTES:
            self.lost_bytes += len(pcm)
            return
        heard.fetched_at = heard.fetched_at or now
        self._before += pcm
        if heard.pieces or len(self._before) > _SPEAKER_FIRST_BYTES:
            self._flush(heard, now)

    async def finish(self) -> None:
        """Return when everything has been played: the stream has ended."""
        if self.heard and self.heard[-1].ended_at is None:
            heard = self.heard[-1]
            self._flush(heard, time.monotonic())
            await asyncio.sleep(heard.until - time.monotonic())
            heard.end(time.monotonic())

    def stop(self) -> None:
        self._before = b""
        if self.heard and self.heard[-1].ended_at is None:
            self.heard[-1].end(time.monotonic())

    def waves(self, at: float, samples: int) -> Waves:
        return self.heard[-1].waves(at, samples) if self.heard else np.zeros(samples, np.int16)

    def _flush(self, heard: Heard, now: float) -> None:
        heard.take(self._before, now)
        self._before = b""
