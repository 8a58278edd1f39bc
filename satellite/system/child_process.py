"""Programs that the daemon starts, each with the processes that it starts itself ended for certain."""

import asyncio
import logging
import os
import signal
from asyncio.subprocess import Process, SubprocessStreamProtocol
from collections.abc import Mapping
from contextlib import suppress

from satellite.errors import shown
from satellite.tasks import begin_task, end_tasks

_LOGGER = logging.getLogger(__name__)

_STREAM_BYTES = 1 << 16
_END_SECONDS = 2.0
"""Time for a killed program to disappear; it takes longer only in an uninterruptible system call."""

_STDERR_BYTES = 4096
_STDERR_GAP_SECONDS = 0.1
"""How much of standard error is read, and how often: a program that floods it is slowed down by the full pipe."""

_STDERR_CHARACTERS = 200


class Child(Process):
    """A program in its own process group; made by `start`, and to be ended by `end`."""

    def __init__(
        self,
        transport: asyncio.SubprocessTransport,
        protocol: SubprocessStreamProtocol,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(transport, protocol, loop)
        self._connection = transport
        self._reading = begin_task(self._read(), f"stderr of process {transport.get_pid()}") if self.stderr else None
        self._last_line = ""
        """The last line on standard error, where that is a pipe; kept instead of logged, or it could flood the log."""

    def kill(self) -> None:
        """Kill it with everything that it has started; does nothing once it has ended."""
        if self.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    async def end(self) -> None:
        """Kill it and wait for its end; may be called twice."""
        self.kill()
        # asyncio waits for the end of all pipes, which never comes while nobody reads them.
        self._connection.close()
        try:
            async with asyncio.timeout(_END_SECONDS):
                await self.wait()
        except TimeoutError:
            _LOGGER.error("process %d was killed and still exists after %g s", self.pid, _END_SECONDS)
        if self._reading is not None:
            await end_tasks(self._reading)

    async def last_error(self) -> str:
        """Return its last line on standard error in parentheses, to be appended to a message; empty without one."""
        if self._reading is not None:
            await asyncio.wait((self._reading,), timeout=_STDERR_GAP_SECONDS)  # its last line may still be unread
        return f" ({self._last_line})" if self._last_line else ""

    async def _read(self) -> None:
        assert self.stderr is not None
        rest = b""
        while chunk := await self.stderr.read(_STDERR_BYTES):
            *lines, rest = (rest + chunk).splitlines(keepends=True)
            if rest.endswith(b"\n"):
                lines, rest = [*lines, rest], b""
            # A line without an end must not grow without bound.
            rest = rest[-_STDERR_BYTES:]
            self._record(lines)
            await asyncio.sleep(_STDERR_GAP_SECONDS)
        self._record([rest])

    def _record(self, lines: list[bytes]) -> None:
        if texts := [line.strip() for line in lines if line.strip()]:
            self._last_line = shown(texts[-1].decode(errors="replace"), _STDERR_CHARACTERS)


async def start(
    *command: str,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    stream_bytes: int = _STREAM_BYTES,
    environment: Mapping[str, str] | None = None,
) -> Child:
    """Start `command`; raises `OSError` if that fails. Its output waits in a buffer of `stream_bytes` and the pipe."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.subprocess_exec(
        lambda: SubprocessStreamProtocol(limit=stream_bytes, loop=loop),
        *command,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=environment,
        # Its own process group: `kill` reaches what it has started, and Ctrl-C does not reach it.
        start_new_session=True,
    )
    return Child(transport, protocol, loop)
