"""The daemon under test with the trouble around it: a chat server and a child that freeze and die, rooms that are
silent or babble, a microphone that gives sound faster than anybody can hear it."""

import asyncio
import contextlib
import itertools
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.command_line import free_port

_ROOT = Path(__file__).parent.parent.parent
_FROZEN_SECONDS = 4.0
_CALM_SECONDS = 6.0
"""Between two faults: long enough for what was hurt to be found well again."""

_CONFIG = """\
log_level: info
wyoming: {{host: 127.0.0.1, port: {port}, wake_port: null, stt_port: null, tts_port: null, handle_port: null}}
http: {{port: {http}}}
zeroconf: {{enabled: false}}
commands: {{state_directory: {folder}}}
chat:
  providers:
    - {{type: ollama, url: "http://127.0.0.1:{ollama}", model: smollm2}}
    - {{type: local, model: smollm2-135m-instruct}}
microphone: {{command: [cat, /dev/zero]}}
rooms:
  - {{name: silent, uri: "tcp://127.0.0.1:{silent}"}}
  - {{name: babbling, uri: "tcp://127.0.0.1:{babbling}"}}
"""


@dataclass
class House:
    """The daemon and the chat server, as processes."""

    folder: Path
    port: int = field(default_factory=free_port)
    http: int = field(default_factory=free_port)
    ollama: int = field(default_factory=free_port)
    faults: dict[str, int] = field(default_factory=dict)
    """How often something was frozen or killed."""

    _daemon: asyncio.subprocess.Process | None = None
    _server: asyncio.subprocess.Process | None = None

    @property
    def uri(self) -> str:
        """The address of all services."""
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """What the daemon has logged."""
        return self.folder / "log"

    @property
    def process(self) -> psutil.Process:
        """The daemon's process."""
        assert self._daemon is not None
        return psutil.Process(self._daemon.pid)

    @property
    def alive(self) -> bool:
        """Whether the daemon runs."""
        return self._daemon is not None and self._daemon.returncode is None

    async def start(self, silent: int, babbling: int) -> None:
        """Start both; the daemon is not ready yet."""
        self._server = await self._chat_server()
        config = self.folder / "config.yaml"
        ports = {"port": self.port, "http": self.http, "ollama": self.ollama, "silent": silent, "babbling": babbling}
        config.write_text(_CONFIG.format(folder=self.folder, **ports), encoding="utf-8")
        with self.log.open("wb") as log:
            self._daemon = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "satellite", "--config", str(config), "run"), cwd=_ROOT, stdout=log, stderr=log
            )

    async def stop(self, seconds: float) -> tuple[float, int | None]:
        """Ask the daemon to end; return how long that took, and its exit status, None where it had to be killed."""
        assert self._daemon is not None
        loop = asyncio.get_running_loop()
        began = loop.time()
        with contextlib.suppress(ProcessLookupError):
            self._daemon.terminate()
        try:
            async with asyncio.timeout(seconds):
                status: int | None = await self._daemon.wait()
        except TimeoutError:
            self._daemon.kill()
            await self._daemon.wait()
            status = None
        return loop.time() - began, status

    async def close(self) -> None:
        """End whatever still runs."""
        for process in (self._daemon, self._server):
            if process is not None and process.returncode is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                await process.wait()

    async def trouble(self, over: asyncio.Event) -> None:
        """Freeze and kill the chat server and the local model's process, in turns, until it is over."""
        for fault in itertools.cycle((self._freeze_server, self._freeze_child, self._kill_server, self._kill_child)):
            if await happens(over, _CALM_SECONDS):
                return
            name = fault.__name__.strip("_").replace("_", " ")
            self.faults[name] = self.faults.get(name, 0) + 1
            await fault()

    async def _chat_server(self) -> asyncio.subprocess.Process:
        stand_in = (sys.executable, "-m", "tests.doubles", "ollama", "--port", str(self.ollama))
        return await asyncio.create_subprocess_exec(*stand_in, cwd=_ROOT, stdout=asyncio.subprocess.DEVNULL)

    async def _freeze_server(self) -> None:
        assert self._server is not None
        await _freeze(self._server.pid)

    async def _kill_server(self) -> None:
        assert self._server is not None
        self._server.kill()
        await self._server.wait()
        await asyncio.sleep(_FROZEN_SECONDS / 2)
        self._server = await self._chat_server()

    async def _freeze_child(self) -> None:
        for child in self._children():
            await _freeze(child.pid)

    async def _kill_child(self) -> None:
        for child in self._children():
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()

    def _children(self) -> list[psutil.Process]:
        return [child for child in self.process.children() if any("llama" in part for part in child.cmdline())]


async def _freeze(process_id: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process_id, signal.SIGSTOP)
        await asyncio.sleep(_FROZEN_SECONDS)
        os.kill(process_id, signal.SIGCONT)


async def happens(event: asyncio.Event, seconds: float) -> bool:
    """Wait for `event`, at most so long, and return whether it has happened."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


@asynccontextmanager
async def broken_rooms() -> AsyncIterator[tuple[int, int]]:
    """Listen as a satellite that never says a word, and as one that sends what is no Wyoming; their ports."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while await reader.read(65536):
                pass
        writer.close()

    async def babbling(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while True:
                writer.write(b'{"type": "info", "data": {"satellite": [5]}}\n{"type": 5}\n')
                await writer.drain()
        writer.close()

    async with (
        await asyncio.start_server(silent, "127.0.0.1") as one,
        await asyncio.start_server(babbling, "127.0.0.1") as other,
    ):
        yield one.sockets[0].getsockname()[1], other.sockets[0].getsockname()[1]
