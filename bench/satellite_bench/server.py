"""A server under test: a process of its own on free loopback ports, stopped whatever happens."""

import asyncio
import contextlib
import os
import signal
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from wyoming.client import AsyncTcpClient
from wyoming.event import Event
from wyoming.info import Describe

from satellite.errors import SatelliteError

_START_SECONDS = 120.0
_POLL_SECONDS = 0.1
_STOP_SECONDS = 10.0
_LOG_LINES = 15


async def described(port: int) -> None:
    """Ask a Wyoming server to describe itself; raises where it does not."""
    async with connected(port) as client:
        await client.write_event(Describe().event())
        while (await receive(client)).type != "info":
            pass


async def reachable(port: int) -> None:
    """Connect to a server that does not speak Wyoming; raises where none listens."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()


@dataclass(frozen=True, slots=True)
class Command:
    """How to start a server that listens on `port` of the loopback interface."""

    name: str
    port: int
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    probe: Callable[[int], Awaitable[None]] = described
    """Raises as long as what listens on the port does not answer."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers."""

    name: str
    port: int
    process_id: int


def free_port() -> int:
    """Return a port of the loopback interface that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def started(command: Command) -> AsyncIterator[Server]:
    """Run the server for the length of the `with`; inside, it answers its probe.

    Raises `SatelliteError` with the code `bench-server` and the end of its log when it does not come up.
    """
    with tempfile.TemporaryDirectory(prefix="satellite-bench-") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *command.arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(command.environment),
                cwd=folder,  # what a server leaves behind goes with the folder
                start_new_session=True,  # Ctrl+C reaches us alone, and its children can be stopped with it
            )
        try:
            await _answers(command, process, log)
            yield Server(command.name, command.port, process.pid)
        finally:
            await _stop(process)


async def _answers(command: Command, process: asyncio.subprocess.Process, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.returncode is None:
        with contextlib.suppress(OSError, SatelliteError, TimeoutError):
            async with asyncio.timeout(5):
                return await command.probe(command.port)
        await asyncio.sleep(_POLL_SECONDS)
    what = "did not answer in time" if process.returncode is None else f"ended with status {process.returncode}"
    raise SatelliteError(f"{command.name} {what}; the end of its log:\n{_end_of(log)}", code="bench-server")


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:])


async def _stop(process: asyncio.subprocess.Process) -> None:
    """End the server and all its children, politely first, and reap it."""
    waiting = asyncio.ensure_future(process.wait())
    _signal_group(process.pid, signal.SIGTERM)
    try:
        await asyncio.wait([waiting], timeout=_STOP_SECONDS)
    finally:
        _signal_group(process.pid, signal.SIGKILL)
        await waiting


def _signal_group(process_id: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process_id, number)


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[AsyncTcpClient]:
    """Connect with the client of the `wyoming` package, the one Home Assistant uses: neither side's own."""
    client = AsyncTcpClient("127.0.0.1", port)
    await client.connect()
    try:
        yield client
    finally:
        with contextlib.suppress(OSError):
            await client.disconnect()


async def receive(client: AsyncTcpClient) -> Event:
    """Return the server's next event; raises `SatelliteError` for an `error`, and when it leaves without an answer."""
    event = await client.read_event()
    if event is None:
        raise SatelliteError("the server closed the connection before it had answered", code="bench-request")
    if event.type == "error":
        raise SatelliteError(f"the server answered with an error: {event.data.get('text')}", code="bench-request")
    return event
