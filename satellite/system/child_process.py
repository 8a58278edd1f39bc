"""Programs that the daemon starts, each of which can be ended for certain, with all that it has started itself."""

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
"""How long a killed program may take to be gone; longer only where the kernel holds it."""

_SAID_BYTES = 4096
_SAID_GAP_SECONDS = 0.1
"""How much is taken, and how often, of what a program says of its troubles: one that never stops is slowed down."""

_SAID_CHARACTERS = 200


class Child(Process):
    """A program in a process group of its own; `start` makes it, and `end` must end it."""

    def __init__(
        self,
        transport: asyncio.SubprocessTransport,
        protocol: SubprocessStreamProtocol,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(transport, protocol, loop)
        self._connection = transport
        self._hearing = begin_task(self._hear(), f"what process {transport.get_pid()} says") if self.stderr else None
        self.said = ""
        """Its latest line on standard error, where that is a pipe; the log of the daemon is not its to fill."""

    def kill(self) -> None:
        """Kill it with whatever it has started; to no effect when it has ended."""
        if self.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    async def end(self) -> None:
        """End it wherever it is; may be called twice.

        Its pipes are closed first: asyncio waits for the end of what nobody reads any more, which never comes.
        """
        self.kill()
        self._connection.close()
        try:
            async with asyncio.timeout(_END_SECONDS):
                await self.wait()
        except TimeoutError:
            _LOGGER.error("process %d was killed, and is not gone after %g s", self.pid, _END_SECONDS)
        if self._hearing is not None:
            await end_tasks(self._hearing)

    async def last_words(self) -> str:
        """Return what it has said last, in brackets, behind a message about it; nothing where it has said nothing."""
        if self._hearing is not None:
            await asyncio.wait((self._hearing,), timeout=_SAID_GAP_SECONDS)  # it may have ended a moment ago
        return f" ({self.said})" if self.said else ""

    async def _hear(self) -> None:
        assert self.stderr is not None
        rest = b""
        while said := await self.stderr.read(_SAID_BYTES):
            *lines, rest = (rest + said).splitlines(keepends=True)
            if rest.endswith(b"\n"):
                lines, rest = [*lines, rest], b""
            rest = rest[-_SAID_BYTES:]
            self._note(lines)
            await asyncio.sleep(_SAID_GAP_SECONDS)
        self._note([rest])

    def _note(self, lines: list[bytes]) -> None:
        if told := [line.strip() for line in lines if line.strip()]:
            self.said = shown(told[-1].decode(errors="replace"), _SAID_CHARACTERS)


async def start(
    *command: str,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    stream_bytes: int = _STREAM_BYTES,
    environment: Mapping[str, str] | None = None,
) -> Child:
    """Start `command`; raises `OSError` when it cannot be. What it writes waits in `stream_bytes` and a pipe."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.subprocess_exec(
        lambda: SubprocessStreamProtocol(limit=stream_bytes, loop=loop),
        *command,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=environment,
        start_new_session=True,
    )
    return Child(transport, protocol, loop)
