"""`satellite doctor`: what is wrong, and the command that mends it."""

import argparse
import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from satellite import configfile
from satellite.config import Config
from satellite.doctor import chat, gpu, house, machine, ollama
from satellite.doctor.finding import Finding, State
from satellite.errors import ConfigError, SatelliteError
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
    """Yield what is found, check by check, of this machine and of the daemon at `uri`."""
    try:
        config = configfile.load(path)
        where = path or (configfile.SYSTEM_CONFIG if configfile.SYSTEM_CONFIG.exists() else "built-in defaults")
        yield Finding("configuration", State.GOOD, str(where))
    except ConfigError as error:
        config = Config()
        yield Finding("configuration", State.BAD, str(error), f"mend it; every setting: {configfile.SYSTEM_CONFIG}")
    try:
        state = await client.status(uri)
    except SatelliteError as error:
        state = None
        yield Finding("daemon", State.BAD, str(error), "systemctl start satellite; journalctl -u satellite -n 20")
    for name, check in {**machine.CHECKS, **gpu.CHECKS, **house.CHECKS, **ollama.CHECKS, **chat.CHECKS}.items():
        for finding in await _checked(name, check, config, state, uri):
            yield finding


async def _checked(
    name: str, check: Check, config: Config, state: dict[str, Any] | None, uri: str
) -> Sequence[Finding]:
    """Return what a check finds; one that breaks, or takes too long, is bad itself."""
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            return await check(config, state, uri)
    except TimeoutError:
        return [Finding(name, State.BAD, f"could not be checked within {_CHECK_SECONDS:g} s", "try again")]
    except (SatelliteError, OSError, KeyError, ValueError) as error:
        _LOGGER.debug("%s could not be checked", name, exc_info=True)
        return [Finding(name, State.BAD, f"could not be checked: {error}", "journalctl -u satellite -n 20")]


def _show(console: Console, finding: Finding) -> None:
    console.print(f"{_SIGNS[finding.state]}  {escape(finding.what)}: {escape(finding.seen)}")
    if finding.remedy:
        console.print(f"      → {escape(finding.remedy)}")
