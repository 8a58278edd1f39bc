"""Programs that the daemon starts, each of which can be ended for certain, with all that it has started itself."""

import asyncio
import logging
import os
import signal
from asyncio.subprocess import Process, SubprocessStreamProtocol
from collections.abc import Mapping
from contextlib import suppress

_LOGGER = logging.getLogger(__name__)

_STREAM_BYTES = 1 << 16
_END_SECONDS = 2.0
"""How long a killed program may take to be gone; longer only where the kernel holds it."""


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
