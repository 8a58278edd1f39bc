"""The daemon under test with the trouble around it: a chat server and a child that freeze and die, rooms that are
silent or babble, a microphone that gives sound faster than anybody can hear it."""

import asyncio
import contextlib
import itertools
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from tests.command_line import free_port

ROOT = Path(__file__).parent.parent.parent
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


class House:
    """The daemon and the chat server, as processes. Use it as `with`; inside, they run."""

    def __init__(self, folder: Path, silent: int, babbling: int) -> None:
        """Start both; `silent` and `babbling` are the ports of the broken rooms. The daemon is not ready yet."""
        self.log = folder / "log"
        self.port, self._ollama = free_port(), free_port()
        self.uri = f"tcp://127.0.0.1:{self.port}"
        self.faults: Counter[str] = Counter()
        """How often something was frozen or killed."""

        config = folder / "config.yaml"
        ports = {"port": self.port, "http": free_port(), "ollama": self._ollama}
        config.write_text(_CONFIG.format(folder=folder, silent=silent, babbling=babbling, **ports), encoding="utf-8")
        self._server = self._chat_server()
        with self.log.open("wb") as log:
            self._daemon = psutil.Popen(
                [sys.executable, "-m", "satellite", "--config", str(config), "run"], cwd=ROOT, stdout=log, stderr=log
            )

    def __enter__(self) -> "House":
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self._daemon, self._server):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
            process.wait()

    @property
    def alive(self) -> bool:
        return self._daemon.poll() is None

    @property
    def memory_mib(self) -> float:
        return float(self._daemon.memory_info().rss) / 2**20

    async def stop(self, seconds: float) -> tuple[float, int | None]:
        """Ask the daemon to end; return how long that took, and its exit status, None where it takes longer."""
        began = time.monotonic()
        with contextlib.suppress(psutil.NoSuchProcess):
            self._daemon.terminate()
        while self.alive and time.monotonic() < began + seconds:
            await asyncio.sleep(0.05)
        return time.monotonic() - began, self._daemon.poll()

    async def trouble(self, over: asyncio.Event) -> None:
        """Freeze and kill the chat server and the local model's process, in turns, until it is over."""
        for fault in itertools.cycle((self._freeze_server, self._freeze_child, self._kill_server, self._kill_child)):
            if await happens(over, _CALM_SECONDS):
                return
            self.faults[fault.__name__.strip("_").replace("_", " ")] += 1
            # A child may end by itself meanwhile.
            with contextlib.suppress(psutil.NoSuchProcess):
                await fault()

    def _chat_server(self) -> psutil.Popen:
        stand_in = [sys.executable, "-m", "tests.doubles", "ollama", "--port", str(self._ollama)]
        return psutil.Popen(stand_in, cwd=ROOT, stdout=subprocess.DEVNULL)

    async def _freeze_server(self) -> None:
        await _freeze(self._server)

    async def _kill_server(self) -> None:
        self._server.kill()
        self._server.wait()
        await asyncio.sleep(_FROZEN_SECONDS / 2)
        self._server = self._chat_server()

    async def _freeze_child(self) -> None:
        for child in self._children():
            await _freeze(child)

    async def _kill_child(self) -> None:
        for child in self._children():
            child.kill()

    def _children(self) -> list[psutil.Process]:
        return [child for child in self._daemon.children() if any("llama" in part for part in child.cmdline())]


async def _freeze(process: psutil.Process) -> None:
    process.suspend()
    await asyncio.sleep(_FROZEN_SECONDS)
    process.resume()


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
