"""Memory and CPU time of a server, by psutil."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import psutil

from satellite.errors import SatelliteError
from satellite_bench.server import Server

_REST_SECONDS = 5.0
"""Servers return memory some time after their work."""


@dataclass(frozen=True, slots=True)
class Memory:
    """In MiB. A page that several processes share counts in full in `rss_mib`, in equal parts in `pss_mib`."""

    pss_mib: float = 0.0
    rss_mib: float = 0.0
    peak_rss_mib: float = 0.0
    """The most RSS since the start; of several processes the sum of their peaks, whenever each had its own."""

    def __add__(self, other: "Memory") -> "Memory":
        peak = self.peak_rss_mib + other.peak_rss_mib
        return Memory(self.pss_mib + other.pss_mib, self.rss_mib + other.rss_mib, peak)


@dataclass(frozen=True, slots=True)
class MemoryState:
    """The whole daemon beside the official servers at one moment."""

    DESCRIBED: ClassVar = ("their_sum",)

    ours: Memory
    theirs: dict[str, Memory]

    @property
    def their_sum(self) -> Memory | None:
        """All official servers together; None when only ours was measured."""
        return sum(self.theirs.values(), Memory()) if self.theirs else None


@dataclass(frozen=True, slots=True)
class MemoryResult:
    """The memory of servers after their start, and after the same work."""

    first: MemoryState
    """After one request of every kind."""

    worked: MemoryState
    """After all measurements and the same work for all."""

    ours_without_chat: Memory
    """Another daemon without its chat model, after the same work."""


async def at_rest(servers: Iterable[Server]) -> dict[str, Memory]:
    """Return the memory of each server, by name, after a rest."""
    await asyncio.sleep(_REST_SECONDS)
    return {server.name: of(server) for server in servers}


def of(server: Server) -> Memory:
    """Return the memory of the server and its children; raises `SatelliteError` where it has ended."""
    try:
        leader = psutil.Process(server.process_id)
        held = _of_process(leader)
        for child in leader.children(recursive=True):
            with suppress(psutil.NoSuchProcess, FileNotFoundError):  # it has just ended
                held += _of_process(child)
    except (psutil.Error, OSError) as error:
        raise SatelliteError(f"the memory of {server.name} cannot be read: {error}", code="bench-memory") from error
    return held


def _of_process(process: psutil.Process) -> Memory:
    held = process.memory_full_info()
    # psutil does not report the peak.
    status = dict(line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
    return Memory(held.pss / 2**20, held.rss / 2**20, int(status["VmHWM"].split()[0]) / 1024)


def cpu_seconds(server: Server) -> float:
    """Return the CPU time of the server's process so far, in user mode and in the kernel."""
    try:
        times = psutil.Process(server.process_id).cpu_times()
    except psutil.Error as error:
        raise SatelliteError(f"the CPU time of {server.name} cannot be read: {error}", code="bench-memory") from error
    return float(times.user + times.system)
