"""The host's microphone: a device, or a file, a pipe or a program that stands for one."""

import asyncio
import logging
import os
import stat
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path

from satellite.audio.pcm import BYTES_PER_SECOND, RATE, WIDTH, AudioFormat, Converter, seconds_of
from satellite.audio.sound_files import SUFFIXES, read_sound
from satellite.config.host import SoundDeviceSettings
from satellite.errors import SatelliteError
from satellite.pipeline.audio_queue import AudioInbox
from satellite.rooms.host.capture_process import listen
from satellite.rooms.host.live_sound import LiveSource
from satellite.system.child_process import start

_LOGGER = logging.getLogger(__name__)

_BLOCK_BYTES = 1024
"""32 ms."""

_SLACK_SECONDS = 0.1
"""How much of a delay is caught up with; more is simply late."""

Listen = Callable[[], AsyncGenerator[bytes, None]]


class Pace:
    """Lets time pass as sound does, but for a lead."""

    def __init__(self, lead_seconds: float = 0.0) -> None:
        self._lead_seconds = lead_seconds
        self._due: float | None = None

    async def elapse(self, seconds: float) -> None:
        """Return `seconds` after the last time, at once if it is later than that."""
        now = asyncio.get_running_loop().time()
        self._due = (now if self._due is None else max(self._due, now - _SLACK_SECONDS)) + seconds
        await asyncio.sleep(max(0.0, self._due - self._lead_seconds - now))


def microphone(settings: SoundDeviceSettings) -> Listen:
    """Return what yields canonical audio in real time.

    It raises `SatelliteError` or `OSError` when there is none, or when it has gone; it ends only where no more will
    ever come: at the end of a recording.
    """
    if settings.device is not None:
        name = settings.device
        return lambda: listen(name)
    if settings.command:
        return lambda: _program(settings)
    return lambda: _file(settings)


async def _file(settings: SoundDeviceSettings) -> AsyncGenerator[bytes, None]:
    path = settings.file
    assert path is not None
    if stat.S_ISFIFO((await asyncio.to_thread(path.stat)).st_mode):
        sound = _pipe(path, settings)
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
    pace = Pace()
    for at in range(0, len(pcm), _BLOCK_BYTES):
        block = pcm[at : at + _BLOCK_BYTES]
        await pace.elapse(seconds_of(block))
        yield block


async def _pipe(path: Path, settings: SoundDeviceSettings) -> AsyncGenerator[bytes, None]:
    """Yield what somebody writes into a named pipe."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # returns at once, whether or not anybody writes
    async with aclosing(_live(descriptor, settings)) as sound:
        async for pcm in sound:
            yield pcm


async def _program(settings: SoundDeviceSettings) -> AsyncGenerator[bytes, None]:
    """Yield what a program writes."""
    ours, its = os.pipe()
    try:
        child = await start(*settings.command, stdin=DEVNULL, stdout=its, stderr=PIPE)
    except OSError:
        os.close(ours)
        raise
    finally:
        os.close(its)
    try:
        async with aclosing(_live(ours, settings)) as sound:
            async for pcm in sound:
                yield pcm
    except SatelliteError as error:
        raise SatelliteError(f"{error}{await child.last_words()}", code=error.code) from error
    finally:
        await child.end()


async def _live(descriptor: int, settings: SoundDeviceSettings) -> AsyncGenerator[bytes, None]:
    """Yield raw audio as it comes; what was not taken in time is left out, counted, and told once."""
    converter = Converter(_layout(settings))
    source = LiveSource(descriptor, settings.words, converter.source.rate * WIDTH)
    dropped_bytes = 0
    async with aclosing(source.pieces()) as pieces:
        async for piece in pieces:
            if lost := source.backlog.dropped_bytes - dropped_bytes:
                seconds = lost / (converter.source.rate * WIDTH)
                level = logging.DEBUG if dropped_bytes else logging.WARNING
                _LOGGER.log(level, "the microphone %s: %.1f s could not be heard in time", settings.words, seconds)
                AudioInbox.dropped_in_all_seconds += seconds
                dropped_bytes += lost
            for at in range(0, len(piece), _BLOCK_BYTES):
                yield converter.convert(piece[at : at + _BLOCK_BYTES])


def _layout(settings: SoundDeviceSettings) -> AudioFormat:
    return AudioFormat(settings.rate or RATE)


async def silence(seconds: float) -> AsyncGenerator[bytes, None]:
    """Yield what a room sounds like in which nobody speaks, in real time."""
    pace = Pace()
    left = seconds
    while left > 0:
        block = bytes(BYTES_PER_SECOND // 10)
        await pace.elapse(seconds_of(block))
        left -= seconds_of(block)
        yield block
