"""What the service costs and how soon it is there; printed, not judged: `make test-system ARGS="-k figures"`."""

import json
import time

import pytest

from tests.system.machine import WITH_DOUBLES, Machine

HOUSE = """
chat: {providers: [{type: ollama, model: smollm2}, {type: local}]}
rooms: [{name: attic, uri: "tcp://127.0.0.1:10799"}]
"""
ROOM = """
import asyncio, sys
from tests.doubles.satellite import ScriptedSatellite
async def main():
    async with ScriptedSatellite(name="attic", mode=sys.argv[1], port=10799):
        await asyncio.Event().wait()
asyncio.run(main())
"""
FIRST_ANSWER = """
import json, socket, time
while True:
    try:
        with socket.create_connection(("127.0.0.1", 10600), 30) as peer:
            peer.sendall(json.dumps({"type": "describe"}).encode() + b"\\n")
            if peer.recv(1):
                break
    except ConnectionRefusedError:
        time.sleep(0.005)
print(time.monotonic())
"""
PYTHON = "/opt/satellite/current/bin/python"
REST_SECONDS = 30


def shown(machine: Machine, name: str) -> int:
    """Return a number that systemd knows of the service."""
    return int(machine.run(f"systemctl show -P {name} satellite").stdout)


def started(machine: Machine) -> tuple[float, float]:
    """Start the service, and return how soon it answered `describe`, and how soon it was ready, seconds."""
    machine.run("systemctl stop satellite")
    answered = float(machine.run(f"systemctl start --no-block satellite; python3 -c '{FIRST_ANSWER}'").stdout)
    machine.until("systemctl is-active satellite")
    began = shown(machine, "ExecMainStartTimestampMonotonic") / 1e6
    return answered - began, shown(machine, "ActiveEnterTimestampMonotonic") / 1e6 - began


def memory(machine: Machine, kind: str) -> int:
    """Return the memory of all of its processes, by a line of the kernel's smaps_rollup, megabytes."""
    group = "/sys/fs/cgroup$(systemctl show -P ControlGroup satellite)/cgroup.procs"
    lines = machine.run(f"cat $(sed 's|.*|/proc/&/smaps_rollup|' {group}) | grep '^{kind}:'").stdout.splitlines()
    return round(sum(int(line.split()[1]) for line in lines) / 1e3)


def at_rest(machine: Machine) -> float:
    """Return what all of its processes use of a core while nobody says anything, percent."""
    before = shown(machine, "CPUUsageNSec")
    time.sleep(REST_SECONDS)
    return round((shown(machine, "CPUUsageNSec") - before) / 1e7 / REST_SECONDS, 1)


def test_figures(service: Machine, config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With one room and a model that Ollama keeps: from the start to `describe` and to ready, memory, CPU at rest.

    The room listens for its wake word itself, and then streams all the time, silence.
    """
    stand_in = f"{PYTHON} -m tests.doubles ollama --port 11434 --model smollm2"
    room = f"systemd-run -q --unit room {WITH_DOUBLES} {PYTHON} -c '{ROOM}'"
    service.run(f"systemd-run -q --unit stand-in {WITH_DOUBLES} {stand_in} && {room} wake")
    service.run(f"echo '{HOUSE}' >>{config}")
    starts = sorted(started(service) for _ in range(3))
    service.until("systemctl show -P StatusText satellite | grep -q 'ready · 1 room · ollama smollm2 warm'")
    time.sleep(15)  # what is freed after the start has gone back by then
    figures: dict[str, object] = {
        "describe_seconds": [round(describe, 2) for describe, _ in starts],
        "ready_seconds": [round(ready, 2) for _, ready in starts],
        "cpu_percent_of_a_core_at_rest": at_rest(service),
        "memory_megabytes": memory(service, "Pss"),
        "memory_without_files_megabytes": memory(service, "Anonymous"),
    }
    service.run(f"systemctl stop room; {room} always")
    service.until('satellite status --json | grep -q \'"state": "connected"\'')
    time.sleep(5)
    figures["cpu_percent_of_a_core_while_it_streams"] = at_rest(service)
    figures["load_of_the_machine"] = float(service.run("cat /proc/loadavg").stdout.split()[0])
    with capsys.disabled():
        print("\n" + json.dumps(figures, indent=2))
    service.run(
        f"cp -p /srv/config.yaml {config}; systemctl stop stand-in room; systemctl restart satellite", check=False
    )
