"""The llama.cpp process: how it is started, connected to and ended."""

import asyncio
import ctypes
import importlib.util
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from satellite.errors import in_words
from satellite.system.child_process import Child, start
from satellite.system.process import imported
from satellite.tasks import end_tasks

_SPINS = "2000"
"""How often libgomp polls for the other threads before it sleeps. Its default spins for milliseconds at each of the
hundreds of barriers per token, which makes a model 30 times slower as soon as another program uses one of its cores."""

_CONNECT_SECONDS = 2.0
_PROGRESS_TICKS = 10
"""Hundredths of a second of processor time that count as progress: one that waits for ever uses some as well."""

_LOAD_PATIENCE = 20.0
"""Times the limit that a load may take while its process works: a large model on a slow disk or an old processor takes
minutes, and one that is ended has to begin again."""

_CHECK_SECONDS = 1.0
_EXIT_SECONDS = 1.0
"""Time for the exit status to appear after a connection broke."""

_HOST = "http://llama.cpp"
_PROGRAM = Path(__file__).with_name("llama_server.py")
_GOMP = "libgomp.so.1"


class LlamaProcess:
    """One llama.cpp process, and the connection to it by a socket in a folder that no other user may enter."""

    def __init__(self, process: Child, folder: Path) -> None:
        import httpx

        from satellite.engines.chat.unix_transport import unix_transport

        self.process = process
        self.socket = folder / "llama.sock"
        self.client = httpx.AsyncClient(
            # A new connection for each request, which costs nothing here: the server closes one that was idle for some
            # seconds or had a hundred requests, and a request that it meets there is lost.
            transport=unix_transport(self.socket),
            base_url=f"{_HOST}/v1/",
            timeout=httpx.Timeout(_CONNECT_SECONDS, read=None),  # reading is limited by the watchdog and by the caller
        )
        self._reason = ""

    @classmethod
    async def begin(cls, settings: dict[str, Any]) -> "LlamaProcess":
        """Start the program. Raises `OSError`."""
        await imported("httpx")
        folder = Path(tempfile.mkdtemp(prefix="satellite-"))
        environment = {"GOMP_SPINCOUNT": _SPINS, **os.environ}
        try:
            if path := library_path(folder):
                environment["LD_LIBRARY_PATH"] = path
            process = await start(
                *(sys.executable, str(_PROGRAM)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                environment=environment,
            )
        except BaseException:  # also a cancellation: nobody else knows the folder
            shutil.rmtree(folder, ignore_errors=True)
            raise
        assert process.stdin is not None
        process.stdin.write(json.dumps({**settings, "folder": str(folder)}).encode() + b"\n")
        return cls(process, folder)

    @property
    def is_running(self) -> bool:
        """Whether the process runs and is not being ended."""
        return self.process.returncode is None and not self._reason

    def progress(self) -> int:
        """A number that changes while the process computes or reads its model from a disk; see proc_pid_stat(5)."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:  # it has ended, or the system has no /proc
            return 0
        page_reads, user_ticks, system_ticks = (int(fields[at]) for at in (9, 11, 12))
        return page_reads + (user_ticks + system_ticks) // _PROGRESS_TICKS

    @property
    def exit_reason(self) -> str:
        """Why it is not running."""
        return self._reason or f"llama.cpp ended with status {self.process.returncode}"

    async def ready(self) -> str:
        """Wait until the model is loaded; return why it cannot be, or nothing."""
        assert self.process.stdout is not None
        if line := await self.process.stdout.readline():
            return str(json.loads(line).get("failed", ""))
        return f"llama.cpp ended with status {await self.process.wait()}"

    async def slots(self) -> list[dict[str, Any]]:
        """Return the state of each slot, from the thread that computes: it answers between two batches."""
        slots: list[dict[str, Any]] = (await self.client.get(f"{_HOST}/slots")).json()
        return slots

    async def failure_reason(self, error: Exception) -> str:
        """Return why a request failed with `error`."""
        if not self._reason:
            with suppress(TimeoutError):
                async with asyncio.timeout(_EXIT_SECONDS):
                    await self.process.wait()
        return f"llama.cpp broke off: {in_words(error)}" if self.is_running else self.exit_reason

    async def end(self, reason: str) -> None:
        """End the process for the given `reason`, and remove its folder; may be called twice."""
        self._reason = self._reason or reason
        await self.process.end()
        await self.client.aclose()
        shutil.rmtree(self.socket.parent, ignore_errors=True)


async def while_working(loading: asyncio.Task[str], progress: Callable[[], int], seconds: float) -> str:
    """Return what `loading` returns, or that it makes no `progress` for so many `seconds`, and then cancel it.

    What goes on, however slowly, is only given up after `_LOAD_PATIENCE` times as long.
    """
    step = min(_CHECK_SECONDS, seconds)
    seen, idle, waited = progress(), 0.0, 0.0
    try:
        while not loading.done():
            # Counted in checks, not by the clock: this process may have been stopped as well.
            await asyncio.wait((loading,), timeout=step)
            before, seen = seen, progress()
            idle, waited = idle + step if seen == before else 0.0, waited + step
            if idle >= seconds:
                return f"it did nothing for {seconds:g} s"
            if waited >= seconds * _LOAD_PATIENCE:
                return f"it took longer than {seconds * _LOAD_PATIENCE:g} s"
        return await loading
    finally:
        await end_tasks(loading)


def library_path(folder: Path) -> str | None:
    """Return the LD_LIBRARY_PATH for a process that needs libgomp, None where the system has it.

    xllamacpp's wheel expects libgomp on the system, and a minimal Debian has none. `folder` must exist until the
    process has loaded its libraries. Raises `OSError`, which says what to install.
    """
    try:
        ctypes.CDLL(_GOMP)
    except OSError as missing:
        path = link_to_bundled(folder)
        if path is None:
            raise OSError("the system has no libgomp; on Debian or Ubuntu: sudo apt install libgomp1") from missing
        return path
    return None


def link_to_bundled(folder: Path) -> str | None:
    """Link `libgomp.so.1` in `folder` to the copy that CTranslate2's wheel brings under another name.

    Return the LD_LIBRARY_PATH that leads to it, None when there is none.
    """
    package = importlib.util.find_spec("ctranslate2")
    if package is None or package.origin is None:
        return None
    for bundled in sorted(Path(package.origin).parent.with_name("ctranslate2.libs").glob("libgomp-*")):
        (folder / _GOMP).symlink_to(bundled)
        return os.pathsep.join(filter(None, (str(folder), os.environ.get("LD_LIBRARY_PATH"))))
    return None
