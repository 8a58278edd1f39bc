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
IDLE_SECONDS = 30


def started(machine: Machine) -> tuple[float, float]:
    """Start the service, and return how soon it answered `describe`, and how soon it was ready, seconds."""
    machine.run("systemctl stop satellite")
    answered = float(machine.run(f"systemctl start --no-block satellite; python3 -c '{FIRST_ANSWER}'").stdout)
    machine.until("systemctl is-active satellite")
    began = int(machine.shown("ExecMainStartTimestampMonotonic")) / 1e6
    return round(answered - began, 2), round(int(machine.shown("ActiveEnterTimestampMonotonic")) / 1e6 - began, 2)


def idle_percent(machine: Machine) -> float:
    """Return the share of a core that all of its processes use while nobody speaks, percent."""
    before = int(machine.shown("CPUUsageNSec"))
    time.sleep(IDLE_SECONDS)
    return round((int(machine.shown("CPUUsageNSec")) - before) / 1e7 / IDLE_SECONDS, 1)


def test_figures(service: Machine, config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With a model that Ollama keeps, and a room that first detects the wake word itself and then streams silence."""
    room = f"systemd-run -q --unit room {WITH_DOUBLES} {PYTHON} -c '{ROOM}'"
    service.run(
        f"{room} wake; systemd-run -q --unit stand-in {WITH_DOUBLES} {PYTHON} -m tests.doubles ollama"
        " --port 11434 --model smollm2"
    )
    service.run(f"echo '{HOUSE}' >>{config}")
    starts = sorted(started(service) for _ in range(3))
    service.until("systemctl show -P StatusText satellite | grep -q 'ready · 1 room · ollama smollm2 warm'")
    time.sleep(15)  # what is freed after the start has gone back by then
    processes = "$(systemctl show -P ControlGroup satellite)/cgroup.procs"
    sizes = service.run(f"cat $(sed 's|.*|/proc/&/smaps_rollup|' /sys/fs/cgroup{processes}) | grep ^Pss:").stdout
    figures: dict[str, object] = {
        "describe_seconds": [answered for answered, _ in starts],
        "ready_seconds": [ready for _, ready in starts],
        "memory_megabytes": round(sum(int(line.split()[1]) for line in sizes.splitlines()) / 1e3),
        "cpu_percent_of_a_core_at_rest": idle_percent(service),
    }
    service.run(f"systemctl stop room; {room} always")
    service.until('satellite status --json | grep -q \'"state": "connected"\'')
    time.sleep(5)
    figures["cpu_percent_of_a_core_while_it_streams"] = idle_percent(service)
    figures["load_of_the_machine"] = service.run("cat /proc/loadavg").stdout
    with capsys.disabled():
        print("\n" + json.dumps(figures, indent=2))
    service.run(f"cp -p /srv/config.yaml {config}; systemctl stop stand-in room", check=False)
    service.run("systemctl restart satellite")
