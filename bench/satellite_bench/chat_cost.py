"""What keeping the chat model warm costs the daemon while nobody asks anything."""

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from satellite.errors import SatelliteError
from satellite_bench.server import Server

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class KeepAliveCost:
    """Two daemons at rest side by side, one that keeps its model warm and one that does not."""

    seconds: float
    """How long they rested."""

    with_percent: float
    """CPU time of the daemon that keeps its model warm, percent of a core."""

    without_percent: float

    @property
    def percent(self) -> float:
        """The timer's own part of a core."""
        return self.with_percent - self.without_percent

    def described(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "seconds": round(self.seconds, 1),
            "cpu_percent_of_a_core": {
                "with": round(self.with_percent, 2),
                "without": round(self.without_percent, 2),
                "difference": round(self.percent, 2),
            },
        }


class Rest:
    """Rests, and reads meanwhile what CPU time two daemons take; several rests add up."""

    def __init__(self, keeping: Server, leaving: Server) -> None:
        self.seconds = 0.0
        self._daemons = (keeping, leaving)
        self._used: tuple[float, ...] = (0.0, 0.0)

    async def __call__(self, seconds: float) -> None:
        """Rest for so long."""
        began, before = time.monotonic(), self._read()
        await asyncio.sleep(seconds)
        self.seconds += time.monotonic() - began
        self._used = tuple(map(_grown, self._used, before, self._read()))

    def cost(self) -> KeepAliveCost:
        """Return what came of it."""
        if not self.seconds:
            raise SatelliteError("the daemons never rested", code="bench-chat")
        keeping, leaving = (100 * used / self.seconds for used in self._used)
        return KeepAliveCost(self.seconds, keeping, leaving)

    def _read(self) -> tuple[float, ...]:
        return tuple(cpu_seconds(daemon) for daemon in self._daemons)


def _grown(so_far: float, before: float, after: float) -> float:
    return so_far + after - before


def cpu_seconds(server: Server) -> float:
    """Return the CPU time that the server's process has taken so far, in user mode and in the kernel."""
    try:
        text = (_PROC / str(server.process_id) / "stat").read_text(encoding="utf-8")
    except OSError as error:
        raise SatelliteError(f"the CPU time of {server.name} cannot be read: {error}", code="bench-chat") from error
    return ticks(text) / os.sysconf("SC_CLK_TCK")


def ticks(stat: str) -> int:
    """Return user and kernel time out of the text of a process's `stat`, whatever the program is called."""
    fields = stat.rpartition(")")[2].split()  # from the third field on, which is the state
    return int(fields[11]) + int(fields[12])
