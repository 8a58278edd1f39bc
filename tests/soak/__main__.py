"""`python -m tests.soak`, which `make soak` calls: run the daemon through trouble, print what was seen, and judge it.

First the daemon is left alone, then two hundred hostile clients come while its chat server and its local model's
process are frozen and killed in turns, two of its rooms are broken and its microphone never falls silent; then it is
left alone again. All the while somebody asks, dictates and listens. The exit status is 1 where the daemon did not hold.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from satellite.errors import SatelliteError
from satellite.wire import client
from tests.soak.house import House, broken_rooms, happens
from tests.soak.witness import Turns, ping, talk

_START_SECONDS = 300.0
_SETTLE_SECONDS = 120.0
_CALM_PING_SECONDS = 5.0
_LOOKS = 5
_STOP_SECONDS = 10.0
_TALKERS = 2
_MOST_GROWN_MIB = 256.0
"""What the daemon may hold more, after the storm than before it: buffers and caches that have their own bounds."""

_MOST_PING_SECONDS = 0.05


@dataclass
class Report:
    """What was seen."""

    minutes: float
    hostile: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    turns: Turns = field(default_factory=Turns)
    pings: dict[str, list[float]] = field(default_factory=dict)
    memory_mib: dict[str, float] = field(default_factory=dict)
    tasks: dict[str, int] = field(default_factory=dict)
    stop_seconds: float = 0.0
    status: int | None = None
    tracebacks: int = 0
    log_lines: int = 0
    died: bool = False

    def failures(self, *, judge_speed: bool) -> list[str]:
        """Return in what the daemon did not hold."""
        grown = self.memory_mib["after"] - self.memory_mib["before"]
        checks = [
            (not self.died, "the daemon died in the storm"),
            (self.turns.asked > 0 and not self.turns.lost, f"turns were lost: {self.turns.lost[:5]}"),
            (grown < _MOST_GROWN_MIB, f"it holds {grown:.0f} MiB more than before"),
            (self.tasks["after"] <= self.tasks["before"], f"tasks are left: {self.tasks}"),
            (self.status == 0, f"it ended with status {self.status} after {self.stop_seconds:.1f} s"),
            (not self.tracebacks, f"{self.tracebacks} tracebacks are in its log"),
            (
                not judge_speed or _percentile(self.pings["before"], 99) < _MOST_PING_SECONDS,
                "pings of an idle daemon took longer than 50 ms",
            ),
        ]
        return [said for good, said in checks if not good]

    def described(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "minutes": self.minutes,
            "hostile": self.hostile,
            "faults": self.faults,
            "turns": {
                "asked": self.turns.asked,
                "lost": self.turns.lost,
                "median_s": round(statistics.median(self.turns.seconds), 3),
                "worst_s": round(max(self.turns.seconds), 3),
            },
            "ping_ms": {
                when: {"median": round(_percentile(took, 50) * 1000, 1), "p99": round(_percentile(took, 99) * 1000, 1)}
                for when, took in self.pings.items()
            },
            "rss_mib": {when: round(mib, 1) for when, mib in self.memory_mib.items()},
            "tasks": self.tasks,
            "stop_s": round(self.stop_seconds, 2),
            "log_lines": self.log_lines,
            "tracebacks": self.tracebacks,
        }


def _percentile(values: list[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


async def _state(uri: str) -> dict[str, Any]:
    return await client.status(uri)


async def _started(house: House) -> None:
    """Wait until the daemon has loaded everything; raises `SatelliteError` where it ends before."""
    async with asyncio.timeout(_START_SECONDS):
        while True:
            if not house.alive:
                raise SatelliteError(f"the daemon ended:\n{house.log.read_text(encoding='utf-8')[-2000:]}")
            try:
                if (await _state(house.uri))["ready"]:
                    return
            except (SatelliteError, OSError):
                pass
            await asyncio.sleep(0.5)


async def _look(house: House, report: Report, when: str) -> list[int]:
    """Look at a daemon of which nobody wants anything, and return how many tasks it had at several moments."""
    report.pings[when] = await ping(house.uri, _CALM_PING_SECONDS)
    report.memory_mib[when] = house.process.memory_info().rss / 2**20
    tasks = []
    for _ in range(_LOOKS):
        tasks.append((await _state(house.uri))["event_loop_tasks"])
        await asyncio.sleep(1)
    return tasks


async def _settled(house: House, tasks: int) -> None:
    """Wait until the daemon has let go of everything, or the time for that is over."""
    loop = asyncio.get_running_loop()
    until = loop.time() + _SETTLE_SECONDS
    while (await _state(house.uri))["event_loop_tasks"] > tasks and loop.time() < until:
        await asyncio.sleep(0.5)


async def _storm(house: House, report: Report, frames: int, connections: int) -> None:
    """Let the hostile clients in for the time there is; nobody else goes before them."""
    over = asyncio.Event()
    seconds = report.minutes * 60
    hostile = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.soak.hostile", str(house.port), str(frames), str(connections), str(seconds)),
        cwd=Path(__file__).parent.parent.parent,
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(house.trouble(over))
        for _ in range(_TALKERS):
            group.create_task(talk(house.uri, report.turns, over))
        pinging = group.create_task(ping(house.uri, seconds))
        memory = group.create_task(_most_memory(house, over))
        output, _ = await hostile.communicate()
        report.pings["storm"] = await pinging
        over.set()
    report.hostile = json.loads(output)
    report.faults = house.faults
    report.memory_mib["most"] = memory.result()


async def _most_memory(house: House, over: asyncio.Event) -> float:
    most = 0.0
    while not await happens(over, 0.5):
        most = max(most, house.process.memory_info().rss / 2**20)
    return most


async def soak(minutes: float, frames: int, connections: int, kept_log: Path | None) -> Report:
    """Run it all; raises `SatelliteError` where the daemon does not even start."""
    report = Report(minutes)
    with tempfile.TemporaryDirectory(prefix="satellite-soak-") as folder:
        house = House(Path(folder))
        async with broken_rooms() as ports:
            try:
                await house.start(*ports)
                await _started(house)
                over = asyncio.Event()
                warming = asyncio.create_task(talk(house.uri, report.turns, over))
                await asyncio.sleep(15)
                over.set()
                await warming
                # A look at a room or a provider is a task that comes and goes.
                report.tasks["before"] = max(await _look(house, report, "before"))
                await _storm(house, report, frames, connections)
                report.died = not house.alive
                if not report.died:
                    await _settled(house, report.tasks["before"])
                    report.tasks["after"] = min(await _look(house, report, "after"))
                report.stop_seconds, report.status = await house.stop(_STOP_SECONDS)
            finally:
                await house.close()
        log = house.log.read_text(encoding="utf-8", errors="replace")
        if kept_log is not None:
            kept_log.write_text(log, encoding="utf-8")
        report.tracebacks, report.log_lines = log.count("Traceback (most recent call last)"), log.count("\n")
    return report


def _show(described: dict[str, Any]) -> None:
    table = Table("what", "seen", title="soak")
    for name, value in described.items():
        table.add_row(name, json.dumps(value) if isinstance(value, dict) else str(value))
    Console().print(table)


def main() -> int:
    """Soak for as long as the arguments say; return the exit status."""
    parser = argparse.ArgumentParser(prog="make soak ARGS=", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long the hostile clients have (default: 10)")
    parser.add_argument("--frames", type=int, default=1_000_000, help="frames they send (default: a million)")
    parser.add_argument("--connections", type=int, default=200, help="over so many connections (default: 200)")
    parser.add_argument("--json", action="store_true", help="print one object")
    parser.add_argument("--log", type=Path, metavar="FILE", help="keep the daemon's log there")
    parser.add_argument("--any-speed", action="store_true", help="do not judge how long pings take")
    args = parser.parse_args()
    report = asyncio.run(soak(args.minutes, args.frames, args.connections, args.log))
    if args.json:
        print(json.dumps(report.described()))
    else:
        _show(report.described())
    failures = report.failures(judge_speed=not args.any_speed)
    for failure in failures:
        print(f"did not hold: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
