"""This machine's microphone as canonical audio, by PortAudio (the `mic` extra)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from satellite.audio import RATE
from satellite.errors import SatelliteError

_BLOCK_SAMPLES = 512
_QUEUED_BLOCKS = 64
"""About two seconds; when nobody takes them, the newest are dropped."""


async def listen() -> AsyncIterator[bytes]:
    """Yield audio as it is recorded. Raises `SatelliteError` (no-microphone), which says what is missing."""
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: the package is there, the PortAudio library is not
        raise SatelliteError(
            "no microphone can be used: it needs the Python package sounddevice and PortAudio "
            f"(on Debian or Ubuntu: sudo apt install libportaudio2): {error}",
            code="no-microphone",
        ) from error
    loop = asyncio.get_running_loop()
    blocks: asyncio.Queue[bytes] = asyncio.Queue(_QUEUED_BLOCKS)

    def take(block: bytes) -> None:
        with suppress(asyncio.QueueFull):
            blocks.put_nowait(block)

    def callback(data: object, *_: object) -> None:
        loop.call_soon_threadsafe(take, bytes(data))  # type: ignore[call-overload]  # a CFFI buffer

    try:
        stream = sounddevice.RawInputStream(
            samplerate=RATE, blocksize=_BLOCK_SAMPLES, channels=1, dtype="int16", callback=callback
        )
    except sounddevice.PortAudioError as error:
        raise SatelliteError(f"no microphone can be used: {error}", code="no-microphone") from error
    with stream:
        while True:
            yield await blocks.get()
