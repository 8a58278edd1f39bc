"""For the host's own room: somebody who speaks into a pipe, a speaker that is a file, and what was understood."""

import asyncio
import os
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from satellite.audio.pcm import BYTES_PER_SECOND
from satellite.config.settings import Config
from satellite.rooms.arbitration import Arbiter
from satellite.rooms.device import RoomContext
from satellite.rooms.host.host_room import HostRoom
from satellite.tasks import end_tasks
from tests.running_daemon import RunningDaemon
from tests.waiting import until

QUIETLY = bytes(BYTES_PER_SECOND)
_BLOCK_SECONDS = 0.032
_TONE = np.random.default_rng(0).normal(0, 8, int(16_000 * _BLOCK_SECONDS)).astype(np.int16).tobytes()


class Mouth:
    """Somebody in the room, heard through a named pipe; the room's own noise while nobody speaks."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.plugged = True
        """Whether the pipe is written to."""

        self._speech = b""
        self._pipe = -1

    async def say(self, pcm: bytes) -> None:
        """Speak; returns when it is said."""
        self._speech += pcm
        await until(lambda: not self._speech)

    async def write(self) -> None:
        """Write sound in real time until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        try:
            while True:
                due = max(due, loop.time() - 0.1) + _BLOCK_SECONDS
                await asyncio.sleep(due - loop.time())
                if self.plugged and self._pipe < 0:
                    with suppress(OSError):  # nobody listens yet
                        self._pipe = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
                if not self.plugged:
                    self._close()
                if self._pipe >= 0:
                    self._write_block()
        finally:
            self._close()

    def _write_block(self) -> None:
        block, self._speech = self._speech[: len(_TONE)] or _TONE, self._speech[len(_TONE) :]
        try:
            os.write(self._pipe, block)
        except BlockingIOError:
            pass
        except BrokenPipeError:
            self._close()

    def _close(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
        self._pipe = -1


@asynccontextmanager
async def speaking(path: Path) -> AsyncIterator[Mouth]:
    os.mkfifo(path)
    mouth = Mouth(path)
    async with running(mouth.write()):
        yield mouth


@asynccontextmanager
async def running(*works: Any) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(work) for work in works]
    try:
        yield
    finally:
        await end_tasks(*tasks)


def host_room(context: RoomContext, microphone: Any, speaker: Any = None, /, **settings: Any) -> HostRoom:
    """Return the host's room with these devices, called study."""
    room = {"name": "study", "area": "Study", **settings}
    config = Config.model_validate({"microphone": microphone, "speaker": speaker, "host_room": room})
    return HostRoom(config.host_room, config.microphone, config.speaker, context)


@asynccontextmanager
async def living(
    daemon: RunningDaemon, microphone: Any, speaker: Any = None, **settings: Any
) -> AsyncIterator[HostRoom]:
    context = RoomContext(daemon.daemon._stages, daemon.daemon.bus, Arbiter(0.3))
    room = host_room(context, microphone, speaker, **settings)
    async with running(room.run()):
        yield room


def sound_seconds(path: Path) -> float:
    """Return how much has come out of a speaker that is a WAV file."""
    if not path.exists() or path.stat().st_size < 44:
        return 0.0
    with wave.open(str(path)) as wav:
        return float(wav.getnframes() / wav.getframerate())
