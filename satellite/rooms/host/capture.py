"""The host's microphone: a device, or a file, a pipe or a program in place of one.

A pipe or a program does not wait for its reader: a thread reads it, so that each piece is stamped when it arrives,
however busy the event loop is. After a short stall the reader gets all that has arrived meanwhile at once, and misses
nothing; after a longer one it goes on with the most recent sound. Without the limit, a room that fell behind once would
answer late for as long as it runs.
"""

import asyncio
import logging
import os
import select
import stat
import threading
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from pathlib import Path

from satellite.audio.pcm import BYTES_PER_SECOND, RATE, WIDTH, AudioFormat, Converter, seconds_of
from satellite.audio.sound_files import SUFFIXES, read_sound
from satellite.clock import monotonic
from satellite.config.host import SoundDeviceSettings
from satellite.errors import SatelliteError
from satellite.pipeline.audio_queue import AudioInbox
from satellite.rooms.host.devices import open_device, start_device
from satellite.system.child_process import start

_LOGGER = logging.getLogger(__name__)

_BLOCK_BYTES = 1024
"""32 ms."""

_SLACK_SECONDS = 0.1
"""How much of a delay is caught up with; more is simply late."""

_DEVICE_READ_BYTES = 4096

LATE_SECONDS = 2.0
"""How old a piece may be when it is taken. Loading a model holds the loop up for less, and no command is to lose words
to that; what was said longer ago is answered too late to be of use."""

_STALL_SECONDS = 2.0
"""A source that gives nothing for so long has gone."""

_CATCH_UP_RATE = 1.1
"""How much faster than in real time sound is taken: no clock that records is off by as much, and a program that could
give an hour at once is slowed down."""

_LEAST_SECONDS = 0.02
"""How much is read at once at least, as far as it is there."""

_MOST_SECONDS = 10.0
"""How much may come at once of what could not come before."""

_POLL_SECONDS = 0.1
"""How often the thread checks whether it is to end."""

_READ_BYTES = 1 << 16


def capture(settings: SoundDeviceSettings) -> AsyncGenerator[bytes, None]:
    """Yield canonical audio in real time.

    Raises `SatelliteError` or `OSError` when there is none, saying why, or when it has gone; ends only where no more
    will ever come: at the end of a recording.
    """
    if settings.device is not None:
        return _device(settings.device)
    return _program(settings) if settings.command else _file(settings)


async def silence(seconds: float) -> AsyncGenerator[bytes, None]:
    """Yield what a room sounds like in which nobody speaks, in real time."""
    pacer = Pacer()
    left = seconds
    while left > 0:
        block = bytes(BYTES_PER_SECOND // 10)
        await pacer.elapse(seconds_of(block))
        left -= seconds_of(block)
        yield block


class Pacer:
    """Waits as long as sound takes to be heard, less a lead."""

    def __init__(self, lead_seconds: float = 0.0) -> None:
        self._lead_seconds = lead_seconds
        self._due: float | None = None

    async def elapse(self, seconds: float) -> None:
        """Return `seconds` after the previous return, at once if it is later than that."""
        now = asyncio.get_running_loop().time()
        self._due = (now if self._due is None else max(self._due, now - _SLACK_SECONDS)) + seconds
        await asyncio.sleep(max(0.0, self._due - self._lead_seconds - now))


async def _device(name: str) -> AsyncGenerator[bytes, None]:
    """Yield what a device records. What is not taken fills two pipes, a few seconds; then its process drops it."""
    process = await start_device("input", name)
    try:
        layout = await open_device(process, RATE)
        converter = Converter(layout)
        assert process.stdout is not None
        while True:
            try:
                async with asyncio.timeout(_STALL_SECONDS):
                    data = await process.stdout.read(_DEVICE_READ_BYTES)
            except TimeoutError:
                data = b""
            if not data:
                raise SatelliteError(f"the microphone {name!r} gives no sound", code="microphone-gone")
            yield converter.convert(data)
    finally:
        await process.end()


async def _file(settings: SoundDeviceSettings) -> AsyncGenerator[bytes, None]:
    path = settings.file
    assert path is not None
    if stat.S_ISFIFO((await asyncio.to_thread(path.stat)).st_mode):
        # Returns at once, whether or not anybody writes.
        sound = _live(os.open(path, os.O_RDONLY | os.O_NONBLOCK), settings)
    else:
        sound = _recording(await asyncio.to_thread(_read, path, settings))
    async with aclosing(sound):
        async for pcm in sound:
            yield pcm


def _read(path: Path, settings: SoundDeviceSettings) -> bytes:
    if path.suffix.lower() in SUFFIXES:
        return read_sound(path)
    converter = Converter(_layout(settings))
    return converter.convert(path.read_bytes()) + converter.flush()


async def _recording(pcm: bytes) -> AsyncGenerator[bytes, None]:
    pacer = Pacer()
    for at in range(0, len(pcm), _BLOCK_BYTES):
        block = pcm[at : at + _BLOCK_BYTES]
        await pacer.elapse(seconds_of(block))
        yield block


async def _program(settings: SoundDeviceSettings) -> AsyncGenerator[bytes, None]:
    """Yield what a program writes."""
    # A pipe of our own, not asyncio's: it is read by a thread, also while the event loop is blocked.
    ours, its = os.pipe()
    try:
        child = await start(*settings.command, stdin=DEVNULL, stdout=its, stderr=PIPE)
    except BaseException:  # also a cancellation: nobody else knows the pipe
        os.close(ours)
        raise
    finally:
        os.close(its)
    try:
        async with aclosing(_live(ours, settings)) as sound:
            async for pcm in sound:
                yield pcm
    except SatelliteError as error:
        raise SatelliteError(f"{error}{await child.last_error()}", code=error.code) from error
    finally:
        await child.end()


async def _live(descriptor: int, settings: SoundDeviceSettings) -> AsyncGenerator[bytes, None]:
    """Yield raw audio as it comes; what was not taken in time is left out, counted, and logged once as a warning."""
    converter = Converter(_layout(settings))
    bytes_per_second = converter.source.rate * WIDTH
    source = LiveSource(descriptor, settings.label, bytes_per_second)
    dropped_bytes = 0
    # In small blocks: what follows works on blocks of about this size, and a backlog may come as one large piece.
    async with aclosing(source.pieces()) as pieces:
        async for piece in pieces:
            if lost := source.backlog.dropped_bytes - dropped_bytes:
                level = logging.DEBUG if dropped_bytes else logging.WARNING
                seconds = lost / bytes_per_second
                _LOGGER.log(level, "the microphone %s: %.1f s could not be heard in time", settings.label, seconds)
                AudioInbox.dropped_in_all_seconds += seconds
                dropped_bytes += lost
            for at in range(0, len(piece), _BLOCK_BYTES):
                yield converter.convert(piece[at : at + _BLOCK_BYTES])


def _layout(settings: SoundDeviceSettings) -> AudioFormat:
    return AudioFormat(settings.rate or RATE)


class Backlog:
    """The pieces that wait, each with when it came; one thread puts, and one takes."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.dropped_bytes = 0
        """What nobody has taken in time."""

        self._clock = clock
        self._lock = threading.Lock()
        self._pieces: deque[tuple[float, bytes]] = deque()

    def put(self, piece: bytes) -> None:
        """Add what has just come."""
        with self._lock:
            self._drop()
            self._pieces.append((self._clock(), piece))

    def take(self) -> bytes | None:
        """Return the oldest piece that is not too old; None when nothing waits."""
        with self._lock:
            self._drop()
            return self._pieces.popleft()[1] if self._pieces else None

    def _drop(self) -> None:
        oldest = self._clock() - LATE_SECONDS
        while self._pieces and self._pieces[0][0] < oldest:
            self.dropped_bytes += len(self._pieces.popleft()[1])


class LiveSource:
    """What comes out of a pipe at `bytes_per_second`."""

    def __init__(self, descriptor: int, name: str, bytes_per_second: int) -> None:
        """Own the pipe `descriptor`; it is closed when `pieces` is."""
        self.backlog = Backlog()
        self._descriptor = descriptor
        self._name = name
        self._bytes_per_second = bytes_per_second
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Event()
        self._ended = asyncio.Event()
        self._stop = threading.Event()

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yield the sound as it comes. Raises `SatelliteError` when it ends, or when nothing comes for a while."""
        threading.Thread(target=self._read, name="microphone", daemon=True).start()
        try:
            while True:
                self._arrived.clear()
                ended = self._ended.is_set()
                while (piece := self.backlog.take()) is not None:
                    yield piece
                if ended or not await self._more():
                    raise SatelliteError(f"the microphone {self._name} gives no sound", code="microphone-gone")
        finally:
            self._stop.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(_STALL_SECONDS):
                    await self._ended.wait()

    async def _more(self) -> bool:
        """Wait for the next piece; False where none arrives for a while."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_STALL_SECONDS):
                await self._arrived.wait()
        return self._arrived.is_set()  # set also when the loop was so busy that piece and timeout came at once

    def _read(self) -> None:
        """Put what arrives into the backlog until it ends or `_stop` is set; runs in the thread."""
        try:
            self._read_paced()
        except OSError as error:
            _LOGGER.debug("the microphone %s: %s", self._name, error)
        finally:
            os.close(self._descriptor)
            self._set(self._ended)

    def _read_paced(self) -> None:
        allowed_seconds, checked_at, rest = _LEAST_SECONDS, time.monotonic(), b""
        while not self._stop.is_set():
            now = time.monotonic()
            allowed_seconds = min(allowed_seconds + _CATCH_UP_RATE * (now - checked_at), _MOST_SECONDS)
            checked_at = now
            if allowed_seconds < _LEAST_SECONDS:
                self._stop.wait(_LEAST_SECONDS - allowed_seconds)
                continue
            if not select.select([self._descriptor], [], [], _POLL_SECONDS)[0]:
                continue
            data = os.read(self._descriptor, min(int(allowed_seconds * self._bytes_per_second), _READ_BYTES))
            if not data:
                return
            allowed_seconds -= len(data) / self._bytes_per_second
            data = rest + data
            whole = len(data) // WIDTH * WIDTH  # what is dropped must be whole samples
            rest = data[whole:]
            self.backlog.put(data[:whole])
            self._set(self._arrived)

    def _set(self, event: asyncio.Event) -> None:
        with suppress(RuntimeError):  # the loop is closed: nothing waits any more
            self._loop.call_soon_threadsafe(event.set)
