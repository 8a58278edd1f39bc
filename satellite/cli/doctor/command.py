"""`satellite doctor`: diagnose problems and suggest fixes."""

import argparse
import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from satellite.cli.doctor import chat, gpu, household, machine, ollama, unit
from satellite.cli.doctor.finding import Finding, State
from satellite.config import loader
from satellite.config.settings import Config
from satellite.daemon import config_check
from satellite.errors import CannotListen, ConfigError, ConfigUnreadable, SatelliteError
from satellite.net.binding import bound
from satellite.wire import client

_LOGGER = logging.getLogger(__name__)

_CHECK_SECONDS = 60.0
"""Longest check; the hashes of large models take their time."""

_SIGNS = {State.GOOD: "[green]good[/]", State.NOTE: "[yellow]note[/]", State.BAD: "[red]bad [/]"}

Check = Callable[[Config, dict[str, Any] | None, str], Awaitable[Sequence[Finding]]]


async def run(args: argparse.Namespace) -> int:
    """Check everything, print it, and return 1 if something is bad, else 0."""
    console = Console(highlight=False, soft_wrap=True)
    found: list[Finding] = []
    async for finding in examine(args.config, args.uri):
        found.append(finding)
        if not args.json:
            _show(console, finding)
    bad = [finding for finding in found if finding.state is State.BAD]
    if args.json:
        print(json.dumps({"ok": not bad, "checks": [asdict(one) for one in found]}, ensure_ascii=False))
    else:
        console.print(f"\n{len(bad)} of {len(found)} checks are bad" if bad else f"\nall {len(found)} checks are good")
    return 1 if bad else 0


async def examine(path: Path | None, uri: str) -> AsyncIterator[Finding]:
    """Yield what is found of this machine and of the daemon at `uri`; cures are as this user types them."""
    async for finding in _examine(path, uri):
        yield replace(finding, remedy=unit.typed(finding.remedy))


async def _examine(path: Path | None, uri: str) -> AsyncIterator[Finding]:
    checks = {**machine.CHECKS, **gpu.CHECKS, **household.CHECKS, **ollama.CHECKS, **chat.CHECKS}
    config, finding = _configured(path)
    yield finding
    if config is None:  # what follows from it cannot be told
        checks = {name: check for name, check in checks.items() if name not in _OF_THE_CONFIGURATION}
    try:
        state = await client.status(uri)
    except SatelliteError as error:
        state = None
        yield await _silent(str(error), config, path)
    for name, check in checks.items():
        for finding in await _checked(name, check, config or Config(), state, uri):
            yield finding


_OF_THE_CONFIGURATION = ("models", "disk", "ports", "hosted", "ollama", "elsewhere", "sound")
"""Checks that say nothing where the configuration is not known."""


def _configured(path: Path | None) -> tuple[Config | None, Finding]:
    """Read the configuration as the daemon does."""
    what = "configuration"
    file = path or loader.SYSTEM_CONFIG
    try:
        with unit.as_user(wanted=path is None):
            config = config_check.load(path)
            where = str(file) if path or file.exists() else "built-in defaults"
    except ConfigUnreadable as error:
        if path is None and unit.is_stranger():
            return None, Finding(what, State.NOTE, f"{file} is not for this user to read", "sudo satellite doctor")
        if path is None and unit.asks_as_service():
            seen = f"{file} cannot be read by the user satellite, who runs the service"
            return None, Finding(what, State.BAD, seen, _opened(file))
        return None, Finding(what, State.BAD, str(error), f"ls -l {file}")
    except ConfigError as error:
        again = "sudo systemctl reload-or-restart satellite" if unit.installed() else "satellite check"
        remedy = f"fix it, then: {again}; every setting: {unit.command('config --example')}"
        return None, Finding(what, State.BAD, str(error), remedy)
    return config, Finding(what, State.GOOD, where)


def _opened(file: Path) -> str:
    """Return what lets the service read a file, and enter the folder in which it is."""
    with unit.as_user():
        closed = [str(one) for one in (file.parent, file) if not os.access(one, os.R_OK, effective_ids=True)]
    names = " ".join(closed) or str(file)
    return f"sudo chgrp satellite {names} && sudo chmod g+rX {names}"


async def _silent(error: str, config: Config | None, path: Path | None) -> Finding:
    """Tell why the daemon does not answer, as far as systemd and the journal know."""
    if not unit.installed():
        return Finding("daemon", State.BAD, error, unit.command("run", path))
    active, result = await unit.state()
    said = await unit.last_errors()
    words = f"; its last words: {said}" if said else ""
    if active == "active":
        try:
            for probe in await bound(config.wyoming.host, 0) if config else ():
                probe.close()
        except CannotListen:
            seen = f"{error}: the service runs, and waits for an address that this machine does not have (yet)"
            return Finding("daemon", State.BAD, seen, "ip -brief address")
        seen = f"{error}: the service runs, but it keeps the ports with which it was started"
        return Finding("daemon", State.BAD, seen, unit.RESTART)
    if active in ("activating", "reloading"):
        return Finding("daemon", State.BAD, f"{error}: the service is being started{words}", unit.log())
    if active == "failed":
        seen = f"{error}: the service has failed ({result}){words}"
        return Finding(
            "daemon", State.BAD, seen, "sudo systemctl reset-failed satellite; sudo systemctl start satellite"
        )
    return Finding("daemon", State.BAD, f"{error}: the service is stopped", "sudo systemctl start satellite")


async def _checked(
    name: str, check: Check, config: Config, state: dict[str, Any] | None, uri: str
) -> Sequence[Finding]:
    """Return what a check finds; one that breaks, or takes too long, is bad itself."""
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            return await check(config, state, uri)
    except TimeoutError:
        return [Finding(name, State.BAD, f"could not be checked within {_CHECK_SECONDS:g} s", unit.command("status"))]
    except (SatelliteError, OSError, KeyError, ValueError) as error:
        _LOGGER.debug("%s could not be checked", name, exc_info=True)
        return [Finding(name, State.BAD, f"could not be checked: {error}", unit.log())]


def _show(console: Console, finding: Finding) -> None:
    console.print(f"{_SIGNS[finding.state]}  {escape(finding.what)}: {escape(finding.seen)}")
    if finding.remedy:
        console.print(f"      → {escape(finding.remedy)}")
