"""The processes of the rooms part: a house of satellites, and a daemon that drives them."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from satellite.errors import SatelliteError
from satellite_bench import own
from satellite_bench.chat_servers import ready
from satellite_bench.server import Server, started

_ANSWER_SECONDS = 300.0
_LISTEN_SECONDS = 90.0
_LINE_BYTES = 2**20

_MAX_TOKENS = 32
"""Of an answer: what is measured is when it begins, and it is heard to its end."""

WYOMING, ESPHOME = "satellite_bench.room_process", "satellite_bench.esphome_process"
"""The programs that are a house of satellites."""


class House:
    """Satellites in another process."""

    def __init__(self, process: asyncio.subprocess.Process, uris: list[str]) -> None:
        self.uris = uris
        self._process = process

    async def do(self, request: dict[str, Any]) -> Any:
        """Have something done in the rooms, and return what happened; raises `SatelliteError` where it did not."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                self._process.stdin.write(json.dumps(request).encode() + b"\n")
                await self._process.stdin.drain()
                line = await self._process.stdout.readline()
        except (TimeoutError, OSError) as error:
            raise SatelliteError(f"the satellites do not answer: {error}", code="bench-rooms") from error
        if not line:
            raise SatelliteError("the satellites have gone", code="bench-rooms")
        answer = json.loads(line)
        if "failed" in answer:
            raise SatelliteError(str(answer["failed"]), code="bench-rooms")
        return answer["done"]

    async def switch_on(self, rooms: Iterable[int]) -> None:
        """Switch satellites on; inside the daemon's longest wait between two tries they are heard."""
        await self.do({"do": "switch on", "rooms": list(rooms), "seconds": _LISTEN_SECONDS})


@asynccontextmanager
async def house(rooms: int, program: str = WYOMING) -> AsyncIterator[House]:
    """Run so many satellites of a kind, switched off at first, for the length of the `with`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", program, "--rooms", str(rooms)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=own.doubles_environment(),
        limit=_LINE_BYTES,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        uris = await process.stdout.readline()
        if not uris:
            raise SatelliteError("the satellites cannot be started", code="bench-rooms")
        yield House(process, json.loads(uris))
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)  # they own nothing that could be left behind
        await process.wait()


@dataclass(frozen=True, slots=True)
class Home:
    """Starts a daemon with rooms, and these."""

    folder: Path
    models: Path
    threads: int

    @asynccontextmanager
    async def running(self, rooms: int, program: str = WYOMING) -> AsyncIterator[tuple[Server, House]]:
        """Run a daemon and its satellites, switched off at first, for the length of the `with`."""
        async with house(rooms, program) as satellites:
            settings: dict[str, Any] = {
                "rooms": [
                    {"name": f"room {number}", "uri": uri, "follow_up": "never"}
                    for number, uri in enumerate(satellites.uris, 1)
                ],
                "hub": {"arbitration_seconds": 0},  # rooms that ask at once are not one call here
                "chat": {"max_tokens": _MAX_TOKENS},
            }
            async with started(own.daemon(self.folder, self.models, self.threads, settings=settings)) as server:
                await ready(server)
                yield server, satellites
