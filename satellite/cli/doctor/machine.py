"""Checks of this machine: packages, models, disk, clock, ports, and the service's unit."""

import asyncio
import contextlib
import os
import re
import shutil
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from satellite.cli.doctor import unit
from satellite.cli.doctor.finding import Finding, State
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


async def _packages(_config: Config, _state: dict[str, Any] | None, _uri: str) -> Sequence[Finding]:
    found = []
    for name in ("onnxruntime", "onnxruntime-gpu"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append(f"{name} {metadata.version(name)}")
    if len(found) == 1:
        return [Finding("packages", State.GOOD, found[0])]
    pip = f"{sys.executable} -m pip"
    one = "onnxruntime-gpu" if await asyncio.to_thread(gpus) else "onnxruntime"
    remedy = f"{pip} uninstall -y onnxruntime onnxruntime-gpu && {pip} install --no-deps {one}"
    remedy = f"sudo {remedy.replace('&& ', '&& sudo ')}" if unit.installed() else remedy
    return [Finding("packages", State.BAD, " and ".join(found) or "no onnxruntime; there must be exactly one", remedy)]


async def _models(config: Config, state: dict[str, Any] | None, _uri: str) -> Sequence[Finding]:
    """Read every model, as the daemon does."""
    with unit.as_user():
        return await asyncio.to_thread(_verified, config, state is not None)


def _verified(config: Config, running: bool) -> list[Finding]:
    store = Store(config.models.directory)
    if closed := _closed(store.directory):
        seen = f"{closed} cannot be {'read by the user satellite' if unit.installed() else 'read'}"
        return [Finding("models", State.BAD, seen, unit.readable(closed))]
    findings = []
    for spec in wanted_models(config):
        try:
            store.verify(spec)
            findings.append(Finding(f"model {spec.reference}", State.GOOD, "is here, and sound"))
        except ModelError as error:
            pull = unit.command("models pull configured")
            corrupt = running and error.code == "model-corrupt"  # the daemon has loaded it as it was
            remedy = f"{pull} && {unit.restart()}" if corrupt and unit.installed() else pull
            findings.append(Finding(f"model {spec.reference}", State.BAD, str(error), remedy))
    return findings


def _closed(folder: Path) -> Path | None:
    """Return what of the models' folder cannot be read, the outermost; None where all can, or it is not there."""

    def unreadable(error: OSError) -> None:
        if isinstance(error, PermissionError):
            found.append(Path(error.filename))

    found: list[Path] = []
    for place, _, files in os.walk(folder, onerror=unreadable):
        if any(not os.access(Path(place, file), os.R_OK, effective_ids=True) for file in files):
            found.append(Path(place))
    return folder if found else None


async def _disk(config: Config, _state: dict[str, Any] | None, _uri: str) -> Sequence[Finding]:
    with unit.as_user():
        folder = Store(config.models.directory).directory
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    seen = f"{free / 1e9:.1f} GB are free at {folder}"
    if free < _LEAST_FREE_BYTES:
        while not folder.is_mount():
            folder = folder.parent
        return [Finding("disk", State.BAD, seen, f"sudo du -xh {folder} | sort -h | tail -n 20")]
    return [Finding("disk", State.GOOD, seen)]


async def _clock(_config: Config, _state: dict[str, Any] | None, _uri: str) -> Sequence[Finding]:
    told = await output("timedatectl", "show", "-p", "CanNTP", "-p", "NTP", "-p", "NTPSynchronized")
    clock = dict(line.partition("=")[::2] for line in told.splitlines())
    if not clock:
        return [Finding("clock", State.NOTE, "cannot be checked here")]
    if clock.get("NTPSynchronized") == "yes":
        return [Finding("clock", State.GOOD, "is kept by the network")]
    seen = "is not kept by the network: the time that is told, and timers, may be wrong"
    if clock.get("CanNTP") != "yes":
        remedy = "sudo apt-get install -y systemd-timesyncd" if shutil.which("apt-get") else "install chrony"
        return [Finding("clock", State.NOTE, f"{seen}; no program that would is installed", remedy)]
    remedy = "timedatectl timesync-status" if clock.get("NTP") == "yes" else "sudo timedatectl set-ntp true"
    return [Finding("clock", State.NOTE, seen, remedy)]


async def _ports(config: Config, state: dict[str, Any] | None, _uri: str) -> Sequence[Finding]:
    """Look whether the daemon has its ports, and if not, who has them."""
    wanted = _wanted(config)
    own = unit.account()
    active = own is not None and (await unit.state())[0] == "active"
    if active and own is not None:
        listening = unit.listening()
        closed = [port for port in wanted if own.pw_uid not in listening.get(port, ())]
    elif state is not None:
        closed = [port for port, hosts in wanted.items() if not await _answers(hosts[0], port)]
    else:
        closed = list(wanted)
    findings = []
    kept, absent = [], []
    for port in closed:
        try:
            for probe in await bound(wanted[port], port):
                probe.close()
            kept.append(port)
        except CannotListen as error:
            if error.taken:
                findings.append(Finding(f"port {port}", State.BAD, *unit.holder(port)))
            else:
                absent.append(str(port))
    if absent:
        hosts = ", ".join(wanted[int(absent[0])])
        seen = f"{', '.join(absent)} wait for an address that this machine does not have (yet): {hosts}"
        findings.append(Finding("ports", State.BAD, seen, "ip -brief address"))
    if (active or state is not None) and kept:
        seen = f"the daemon does not listen at {', '.join(map(str, kept))}: these take a new start"
        findings.append(Finding("ports", State.BAD, seen, unit.restart()))
    elif not findings:
        listed = ", ".join(map(str, wanted))
        told = f"{listed} are {'free for the daemon' if kept else 'open'}"
        findings.append(Finding("ports", State.GOOD, told))
    return findings


def _wanted(config: Config) -> dict[int, Sequence[str]]:
    """Return the configured ports, each with the hosts at which it is to be open."""
    wyoming, here = config.wyoming, config.home_assistant_satellite
    names = ("port", "wake_port", "stt_port", "tts_port", "handle_port")
    wanted: dict[int, Sequence[str]] = {
        port: wyoming.host for name in names if (port := getattr(wyoming, name)) is not None
    }
    if here.enabled:
        wanted[here.port] = wyoming.host
    if config.http.enabled:
        wanted[config.http.port] = (config.http.host,)
    return wanted


async def _answers(host: str, port: int) -> bool:
    host = "127.0.0.1" if host in EVERYWHERE else host
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.transport.abort()
    return True


async def _unit(_config: Config, _state: dict[str, Any] | None, _uri: str) -> Sequence[Finding]:
    if not unit.installed():
        return [Finding("unit", State.NOTE, "there is no service of systemd here", unit.installer(""))]
    findings = []
    if await output("systemctl", "is-enabled", "satellite.service") != "enabled":
        findings.append(
            Finding(
                "start", State.BAD, "the service is not started with the machine", "sudo systemctl enable satellite"
            )
        )
    restarts = await output("systemctl", "show", "--property", "NRestarts", "--value", "satellite.service")
    if restarts not in ("", "0"):
        seen = f"has been restarted {restarts} times after a failure"
        findings.append(Finding("unit", State.NOTE, seen, unit.log("-p warning -n 20")))
    told = await output("systemd-analyze", "security", "--no-pager", "satellite.service")
    if score := re.search(r"exposure level for \S+ ([\d.]+)", told):
        good = float(score[1]) <= _HIGHEST_EXPOSURE or _OPENINGS.is_dir()  # noqa: ASYNC240  # nobody waits for us here
        remedy = "" if good else "systemd-analyze security satellite"
        seen = f"exposure {score[1]}, of 10"
        findings.append(Finding("unit", State.GOOD if good else State.NOTE, seen, remedy))
    return findings


CHECKS = {
    "packages": _packages,
    "models": _models,
    "disk": _disk,
    "clock": _clock,
    "ports": _ports,
    "unit": _unit,
}
