"""Checks of this machine: packages, models, disk, clock, ports, and the systemd unit."""

import asyncio
import contextlib
import os
import re
import shutil
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from satellite.cli.doctor import unit
from satellite.cli.doctor.findings import Finding, Target, bad, good, note
from satellite.cli.doctor.unit import output
from satellite.config.settings import Config
from satellite.errors import CannotListen, ModelError
from satellite.models.store import Store, wanted_models
from satellite.net.binding import EVERYWHERE, bound
from satellite.system.nvidia import gpus

_LEAST_FREE_BYTES = 1_000_000_000
_CONNECT_SECONDS = 3.0
_HIGHEST_EXPOSURE = 1.5
_OPENINGS = Path("/etc/systemd/system/satellite.service.d")


async def _packages(_target: Target) -> Sequence[Finding]:
    found = []
    # The two packages own the same files: with both, those of the one that was installed last are in use.
    for name in ("onnxruntime", "onnxruntime-gpu"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append(f"{name} {metadata.version(name)}")
    if len(found) == 1:
        return [good("packages", found[0])]
    pip = f"{sys.executable} -m pip"
    one = "onnxruntime-gpu" if await asyncio.to_thread(gpus) else "onnxruntime"
    remedy = f"{pip} uninstall -y onnxruntime onnxruntime-gpu && {pip} install --no-deps {one}"
    remedy = f"sudo {remedy.replace('&& ', '&& sudo ')}" if unit.installed() else remedy
    return [bad("packages", " and ".join(found) or "no onnxruntime; there must be exactly one", remedy)]


async def _models(target: Target) -> Sequence[Finding]:
    """Read every model as the daemon does."""
    with unit.as_user():
        return await asyncio.to_thread(_verified, target.config, target.state is not None)


def _verified(config: Config, running: bool) -> list[Finding]:
    store = Store(config.models.directory)
    if closed := _closed(store.directory):
        seen = f"{closed} cannot be {'read by the user satellite' if unit.installed() else 'read'}"
        return [bad("models", seen, unit.readable(closed))]
    findings = []
    for spec in wanted_models(config):
        try:
            store.verify(spec)
            findings.append(good(f"model {spec.reference}", "is present and intact"))
        except ModelError as error:
            pull = unit.command("models pull configured")
            corrupt = running and error.code == "model-corrupt"  # the daemon still has the damaged one in memory
            remedy = f"{pull} && {unit.restart()}" if corrupt and unit.installed() else pull
            findings.append(bad(f"model {spec.reference}", str(error), remedy))
    return findings


def _closed(folder: Path) -> Path | None:
    """Return the outermost folder that cannot be read; None if all can be, or there is none."""

    def unreadable(error: OSError) -> None:
        if isinstance(error, PermissionError):
            found.append(Path(error.filename))

    found: list[Path] = []
    for place, _, files in os.walk(folder, onerror=unreadable):
        if any(not os.access(Path(place, file), os.R_OK, effective_ids=True) for file in files):
            found.append(Path(place))
    return folder if found else None


async def _disk(target: Target) -> Sequence[Finding]:
    with unit.as_user():
        folder = Store(target.config.models.directory).directory
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    seen = f"{free / 1e9:.1f} GB are free at {folder}"
    if free < _LEAST_FREE_BYTES:
        while not folder.is_mount():
            folder = folder.parent
        return [bad("disk", seen, f"sudo du -xh {folder} | sort -h | tail -n 20")]
    return [good("disk", seen)]


async def _clock(_target: Target) -> Sequence[Finding]:
    shown = await output("timedatectl", "show", "-p", "CanNTP", "-p", "NTP", "-p", "NTPSynchronized")
    clock = dict(line.partition("=")[::2] for line in shown.splitlines())
    if not clock:
        return [note("clock", "cannot be checked here")]
    if clock.get("NTPSynchronized") == "yes":
        return [good("clock", "is synchronised")]
    seen = "is not synchronised: spoken times, and timers, may be wrong"
    if clock.get("CanNTP") != "yes":
        remedy = "sudo apt-get install -y systemd-timesyncd" if shutil.which("apt-get") else "install chrony"
        return [note("clock", f"{seen}; no time service is installed", remedy)]
    remedy = "timedatectl timesync-status" if clock.get("NTP") == "yes" else "sudo timedatectl set-ntp true"
    return [note("clock", seen, remedy)]


async def _ports(target: Target) -> Sequence[Finding]:
    """Report whether the daemon has its ports, and if not, which process has them."""
    wanted = dict(target.config.ports.values())
    own = unit.account()
    active = own is not None and (await unit.state())[0] == "active"
    if active and own is not None:
        # The kernel knows whose sockets they are; a connection would also succeed at another program's.
        listening = unit.listening()
        closed = [port for port in wanted if own.pw_uid not in listening.get(port, ())]
    elif target.state is not None:
        closed = [port for port, hosts in wanted.items() if not await _answers(hosts[0], port)]
    else:
        closed = list(wanted)
    findings = []
    kept, absent = [], []
    for port in closed:
        # The kernel does not report why a port is closed, but opening it fails with the reason.
        try:
            for probe in await bound(wanted[port], port):
                probe.close()
            kept.append(port)
        except CannotListen as error:
            if error.taken:
                findings.append(bad(f"port {port}", *unit.holder(port)))
            else:
                absent.append(str(port))
    if absent:
        hosts = ", ".join(wanted[int(absent[0])])
        seen = f"{', '.join(absent)} wait for an address that this machine does not have (yet): {hosts}"
        findings.append(bad("ports", seen, "ip -brief address"))
    if (active or target.state is not None) and kept:
        seen = f"the daemon does not listen at {', '.join(map(str, kept))}: these ports take a restart"
        findings.append(bad("ports", seen, unit.restart()))
    elif not findings:
        listed = ", ".join(map(str, wanted))
        findings.append(good("ports", f"{listed} are {'free for the daemon' if kept else 'open'}"))
    return findings


async def _answers(host: str, port: int) -> bool:
    host = "127.0.0.1" if host in EVERYWHERE else host
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.transport.abort()
    return True


async def _unit(_target: Target) -> Sequence[Finding]:
    if not unit.installed():
        return [note("unit", "no systemd service is installed", unit.installer(""))]
    findings = []
    if await output("systemctl", "is-enabled", "satellite.service") != "enabled":
        findings.append(bad("start", "the service does not start at boot", "sudo systemctl enable satellite"))
    restarts = await output("systemctl", "show", "--property", "NRestarts", "--value", "satellite.service")
    if restarts not in ("", "0"):
        seen = f"has been restarted {restarts} times after a failure"
        findings.append(note("unit", seen, unit.log("-p warning -n 20")))
    analysis = await output("systemd-analyze", "security", "--no-pager", "satellite.service")
    if score := re.search(r"exposure level for \S+ ([\d.]+)", analysis):
        is_low = float(score[1]) <= _HIGHEST_EXPOSURE or _OPENINGS.is_dir()  # noqa: ASYNC240  # the only task of its loop
        seen = f"exposure {score[1]}, of 10"
        findings.append(good("unit", seen) if is_low else note("unit", seen, "systemd-analyze security satellite"))
    return findings


CHECKS = {"packages": _packages, "models": _models, "disk": _disk, "clock": _clock, "ports": _ports, "unit": _unit}
