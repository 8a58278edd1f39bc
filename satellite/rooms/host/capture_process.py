"""This machine's microphone as canonical audio, by PortAudio (the `mic` extra), in a process of its own."""

import asyncio
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncGenerator

from satellite.audio.pcm import RATE, AudioFormat, Converter
from satellite.errors import SatelliteError
from satellite.rooms.host import portaudio
from satellite.system.child_process import Child, start

_READ_BYTES = 4096

_OPEN_SECONDS = 5.0
_STALL_SECONDS = 2.0
"""A device that gives nothing for so long has gone."""


async def listen(name: str = "default") -> AsyncGenerator[bytes, None]:
    """Yield audio as it is recorded. Raises `SatelliteError`: when there is none, saying why, and when it has gone.

    What nobody takes fills two pipes, a few seconds; after that the device drops what it records.
    """
    process = await started("input", name)
    try:
        layout = await opened(process, RATE)
        converter = Converter(layout)
        assert process.stdout is not None
        while True:
            try:
                async with asyncio.timeout(_STALL_SECONDS):
                    data = await process.stdout.read(_READ_BYTES)
            except TimeoutError:
                data = b""
            if not data:
                raise SatelliteError(f"the microphone {name!r} gives no sound", code="microphone-gone")
            yield converter.convert(data)
    finally:
        await process.end()


async def started(direction: str, name: str) -> Child:
    """Return a process that is ready to open a device."""
    # What the libraries below PortAudio print is for nobody.
    return await start(*portaudio.child(direction, name), stdin=PIPE, stdout=PIPE, stderr=DEVNULL)


async def opened(process: Child, rate: int) -> AudioFormat:
    """Let a process open its device, at `rate` if it can be, and return the format. Raises `SatelliteError`."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_OPEN_SECONDS):
            process.stdin.write(f"{rate}\n".encode())
            line = (await process.stdout.readline()).decode()
    except (TimeoutError, ConnectionError):
        line = ""
    match line.split(maxsplit=2):
        case ["ok", own_rate, channels]:
            return AudioFormat(int(own_rate), 2, int(channels))
        case ["error", code, words]:
            raise SatelliteError(words.strip(), code=code)
        case _:
            raise SatelliteError("a sound device does not open", code="no-sound-device")
