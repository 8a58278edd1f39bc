"""`satellite doctor`: diagnose problems and suggest fixes."""

import argparse
import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from satellite.cli.doctor import chat_providers, found_devices, gpu, household, machine, ollama_server, unit
from satellite.cli.doctor.findings import Check, Finding, State, Target, bad, good, note
from satellite.config import loader
from satellite.config.settings import Config
from satellite.daemon import config_check
from satellite.errors import CannotListen, ConfigError, ConfigUnreadable, SatelliteError
from satellite.net.binding import bound
from satellite.wire import client

_LOGGER = logging.getLogger(__name__)

_CHECK_SECONDS = 60.0
"""The longest that one check may take: hashing large models is slow."""

_SIGNS = {State.GOOD: "[green]good[/]", State.NOTE: "[yellow]note[/]", State.BAD: "[red]bad [/]"}


async def run(args: argparse.Namespace) -> int:
    """Check everything, print it, and return 1 if something is bad, else 0."""
    console = Console(highlight=False, soft_wrap=True)
    found: list[Finding] = []
    async for finding in _examine(args.config, args.uri):
        finding = replace(finding, remedy=unit.typed(finding.remedy))
        found.append(finding)
        if not args.json:
            _show(console, finding)
    count = sum(finding.state is State.BAD for finding in found)
    if args.json:
        print(json.dumps({"ok": not count, "checks": [asdict(one) for one in found]}, ensure_ascii=False))
    else:
        console.print(f"\n{count} of {len(found)} checks are bad" if count else f"\nall {len(found)} checks are good")
    return 1 if count else 0


async def _examine(path: Path | None, uri: str) -> AsyncIterator[Finding]:
    """Yield what all checks find on this machine, and of the daemon at `uri`."""
    checks = machine.CHECKS | gpu.CHECKS | household.CHECKS | ollama_server.CHECKS | chat_providers.CHECKS
    checks |= found_devices.CHECKS
    config, finding = _configured(path)
    yield finding
    if config is None:
        checks = {name: check for name, check in checks.items() if name not in _OF_THE_CONFIGURATION}
    try:
        state = await client.status(uri)
    except SatelliteError as error:
        # Most checks still mean something: what a stopped daemon lacks is often why it is stopped.
        state = None
        yield await _silent(str(error), config, path)
    target = Target(config or Config(), state, uri)
    for name, check in checks.items():
        for finding in await _checked(name, check, target):
            yield finding


_OF_THE_CONFIGURATION = ("models", "disk", "ports", "hosted", "ollama", "elsewhere", "sound", "devices")
"""Checks that mean nothing where the configuration could not be read."""


def _configured(path: Path | None) -> tuple[Config | None, Finding]:
    """Read the configuration as the daemon does."""
    what = "configuration"
    file = path or loader.SYSTEM_CONFIG
    try:
        # Root could read a file that the service cannot; a file that was named is read as it is.
        with unit.as_user(wanted=path is None):
            config = config_check.load(path)
            where = str(file) if path or file.exists() else "built-in defaults"
    except ConfigUnreadable as error:
        if path is None and unit.is_stranger():
            return None, note(what, f"this user may not read {file}", "sudo satellite doctor")
        if path is None and unit.asks_as_service():
            seen = f"{file} cannot be read by the user satellite, which runs the service"
            return None, bad(what, seen, _opened(file))
        return None, bad(what, str(error), f"ls -l {file}")
    except ConfigError as error:
        again = "sudo systemctl reload-or-restart satellite" if unit.installed() else unit.command("check", path)
        remedy = f"fix it, then: {again}; every setting: {unit.command('config --example')}"
        return None, bad(what, str(error), remedy)
    return config, good(what, where)


def _opened(file: Path) -> str:
    """Return the command that lets the service read a file, and enter its folder."""
    with unit.as_user():
        closed = [str(one) for one in (file.parent, file) if not os.access(one, os.R_OK, effective_ids=True)]
    names = " ".join(closed) or str(file)
    return f"sudo chgrp satellite {names} && sudo chmod g+rX {names}"


async def _silent(error: str, config: Config | None, path: Path | None) -> Finding:
    """Report why the daemon does not answer, as far as systemd and the journal know."""
    if not unit.installed():
        return bad("daemon", error, unit.command("run", path))
    active, result = await unit.state()
    errors = await unit.last_errors()
    last = f"; its last errors: {errors}" if errors else ""
    if active == "active":
        # It runs and still does not answer: either no address of its own exists yet, or the file names other ports than
        # those that it opened, since a reload does not move them.
        try:
            for probe in await bound(config.wyoming.host, 0) if config else ():
                probe.close()
        except CannotListen:
            seen = f"{error}: the service runs, and waits for an address that this machine does not have (yet)"
            return bad("daemon", seen, "ip -brief address")
        seen = f"{error}: the service runs, but it keeps the ports with which it was started"
        return bad("daemon", seen, unit.RESTART)
    if active in ("activating", "reloading"):
        return bad("daemon", f"{error}: the service is being started{last}", unit.log())
    if active == "failed":
        seen = f"{error}: the service has failed ({result}){last}"
        return bad("daemon", seen, "sudo systemctl reset-failed satellite; sudo systemctl start satellite")
    return bad("daemon", f"{error}: the service is stopped", "sudo systemctl start satellite")


async def _checked(name: str, check: Check, target: Target) -> Sequence[Finding]:
    """Return what a check finds; one that fails itself, or takes too long, is reported as bad."""
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            return await check(target)
    except TimeoutError:
        return [bad(name, f"could not be checked within {_CHECK_SECONDS:g} s", unit.command("status"))]
    except (SatelliteError, OSError, KeyError, ValueError) as error:
        _LOGGER.debug("%s could not be checked", name, exc_info=True)
        return [bad(name, f"could not be checked: {error}", unit.log())]


def _show(console: Console, finding: Finding) -> None:
    console.print(f"{_SIGNS[finding.state]}  {escape(finding.what)}: {escape(finding.seen)}")
    if finding.remedy:
        console.print(f"      → {escape(finding.remedy)}")
