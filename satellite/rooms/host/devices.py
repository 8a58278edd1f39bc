"""This machine's sound devices, by PortAudio (the `mic` extra).

A device is used by a process of its own, `python -m satellite.rooms.host.devices`: PortAudio knows only the devices
of when it was started, and a call about one that was unplugged may never return. A process that hangs is killed, and
the next one sees what is there by then.

The process reads a line with the sample rate that is wanted, and answers by a line: `ok RATE CHANNELS`, or
`error CODE MESSAGE`. Then it writes, or reads, 16-bit audio in that format. At the end of its input a speaker plays
what it has, and ends with status 0.
"""

import asyncio
import os
import queue
import sys
import threading
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal, TypedDict

from satellite.audio.pcm import AudioFormat
from satellite.errors import SatelliteError
from satellite.system.child_process import Child, start

Direction = Literal["input", "output"]

_OPEN_SECONDS = 5.0

_BLOCK_SECONDS = 0.02
_QUEUED_BLOCKS = 100
_AHEAD_SECONDS = 0.06
"""Sound that waits for the device, so that it never waits for us."""


def library() -> Any:
    """Return the module `sounddevice`. Raises `SatelliteError` (no-portaudio), which says what is missing."""
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: the package is there, the PortAudio library is not
        raise SatelliteError(
            "no sound device can be used: it needs the Python package sounddevice (for the service: sudo ./install.sh "
            "--upgrade --microphone; in a clone: .venv/bin/pip install -e '.[mic]') and PortAudio (on Debian or "
            f"Ubuntu: sudo apt install libportaudio2): {error}",
            code="no-portaudio",
        ) from error
    return sounddevice


class DeviceInfo(TypedDict):
    """One sound device, by what the configuration may call it, and in its own format."""

    number: int
    name: str
    host_api: str
    rate: int
    channels: int
    default: bool


def list_devices() -> dict[str, list[DeviceInfo]]:
    """Return `microphones` and `speakers`, fit for JSON. Raises `SatelliteError` (no-portaudio)."""
    sounddevice = library()
    default = list(sounddevice.default.device)
    found: dict[str, list[DeviceInfo]] = {"microphones": [], "speakers": []}
    for device in sounddevice.query_devices():
        for side, (kind, direction) in enumerate((("microphones", "input"), ("speakers", "output"))):
            if channels := device[f"max_{direction}_channels"]:
                found[kind].append(
                    {
                        "number": device["index"],
                        "name": device["name"],
                        "host_api": sounddevice.query_hostapis(device["hostapi"])["name"],
                        "rate": round(device["default_samplerate"]),
                        "channels": channels,
                        "default": device["index"] == default[side],
                    }
                )
    return found


async def start_device(direction: Direction, name: str) -> Child:
    """Return a process that is ready to open the device called `name`."""
    # Standard error is dropped: ALSA and JACK below PortAudio print to it about devices that nobody asked for.
    command = (sys.executable, "-P", "-m", "satellite.rooms.host.devices", direction, name)
    return await start(*command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL)


async def open_device(process: Child, rate: int) -> AudioFormat:
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
        case ["error", code, message]:
            raise SatelliteError(message.strip(), code=code)
        case _:
            raise SatelliteError("a sound device does not open", code="no-sound-device")


def main() -> int:
    """Use a device: what the process does."""
    direction, name = sys.argv[1:]
    try:
        sounddevice = library()
        wanted = int(sys.stdin.buffer.readline() or b"0")
        if not wanted:
            return 0  # nobody needs it any more
        device: _InputStream | _OutputStream = _InputStream() if direction == "input" else _OutputStream()
        stream = _opened(sounddevice, direction, name, wanted, device.callback)
    except SatelliteError as error:
        _report(f"error {error.code} {error}")
        return 1
    _report(f"ok {round(stream.samplerate)} {stream.channels}")
    device.run(stream)
    return 0


class _InputStream:
    """Blocks on their way from PortAudio's thread to standard output; when they are too many, the oldest go."""

    def __init__(self) -> None:
        self._blocks: queue.Queue[bytes] = queue.Queue(_QUEUED_BLOCKS)

    def callback(self, data: Any, *_: object) -> None:
        """Take a block, in PortAudio's thread."""
        if self._blocks.full():
            with suppress(queue.Empty):
                self._blocks.get_nowait()
        with suppress(queue.Full):
            self._blocks.put_nowait(bytes(data))

    def run(self, stream: Any) -> None:
        """Write what is recorded, until nobody reads it."""
        while True:
            sys.stdout.buffer.write(self._blocks.get())
            sys.stdout.buffer.flush()


class _OutputStream:
    """Sound on its way from standard input to PortAudio's thread."""

    def __init__(self) -> None:
        self._sound = bytearray()
        self._taken = threading.Condition()

    def callback(self, out: Any, *_: object) -> None:
        """Fill a block, in PortAudio's thread."""
        with self._taken:
            piece = bytes(self._sound[: len(out)])
            del self._sound[: len(out)]
            self._taken.notify()
        out[:] = piece + bytes(len(out) - len(piece))

    def run(self, stream: Any) -> None:
        """Play what comes; returns when all of it has been heard."""
        frame_bytes = 2 * stream.channels
        ahead_bytes = round(_AHEAD_SECONDS * stream.samplerate) * frame_bytes
        block_bytes = round(_BLOCK_SECONDS * stream.samplerate) * frame_bytes
        while data := sys.stdin.buffer.read(block_bytes):
            with self._taken:
                self._sound += data[: len(data) // frame_bytes * frame_bytes]
                self._taken.wait_for(lambda: len(self._sound) <= ahead_bytes)
        with self._taken:
            self._taken.wait_for(lambda: not self._sound)
        time.sleep(stream.latency + _BLOCK_SECONDS)


def _opened(sounddevice: Any, direction: str, name: str, wanted: int, callback: Callable[..., None]) -> Any:
    """Start a device, in its own rate and channels if it refuses one channel at the `wanted` rate."""
    kind = sounddevice.RawInputStream if direction == "input" else sounddevice.RawOutputStream
    device: Any = int(name) if name.isdigit() else None if name == "default" else name
    reason = ""
    try:
        found = sounddevice.query_devices(device, direction)
        own = round(found["default_samplerate"])
        for rate, channels in ((wanted, 1), (own, 1), (own, 2)):
            try:
                # By callback, since reading and writing corrupt memory where PortAudio 19.6 uses JACK.
                stream = kind(
                    device=found["index"],
                    samplerate=rate,
                    channels=channels,
                    dtype="int16",
                    blocksize=round(_BLOCK_SECONDS * rate),
                    callback=callback,
                )
                stream.start()
            except sounddevice.PortAudioError as error:
                reason = reason or str(error)
            else:
                return stream
    except (sounddevice.PortAudioError, ValueError) as error:
        reason = "there is none" if name == "default" else str(error)
    what = "microphone" if direction == "input" else "speaker"
    raise SatelliteError(
        f"the {what} {name!r} cannot be used: {reason.splitlines()[0]}; `satellite rooms devices` lists those that can",
        code=f"no-{what}",
    )


def _report(line: str) -> None:
    sys.stdout.buffer.write(f"{line}\n".encode())
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    try:
        status = main()
    except (BrokenPipeError, KeyboardInterrupt):  # the daemon has gone
        status = 1
    os._exit(status)  # closing a device may take long, or for ever; the system does it at once
