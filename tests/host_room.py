"""For the host's own room: somebody who speaks into a pipe, a speaker that is a file, and what was understood."""

import asyncio
import os
import wave
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

import numpy as np

from satellite.audio.pcm import BYTES_PER_SECOND
from satellite.config.settings import Config
from satellite.rooms.arbitration import Arbiter
from satellite.rooms.host.host_room import HostRoom
from satellite.rooms.room import RoomContext
from tests.running_daemon import RunningDaemon

QUIETLY = bytes(BYTES_PER_SECOND)
_BLOCK_SECONDS = 0.032
_TONE = np.random.default_rng(0).normal(0, 8, int(16_000 * _BLOCK_SECONDS)).astype(np.int16).tobytes()


class Mouth:
    """Somebody in the room, heard through a named pipe; the room's own noise while nobody speaks."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.plugged = True
        """Whether the pipe is written to."""

        self._speeches: deque[tuple[bytes, asyncio.Event]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        os.mkfifo(self.path)
        self._task = asyncio.create_task(self._write())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def say(self, pcm: bytes) -> None:
        """Speak; returns when it is said."""
        said = asyncio.Event()
        size = len(_TONE)
        for at in range(0, len(pcm), size):
            self._speeches.append((pcm[at : at + size], said if at + size >= len(pcm) else asyncio.Event()))
        await said.wait()

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        pipe, due = -1, loop.time()
        try:
            while True:
                due = max(due, loop.time() - 0.1) + _BLOCK_SECONDS
                await asyncio.sleep(due - loop.time())
                if not self.plugged and pipe >= 0:
                    os.close(pipe)
                    pipe = -1
                if self.plugged and pipe < 0:
                    with suppress(OSError):  # nobody listens yet
                        pipe = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
                if pipe < 0:
                    continue
                block, said = self._speeches.popleft() if self._speeches else (_TONE, None)
                try:
                    os.write(pipe, block)
                except BlockingIOError:
                    pass
                except BrokenPipeError:
                    os.close(pipe)
                    pipe = -1
                if said is not None:
                    said.set()
        finally:
            if pipe >= 0:
                os.close(pipe)


def configured(microphone: Any, speaker: Any = None, **more: Any) -> Config:
    """Return a configuration with a host's room."""
    return Config.model_validate({"microphone": microphone, "speaker": speaker, **more})


@asynccontextmanager
async def living(daemon: RunningDaemon, config: Config) -> AsyncIterator[HostRoom]:
    """Keep the host's room of `config` going, with the engines of `daemon`."""
    context = RoomContext(daemon.daemon._stages, daemon.daemon.bus, Arbiter(0.3))
    room = HostRoom(config.host_room, config.microphone, config.speaker, context)
    task = asyncio.create_task(room.run())
    try:
        yield room
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def sound_seconds(path: Path) -> float:
    """Return how much has come out of a speaker that is a WAV file."""
    if not path.exists() or path.stat().st_size < 44:
        return 0.0
    with wave.open(str(path)) as wav:
        return float(wav.getnframes() / wav.getframerate())
