"""What the host's sound comes out of: a device, or a file, a pipe or a program that stands for one."""

import asyncio
import os
from asyncio.subprocess import DEVNULL, PIPE
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from satellite.audio.pcm import WIDTH, AudioFormat, write_wav
from satellite.config.host import SoundDeviceSettings
from satellite.errors import SatelliteError
from satellite.rooms.host.capture_process import opened, started
from satellite.rooms.host.microphones import Pace
from satellite.system.child_process import Child, start

_STALL_SECONDS = 2.0
"""What takes nothing for so long is taken for gone, as a device is."""

_LEAD_SECONDS = 0.15
"""How far ahead of what is heard a process gets sound, so that a busy moment leaves no gap."""

_RAW_RATE = 22_050
"""That of most voices, and of what Home Assistant sends."""

_WAV_HEADER_BYTES = 44
"""That of `wave`, without chunks of other kinds."""


class Sink(Protocol):
    """Takes 16-bit sound at the pace at which it is heard, one utterance at a time.

    Each method but `silence` raises `SatelliteError` or `OSError` when it cannot be had, or has gone.
    """

    async def open(self, wanted: AudioFormat) -> AudioFormat:
        """Begin an utterance, in the `wanted` format if that can be, and return the format that it takes."""

    async def write(self, pcm: bytes) -> None:
        """Play `pcm`; returns when nearly all of it has been heard."""

    async def finish(self) -> None:
        """End the utterance; returns when its last sample has been heard."""

    def silence(self) -> None:
        """Drop at once what was written and has not been heard."""

    async def close(self) -> None:
        """End the utterance wherever it is; may be called twice."""

    async def release(self) -> None:
        """Let everything go; may be called twice."""


def sink(settings: SoundDeviceSettings) -> Sink:
    """Return what `settings` mean."""
    if settings.device is not None:
        return DeviceSink(settings.device)
    if settings.command:
        return ProgramSink(settings)
    assert settings.file is not None
    return WavSink(settings.file) if settings.file.suffix.lower() == ".wav" else RawSink(settings.file, settings)


class WavSink:
    """A WAV file, written anew at the first utterance; the pauses between utterances are left out."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._begun = False
        self._format = AudioFormat()
        self._pace = Pace()

    async def open(self, wanted: AudioFormat) -> AudioFormat:
        """Begin, or go on; all of the file is in the format of the first utterance."""
        if not self._begun or not await asyncio.to_thread(self._path.exists):
            self._format = AudioFormat(wanted.rate)
            await asyncio.to_thread(write_wav, self._path, b"", self._format)
            self._begun = True
        self._pace = Pace()
        return self._format

    async def write(self, pcm: bytes) -> None:
        """Write, in real time; the file is whole after each write."""
        await asyncio.shield(asyncio.to_thread(self._append, pcm))
        await self._pace.elapse(len(pcm) / (self._format.rate * WIDTH))

    def _append(self, pcm: bytes) -> None:
        with self._path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END) + len(pcm)
            file.write(pcm)
            for at, value in ((4, size - 8), (40, size - _WAV_HEADER_BYTES)):  # the two lengths in the header
                file.seek(at)
                file.write(value.to_bytes(4, "little"))

    async def finish(self) -> None:
        """All is written."""

    def silence(self) -> None:
        """Nothing waits here."""

    async def close(self) -> None:
        """The next utterance goes behind this one."""

    async def release(self) -> None:
        """There is nothing to let go."""


class RawSink:
    """Raw audio in a file, or in a named pipe that somebody reads."""

    def __init__(self, path: Path, settings: SoundDeviceSettings) -> None:
        self._path = path
        self._format = AudioFormat(settings.rate or _RAW_RATE)
        self._file = -1
        self._pace = Pace()

    async def open(self, wanted: AudioFormat) -> AudioFormat:
        """Open the file behind what is in it."""
        try:
            # Without O_CREAT a pipe that nobody has made stays an error.
            self._file = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_APPEND)
        except FileNotFoundError:
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._pace = Pace()
        return self._format

    async def write(self, pcm: bytes) -> None:
        """Write, in real time."""
        loop = asyncio.get_running_loop()
        end = loop.time() + _STALL_SECONDS
        rest = memoryview(pcm)
        while rest:
            try:
                rest = rest[os.write(self._file, rest) :]
            except BlockingIOError:
                if loop.time() > end:
                    raise SatelliteError(f"nobody reads {self._path}", code="speaker-gone") from None
                await asyncio.sleep(0.01)
        await self._pace.elapse(len(pcm) / (self._format.rate * WIDTH))

    async def finish(self) -> None:
        """All is written."""
        await self.close()

    def silence(self) -> None:
        """Nothing waits here."""

    async def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    async def release(self) -> None:
        """Close the file."""
        await self.close()


class ProcessSink:
    """A process for each utterance; when it has ended all has been heard, and when it is killed nothing more is."""

    def __init__(self, words: str) -> None:
        self._words = words
        self._format = AudioFormat(_RAW_RATE)
        self._process: Child | None = None
        self._pace = Pace()

    def _begin(self, process: Child) -> None:
        self._process = process
        self._pace = Pace(_LEAD_SECONDS)

    async def write(self, pcm: bytes) -> None:
        """Hand sound to the process, in real time but for a lead."""
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            async with asyncio.timeout(_STALL_SECONDS):
                self._process.stdin.write(pcm)
                await self._process.stdin.drain()
        except (TimeoutError, ConnectionError):
            words = f"{self._words} takes no sound{await self._process.last_words()}"
            raise SatelliteError(words, code="speaker-gone") from None
        await self._pace.elapse(len(pcm) / (self._format.rate * self._format.frame_bytes))

    async def finish(self) -> None:
        """Wait for the process's end."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(_LEAD_SECONDS + _STALL_SECONDS):
                status = await process.wait()
        except TimeoutError:
            raise SatelliteError(f"{self._words} does not end", code="speaker-gone") from None
        if status:
            words = f"{self._words} ended with status {status}{await process.last_words()}"
            raise SatelliteError(words, code="speaker-gone")

    def silence(self) -> None:
        """End the process now."""
        if self._process is not None:
            self._process.kill()

    async def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            await process.end()

    async def release(self) -> None:
        """End the process."""
        await self.close()


class ProgramSink(ProcessSink):
    """A program of the user's."""

    def __init__(self, settings: SoundDeviceSettings) -> None:
        super().__init__(settings.words)
        self._command = settings.command
        self._format = AudioFormat(settings.rate or _RAW_RATE)

    async def open(self, wanted: AudioFormat) -> AudioFormat:
        """Start the program."""
        self._begin(await start(*self._command, stdin=PIPE, stdout=DEVNULL, stderr=PIPE))
        return self._format


class DeviceSink(ProcessSink):
    """A device, by PortAudio."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the speaker {name!r}")
        self._name = name
        self._spare: Child | None = None
        """Started ahead, as it takes a quarter of a second."""

    async def open(self, wanted: AudioFormat) -> AudioFormat:
        """Open the device, and start the process of the next utterance."""
        spare, self._spare = self._spare, None
        if spare is not None:
            self._begin(spare)
            with suppress(SatelliteError):  # it may have been started before the device was there
                return await self._open(spare, wanted)
            await self.close()
        process = await started("output", self._name)
        self._begin(process)
        return await self._open(process, wanted)

    async def _open(self, process: Child, wanted: AudioFormat) -> AudioFormat:
        self._format = await opened(process, wanted.rate)
        self._spare = await started("output", self._name)
        return self._format

    async def release(self) -> None:
        """Let the spare process go as well."""
        await self.close()
        spare, self._spare = self._spare, None
        if spare is not None:
            await spare.end()
