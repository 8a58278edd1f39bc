"""`python -m tests.soak`, which `make soak` calls: run the daemon through trouble, print what was seen, and judge it.

First the daemon is left alone, then two hundred hostile clients come while its chat server and its local model's
process are frozen and killed in turns, two of its rooms are broken and its microphone never falls silent; then it is
left alone again. All the while somebody asks, dictates and listens. The exit status is 1 where the daemon did not hold.
"""

import argparse
import asyncio
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from wyoming.ping import Ping

from satellite.audio.pcm import read_wav
from satellite.errors import SatelliteError
from satellite.wire import client
from tests.soak.house import ROOT, House, broken_rooms, happens

_COMMANDS = ROOT / "tests" / "data" / "commands"
_START_SECONDS = 300.0
_SETTLE_SECONDS = 120.0
_CALM_PING_SECONDS = 5.0
_PING_GAP_SECONDS = 0.05
_LOOKS = 5
_STOP_SECONDS = 10.0
_WARMING_TURNS = 15
_TALKERS = 2
_TURN_SECONDS = 120.0
"""How long an answer may take among two hundred hostile clients on a slow machine."""

_MOST_GROWN_MIB = 256.0
"""What the daemon may hold more, after the storm than before it: buffers and caches that have their own bounds."""

_MOST_PING_SECONDS = 0.05


@dataclass
class Turns:
    """What became of what was asked."""

    asked: int = 0
    lost: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


@dataclass
class Report:
    """What was seen; times in seconds."""

    minutes: float
    turns: Turns = field(default_factory=Turns)
    hostile: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
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
        if self.died:
            return ["the daemon died in the storm"]
        grown = self.memory_mib["after"] - self.memory_mib["before"]
        slow = (
            judge_speed
            and statistics.quantiles(self.pings["before"], n=100, method="inclusive")[-1] >= _MOST_PING_SECONDS
        )
        checks = [
            (not self.turns.asked or self.turns.lost, f"turns were lost: {self.turns.lost[:5]}"),
            (grown >= _MOST_GROWN_MIB, f"it holds {grown:.0f} MiB more than before"),
            (self.tasks["after"] > self.tasks["before"], f"tasks are left: {self.tasks}"),
            (self.status != 0, f"it ended with status {self.status} after {self.stop_seconds:.1f} s"),
            (self.tracebacks, f"{self.tracebacks} tracebacks are in its log"),
            (slow, "pings of an idle daemon took longer than 50 ms"),
        ]
        return [said for bad, said in checks if bad]

    def as_json(self) -> str:
        """Return it with the times in short."""
        shown = asdict(self)
        shown["turns"]["seconds"] = _in_short(self.turns.seconds)
        shown["pings"] = {when: _in_short(took) for when, took in self.pings.items()}
        return json.dumps(shown, indent=2)


def _in_short(seconds: list[float]) -> dict[str, float]:
    *_, p99 = statistics.quantiles(seconds, n=100, method="inclusive")
    figures = {"median": statistics.median(seconds), "p99": p99, "worst": max(seconds)}
    return {name: round(value, 4) for name, value in figures.items()}


async def _started(house: House) -> None:
    """Wait until the daemon has loaded everything; raises `SatelliteError` where it ends before."""
    async with asyncio.timeout(_START_SECONDS):
        while True:
            if not house.alive:
                raise SatelliteError(f"the daemon ended:\n{house.log.read_text(encoding='utf-8')[-2000:]}")
            try:
                if (await client.status(house.uri))["ready"]:
                    return
            except (SatelliteError, OSError):
                pass
            await asyncio.sleep(0.5)


async def _tasks(house: House) -> int:
    return int((await client.status(house.uri))["event_loop_tasks"])


async def _look(house: House, report: Report, when: str) -> list[int]:
    """Look at a daemon of which nobody wants anything, and return how many tasks it had at several moments."""
    report.pings[when] = await _ping(house.uri, _CALM_PING_SECONDS)
    report.memory_mib[when] = house.memory_mib
    tasks = []
    for _ in range(_LOOKS):
        tasks.append(await _tasks(house))
        await asyncio.sleep(1)
    return tasks


async def _settled(house: House, tasks: int) -> None:
    """Wait until the daemon has let go of everything, or the time for that is over."""
    until = time.monotonic() + _SETTLE_SECONDS
    while await _tasks(house) > tasks and time.monotonic() < until:
        await asyncio.sleep(0.5)


async def _storm(house: House, report: Report, frames: int, connections: int) -> None:
    """Let the hostile clients in for the time there is; nobody else goes before them."""
    over = asyncio.Event()
    seconds = report.minutes * 60
    hostile = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.soak.hostile", str(house.port), str(frames), str(connections), str(seconds)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(house.trouble(over))
        for _ in range(_TALKERS):
            group.create_task(_talk(house.uri, report.turns, over))
        pinging = group.create_task(_ping(house.uri, seconds))
        memory = group.create_task(_most_memory(house, over))
        output, _ = await hostile.communicate()
        report.pings["storm"] = await pinging
        over.set()
    report.hostile = json.loads(output)
    report.faults = dict(house.faults)
    report.memory_mib["most"] = memory.result()


async def _most_memory(house: House, over: asyncio.Event) -> float:
    most = 0.0
    while not await happens(over, 0.5):
        most = max(most, house.memory_mib)
    return most


async def _understood(uri: str, name: str) -> None:
    expected = (_COMMANDS / f"{name}.txt").read_text(encoding="utf-8")
    heard = await client.transcribe(uri, read_wav(_COMMANDS / f"{name}.wav"))
    if heard.transcript.lower().strip(".?!\n") != expected.lower().strip(".?!\n"):
        raise SatelliteError(f"understood {heard.transcript!r} for {expected!r}")


async def _answered(uri: str, text: str) -> None:
    heard = await client.ask_text(uri, text, lambda _: None)
    if not heard.handled or not heard.reply.strip():
        raise SatelliteError(f"{text!r} was answered {heard.reply!r}")


async def _spoken(uri: str, text: str) -> None:
    if (await client.say(uri, text)).audio_seconds < 0.3:
        raise SatelliteError(f"{text!r} was not said")


async def _talk(uri: str, turns: Turns, over: asyncio.Event) -> None:
    """Take one turn after the other, of every kind, until it is over."""
    kinds: list[tuple[Callable[[str, str], Awaitable[None]], str]] = [
        (_understood, "turn_on_the_lights"),
        (_answered, "what time is it"),
        (_spoken, "Dinner is ready."),
        (_understood, "what_time_is_it"),
        (_answered, "What is the capital of France?"),
    ]
    for turn, text in itertools.cycle(kinds):
        if over.is_set():
            return
        turns.asked += 1
        began = time.monotonic()
        try:
            async with asyncio.timeout(_TURN_SECONDS):
                await turn(uri, text)
        except (SatelliteError, OSError, TimeoutError) as failure:
            turns.lost.append(f"{text}: {type(failure).__name__}: {failure}")
        turns.seconds.append(time.monotonic() - began)


async def _ping(uri: str, seconds: float) -> list[float]:
    """Return how long pings took, sent one after the other for a while over a connection of their own."""
    took = []
    until = time.monotonic() + seconds
    async with client.connected(uri) as connection:
        answers = aiter(connection)
        while time.monotonic() < until:
            began = time.monotonic()
            await connection.send(Ping(text="soak"))
            while (await anext(answers)).type != "pong":
                pass
            took.append(time.monotonic() - began)
            await asyncio.sleep(_PING_GAP_SECONDS)
    return took


async def soak(minutes: float, frames: int, connections: int, kept_log: Path | None) -> Report:
    """Run it all; raises `SatelliteError` where the daemon does not even start."""
    report = Report(minutes)
    with tempfile.TemporaryDirectory(prefix="satellite-soak-") as folder:
        async with broken_rooms() as ports:
            with House(Path(folder), *ports) as house:
                await _started(house)
                over = asyncio.Event()
                warming = asyncio.create_task(_talk(house.uri, report.turns, over))
                while report.turns.asked <= _WARMING_TURNS:
                    await asyncio.sleep(0.1)
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
        log = house.log.read_text(encoding="utf-8", errors="replace")
        if kept_log is not None:
            kept_log.write_text(log, encoding="utf-8")
        report.tracebacks, report.log_lines = log.count("Traceback (most recent call last)"), log.count("\n")
    return report


def main() -> int:
    """Soak for as long as the arguments say; return the exit status."""
    parser = argparse.ArgumentParser(prog="make soak ARGS=", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long the hostile clients have (default: 10)")
    parser.add_argument("--frames", type=int, default=1_000_000, help="frames they send (default: a million)")
    parser.add_argument("--connections", type=int, default=200, help="over so many connections (default: 200)")
    parser.add_argument("--log", type=Path, metavar="FILE", help="keep the daemon's log there")
    parser.add_argument("--any-speed", action="store_true", help="do not judge how long pings take")
    args = parser.parse_args()
    report = asyncio.run(soak(args.minutes, args.frames, args.connections, args.log))
    print(report.as_json())
    failures = report.failures(judge_speed=not args.any_speed)
    for failure in failures:
        print(f"did not hold: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
