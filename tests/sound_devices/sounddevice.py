"""Stands for the package `sounddevice`: in the folder $SOUND_DEVICES the file `microphone` holds what is recorded,
16 bit at 48 kHz on two channels, and `speaker` gets what is played. A file that is removed is a device that is
unplugged: nothing is said about it, its stream just stops.
"""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_FOLDER = Path(os.environ["SOUND_DEVICES"])
_RATE = 48_000
_FRAME_BYTES = 4
_NAMES = ("microphone", "speaker")
_THERE = [(_FOLDER / name).exists() for name in _NAMES]  # as PortAudio: only what is there at the start is ever seen


class PortAudioError(Exception):
    """A device cannot be used."""


class default:
    """What is used where no device is named."""

    device = tuple(number if there else -1 for number, there in enumerate(_THERE))


def query_hostapis(number: int) -> dict[str, Any]:
    return {"name": "files"}


def query_devices(device: int | str | None = None, kind: str | None = None) -> Any:
    found: list[dict[str, Any]] = [
        {
            "index": number,
            "name": name,
            "hostapi": 0,
            "max_input_channels": 2 * (number == 0),
            "max_output_channels": 2 * (number == 1),
            "default_samplerate": float(_RATE),
        }
        for number, name in enumerate(_NAMES)
        if _THERE[number]
    ]
    if kind is None:
        return found
    wanted = default.device[kind == "output"] if device is None else device
    for one in found:
        if wanted == one["index"] or (isinstance(wanted, str) and wanted in one["name"]):
            return one
    raise ValueError(f"No {kind} device matching {device!r}")


class _Stream:
    latency = 0.01

    def __init__(
        self, *, device: int, samplerate: int, channels: int, dtype: str, blocksize: int, callback: Callable[..., None]
    ) -> None:
        if (samplerate, channels, dtype) != (_RATE, 2, "int16"):
            raise PortAudioError("Invalid sample rate or number of channels")
        self.samplerate, self.channels = float(samplerate), channels
        self._block_bytes = blocksize * _FRAME_BYTES
        self._callback = callback
        self._path = _FOLDER / _NAMES[device]

    def start(self) -> None:
        if not self._path.exists():
            raise PortAudioError("Device unavailable")
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        due = time.monotonic()
        while self._path.exists():
            due += self._block_bytes / _FRAME_BYTES / _RATE
            time.sleep(max(0.0, due - time.monotonic()))
            self._block()

    def _block(self) -> None:
        raise NotImplementedError


class RawInputStream(_Stream):
    """Records, from the file and then silence."""

    _at = 0

    def _block(self) -> None:
        with self._path.open("rb") as file:
            file.seek(self._at)
            data = file.read(self._block_bytes)
        self._at += len(data)
        self._callback(data.ljust(self._block_bytes, b"\0"), 0, None, None)


class RawOutputStream(_Stream):
    """Plays, into the file."""

    def _block(self) -> None:
        out = bytearray(self._block_bytes)
        self._callback(memoryview(out), 0, None, None)
        with self._path.open("r+b") as file:
            file.seek(0, os.SEEK_END)
            file.write(out)
