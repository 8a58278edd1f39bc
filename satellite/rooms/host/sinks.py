"""What the host's sound comes out of: a device, or a file, a pipe or a program in place of one."""

import asyncio
import os
from asyncio.subprocess import DEVNULL, PIPE
from contextlib import suppress
from pathlib import Path

from satellite.audio.pcm import AudioFormat, write_wav
from satellite.config.host import SoundDeviceSettings
from satellite.errors import SatelliteError
from satellite.rooms.host.capture import Pacer
from satellite.rooms.host.devices import open_device, start_device
from satellite.system.child_process import Child, start

_STALL_SECONDS = 2.0
"""A device or program that takes nothing for so long has gone."""

_LEAD_SECONDS = 0.15
"""How far ahead of what is heard a process gets sound, so that a busy moment leaves no gap."""

_RAW_RATE = 22_050
"""That of most voices, and of what Home Assistant sends."""

_WAV_HEADER_BYTES = 44
"""That of `wave`, without chunks of other kinds."""


def sink(settings: SoundDeviceSettings) -> "Sink":
    """Return what `settings` mean."""
    if settings.device is not None:
        return _DeviceSink(settings.device)
    if settings.command:
        return _ProgramSink(settings)
    if settings.file is not None:
        return _WavSink(settings.file) if settings.file.suffix.lower() == ".wav" else _RawSink(settings.file, settings)
    return Sink()


class Sink:
    """Takes 16-bit sound at the pace at which it is heard, one utterance at a time; this one is silent.

    Each method raises `SatelliteError` or `OSError` when the sink cannot be had, or has gone.
    """

    _lead_seconds = 0.0

    def __init__(self, rate: int | None = None) -> None:
        """Take sound at `rate`; None is that of each utterance."""
        self._rate = rate
        self._format = AudioFormat()
        self._pacer = Pacer()

    async def open(self, wanted: AudioFormat) -> AudioFormat:
        """Begin an utterance, in the `wanted` format if that can be, and return the format that it takes."""
        self._format = AudioFormat(self._rate or wanted.rate)
        self._pacer = Pacer(self._lead_seconds)
        return self._format

    async def write(self, pcm: bytes) -> None:
        """Play `pcm`; returns when nearly all of it has been heard."""
        await self._pacer.elapse(len(pcm) / (self._format.rate * self._format.frame_bytes))

    async def finish(self) -> None:
        """End the utterance; returns when its last sample has been heard."""
        await self.close()

    async def close(self) -> None:
        """End the utterance wherever it is, and drop what has not been heard; may be called twice."""

    async def release(self) -> None:
        """Let everything go; may be called twice."""
        await self.close()


class _WavSink(Sink):
    """A WAV file, created by the first utterance; the pauses between utterances are left out."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    async def open(self, wanted: AudioFormat) -> AudioFormat:
        """Begin, or go on; all of the file is in the format of the first utterance."""
        if self._rate is None or not await asyncio.to_thread(self._path.exists):
            self._rate = wanted.rate
            await asyncio.to_thread(write_wav, self._path, b"", AudioFormat(wanted.rate))
        return await super().open(wanted)

    async def write(self, pcm: bytes) -> None:
        """Write; the file is whole after each write."""
        # Shielded: a write that is cut short would leave a header that does not match the sound.
        await asyncio.shield(asyncio.to_thread(self._append, pcm))
        await super().write(pcm)

    def _append(self, pcm: bytes) -> None:
        with self._path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END) + len(pcm)
            file.write(pcm)
            for at, value in ((4, size - 8), (40, size - _WAV_HEADER_BYTES)):  # the two lengths in the header
                file.seek(at)
                file.write(value.to_bytes(4, "little"))


class _RawSink(Sink):
    """Raw audio appended to a file, or written to a named pipe that another program reads."""

    def __init__(self, path: Path, settings: SoundDeviceSettings) -> None:
        super().__init__(settings.rate or _RAW_RATE)
        self._path = path
        self._file = -1

    async def open(self, wanted: AudioFormat) -> AudioFormat:
        """Open the file."""
        # O_NONBLOCK: a pipe that nothing reads is an error at once, rather than a daemon that hangs.
        try:
            self._file = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_APPEND)
        except FileNotFoundError:
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        return await super().open(wanted)

    async def write(self, pcm: bytes) -> None:
        """Write; a pipe that is full is waited for."""
        loop = asyncio.get_running_loop()
        end = loop.time() + _STALL_SECONDS
        rest = memoryview(pcm)
        while rest:
            try:
                rest = rest[os.write(self._file, rest) :]
            except BlockingIOError:
                if loop.time() > end:
                    raise SatelliteError(f"nothing reads {self._path}", code="speaker-gone") from None
                await asyncio.sleep(0.01)
        await super().write(pcm)

    async def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)


class _ProcessSink(Sink):
    """A process for each utterance; when it has ended all has been heard, and when it is killed nothing more is."""

    _lead_seconds = _LEAD_SECONDS

    def __init__(self, name: str, rate: int | None = None) -> None:
        super().__init__(rate)
        self._name = name
        self._process: Child | None = None

    async def write(self, pcm: bytes) -> None:
        """Hand sound to the process."""
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            async with asyncio.timeout(_STALL_SECONDS):
                self._process.stdin.write(pcm)
                await self._process.stdin.drain()
        except (TimeoutError, ConnectionError):
            message = f"{self._name} takes no sound{await self._process.last_error()}"
            raise SatelliteError(message, code="speaker-gone") from None
        await super().write(pcm)

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
            raise SatelliteError(f"{self._name} does not end", code="speaker-gone") from None
        if status:
            message = f"{self._name} ended with status {status}{await process.last_error()}"
            raise SatelliteError(message, code="speaker-gone")

    async def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            await process.end()


class _ProgramSink(_ProcessSink):
    """A program of the user's."""

    def __init__(self, settings: SoundDeviceSettings) -> None:
        super().__init__(settings.label, settings.rate or _RAW_RATE)
        self._command = settings.command

    async def open(self, wanted: AudioFormat) -> AudioFormat:
        """Start the program."""
        self._process = await start(*self._command, stdin=PIPE, stdout=DEVNULL, stderr=PIPE)
        return await super().open(wanted)


class _DeviceSink(_ProcessSink):
    """A device, by PortAudio."""

    def __init__(self, device: str) -> None:
        super().__init__(f"the speaker {device!r}")
        self._device = device
        self._spare: Child | None = None
        """Started in advance, since that takes a quarter of a second."""

    async def open(self, wanted: AudioFormat) -> AudioFormat:
        """Open the device, and start the process of the next utterance."""
        self._process, self._spare = self._spare, None
        if self._process is not None:
            with suppress(SatelliteError):  # it may have been started before the device was there
                return await self._open(self._process, wanted)
            await self.close()
        self._process = await start_device("output", self._device)
        return await self._open(self._process, wanted)

    async def _open(self, process: Child, wanted: AudioFormat) -> AudioFormat:
        self._pacer = Pacer(self._lead_seconds)
        self._format = await open_device(process, wanted.rate)
        self._spare = await start_device("output", self._device)
        return self._format

    async def release(self) -> None:
        """Let the spare process go as well."""
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.kill()  # first: closing may be cancelled
        await self.close()
        if spare is not None:
            await spare.end()
