"""Checks of this machine: packages, models, disk, clock, ports, and the service's unit."""

import asyncio
import contextlib
import re
import shutil
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from satellite.binding import EVERYWHERE, bound
from satellite.config import Config
from satellite.doctor.finding import Finding, State
from satellite.errors import CannotListen, ModelError
from satellite.models.store import Store
from satellite.models.wanted import wanted_models

_LEAST_FREE_BYTES = 1_000_000_000
_CONNECT_SECONDS = 3.0
_HIGHEST_EXPOSURE = 1.5
_OPENINGS = Path("/etc/systemd/system/satellite.service.d")
_PULL = "sudo -u satellite satellite models pull configured"


async def _packages(_config: Config, _state: dict[str, Any] | None, _uri: str) -> Sequence[Finding]:
    found = []
    for name in ("onnxruntime", "onnxruntime-gpu"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append(f"{name} {metadata.version(name)}")
    if len(found) == 1:
        return [Finding("packages", State.GOOD, found[0])]
    remedy = "pip uninstall -y onnxruntime onnxruntime-gpu; pip install --no-deps onnxruntime (or onnxruntime-gpu)"
    return [Finding("packages", State.BAD, " and ".join(found) or "no onnxruntime; there must be exactly one", remedy)]


async def _models(config: Config, _state: dict[str, Any] | None, _uri: str) -> Sequence[Finding]:
    store = Store(config.models.directory)
    findings = []
    for spec in wanted_models(config):
        try:
            await asyncio.to_thread(store.verify, spec)
            findings.append(Finding(f"model {spec.reference}", State.GOOD, "is here, and sound"))
        except ModelError as error:
            findings.append(Finding(f"model {spec.reference}", State.BAD, str(error), _PULL))
    return findings


async def _disk(config: Config, _state: dict[str, Any] | None, _uri: str) -> Sequence[Finding]:
    folder = Store(config.models.directory).directory
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    seen = f"{free / 1e9:.1f} GB are free at {folder}"
    if free < _LEAST_FREE_BYTES:
        return [Finding("disk", State.BAD, seen, f"du -xh {folder} | sort -h | tail")]
    return [Finding("disk", State.GOOD, seen)]


async def _clock(_config: Config, _state: dict[str, Any] | None, _uri: str) -> Sequence[Finding]:
    answer = await _output("timedatectl", "show", "--property", "NTPSynchronized", "--value")
    if answer == "yes":
        return [Finding("clock", State.GOOD, "is kept by the network")]
    if answer == "no":
        seen = "is not kept by the network: the time that is told, and timers, may be wrong"
        return [Finding("clock", State.NOTE, seen, "sudo timedatectl set-ntp true")]
    return [Finding("clock", State.NOTE, "cannot be checked here")]


async def _ports(config: Config, state: dict[str, Any] | None, _uri: str) -> Sequence[Finding]:
    wyoming, here = config.wyoming, config.home_assistant_satellite
    names = ("port", "wake_port", "stt_port", "tts_port", "handle_port")
    wanted = {port: wyoming.host for name in names if (port := getattr(wyoming, name)) is not None}
    if here.enabled:
        wanted[here.port] = wyoming.host
    if config.http.enabled:
        wanted[config.http.port] = (config.http.host,)
    if state is not None:
        silent = [port for port, hosts in wanted.items() if not await _answers(hosts[0], port)]
        remedy = "sudo systemctl restart satellite"
        words = "does the daemon run with this configuration? nothing listens at"
    else:
        silent = [port for port, hosts in wanted.items() if not await _free(hosts, port)]
        remedy = f"ss -ltnp | grep -E ':({'|'.join(map(str, silent))}) '"
        words = "somebody else has"
    if silent:
        return [Finding("ports", State.BAD, f"{words} {', '.join(map(str, silent))}", remedy)]
    listed = ", ".join(map(str, wanted))
    told = f"{listed} are open" if state is not None else f"{listed} are free for the daemon"
    return [Finding("ports", State.GOOD, told)]


async def _answers(host: str, port: int) -> bool:
    host = "127.0.0.1" if host in EVERYWHERE else host
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.transport.abort()
    return True


async def _free(hosts: Sequence[str], port: int) -> bool:
    try:
        sockets = await bound(hosts, port)
    except CannotListen as error:
        return not error.taken
    for probe in sockets:
        probe.close()
    return True


async def _unit(_config: Config, _state: dict[str, Any] | None, _uri: str) -> Sequence[Finding]:
    if not await _output("systemctl", "cat", "satellite.service"):
        return [Finding("unit", State.NOTE, "there is no service of systemd here", "sudo ./install.sh")]
    findings = []
    if await _output("systemctl", "is-enabled", "satellite.service") != "enabled":
        remedy = "sudo systemctl enable satellite"
        findings.append(Finding("unit", State.BAD, "is not started with the machine", remedy))
    restarts = await _output("systemctl", "show", "--property", "NRestarts", "--value", "satellite.service")
    if restarts not in ("", "0"):
        seen = f"has been restarted {restarts} times after a failure"
        findings.append(Finding("unit", State.NOTE, seen, "journalctl -u satellite -p warning"))
    told = await _output("systemd-analyze", "security", "--no-pager", "satellite.service")
    if score := re.search(r"exposure level for \S+ ([\d.]+)", told):
        good = float(score[1]) <= _HIGHEST_EXPOSURE or _OPENINGS.is_dir()  # noqa: ASYNC240  # nobody waits for us here
        remedy = "" if good else "sudo ./install.sh --upgrade; systemd-analyze security satellite"
        seen = f"exposure {score[1]}, of 10"
        findings.append(Finding("unit", State.GOOD if good else State.NOTE, seen, remedy))
    return findings


async def _output(*command: str) -> str:
    """Return what a program prints, nothing where there is no such program."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
    except OSError:
        return ""
    return (await process.communicate())[0].decode(errors="replace").strip()


CHECKS = {
    "packages": _packages,
    "models": _models,
    "disk": _disk,
    "clock": _clock,
    "ports": _ports,
    "unit": _unit,
}
