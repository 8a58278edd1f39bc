"""The CPU time of the keep-alive, which keeps the chat model loaded between questions."""

import asyncio
import time
from dataclasses import dataclass
from typing import ClassVar

from satellite.errors import SatelliteError
from satellite_bench.memory import cpu_seconds
from satellite_bench.server import Server


@dataclass(frozen=True, slots=True)
class KeepAliveCost:
    """Two daemons at rest side by side, one with keep-alive and one without, in percent of a core."""

    DESCRIBED: ClassVar = ("percent",)

    seconds: float
    """How long they rested."""

    with_percent: float
    without_percent: float

    @property
    def percent(self) -> float:
        """The CPU time of the keep-alive alone."""
        return self.with_percent - self.without_percent


class Rest:
    """Rests, and measures the CPU time of two daemons meanwhile; several rests add up."""

    def __init__(self, keeping: Server, leaving: Server) -> None:
        self.seconds = 0.0
        self._daemons = (keeping, leaving)
        self._used = [0.0, 0.0]

    async def __call__(self, seconds: float) -> None:
        """Rest for so long."""
        began, before = time.monotonic(), [cpu_seconds(daemon) for daemon in self._daemons]
        await asyncio.sleep(seconds)
        self.seconds += time.monotonic() - began
        for number, daemon in enumerate(self._daemons):
            self._used[number] += cpu_seconds(daemon) - before[number]

    def cost(self) -> KeepAliveCost:
        """Return what the rests have shown; raises `SatelliteError` where there were none."""
        if not self.seconds:
            raise SatelliteError("the daemons never rested", code="bench-chat")
        keeping, leaving = (100 * used / self.seconds for used in self._used)
        return KeepAliveCost(self.seconds, keeping, leaving)
