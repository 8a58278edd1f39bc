"""Resident memory of a server and all its children, as the kernel counts it."""

import asyncio
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from satellite.errors import SatelliteError
from satellite_bench.server import Server

_PROC = Path("/proc")

_REST_SECONDS = 5.0
"""How long nobody asks anything before memory is read: what a server gives back by itself it may give back."""


@dataclass(frozen=True, slots=True)
class Memory:
    """In MiB. A page that several processes share counts in full in `rss`, in equal parts in `pss`."""

    pss: float = 0.0
    rss: float = 0.0
    peak: float = 0.0
    """The most RSS since the start; of several processes the sum of their peaks, whenever each had its own."""

    def __add__(self, other: "Memory") -> "Memory":
        return Memory(self.pss + other.pss, self.rss + other.rss, self.peak + other.peak)

    def described(self) -> dict[str, float]:
        """Return it for JSON."""
        return {"pss_mib": round(self.pss, 1), "rss_mib": round(self.rss, 1), "peak_rss_mib": round(self.peak, 1)}


@dataclass(frozen=True, slots=True)
class MemoryState:
    """The whole daemon beside the official servers at one moment."""

    ours: Memory
    theirs: dict[str, Memory]

    @property
    def their_sum(self) -> Memory | None:
        """All official servers together; None when only ours was measured."""
        return sum(self.theirs.values(), Memory()) if self.theirs else None

    def described(self) -> dict[str, Any]:
        """Return it for JSON."""
        described: dict[str, Any] = {"ours": self.ours.described()}
        if self.their_sum:
            described["theirs"] = {name: memory.described() for name, memory in self.theirs.items()}
            described["their_sum"] = self.their_sum.described()
        return described


@dataclass(frozen=True, slots=True)
class MemoryResult:
    """What the servers hold when they begin, and what they keep: buffers grow with the work and seldom shrink."""

    first: MemoryState
    """After one request of every kind."""

    worked: MemoryState
    """After all measurements and the same work for all."""

    ours_without_chat: Memory
    """Another daemon without its chat model, after the same work."""

    def described(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "first": self.first.described(),
            "worked": self.worked.described(),
            "ours_without_chat": self.ours_without_chat.described(),
        }


async def at_rest(servers: Iterable[Server]) -> dict[str, Memory]:
    """Return the memory of each server, by name, after a rest."""
    await asyncio.sleep(_REST_SECONDS)
    return {server.name: of(server) for server in servers}


def of(server: Server) -> Memory:
    """Return the memory of the server's processes; raises `SatelliteError` where the kernel does not tell it."""
    try:
        processes = [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]
        mine = [process for process in processes if _session(process) == server.process_id]
        held = sum((_of_process(process) for process in mine), Memory())
    except OSError as error:
        raise SatelliteError(f"memory cannot be read: {error}", code="bench-memory") from error
    if not held.rss:
        raise SatelliteError(f"{server.name} has ended: its memory cannot be read", code="bench-memory")
    return held


def _session(process: int) -> int | None:
    """Return the session of a process; a server leads one of its own, and its children stay in it."""
    try:
        return os.getsid(process)
    except ProcessLookupError:
        return None


def _of_process(process: int) -> Memory:
    """Return the memory of one process; nothing when it has just ended."""
    folder = _PROC / str(process)
    try:
        return parse(*((folder / name).read_text(encoding="utf-8") for name in ("smaps_rollup", "status")))
    except (FileNotFoundError, ProcessLookupError):
        return Memory()


def parse(rollup: str, status: str) -> Memory:
    """Return what the texts of a process's `smaps_rollup` and `status` say."""
    lines = (line.partition(":") for line in (rollup + status).splitlines())
    sizes = {name: int(rest.split()[0]) / 1024 for name, _, rest in lines if rest.endswith(" kB")}
    return Memory(sizes["Pss"], sizes["Rss"], sizes["VmHWM"])
