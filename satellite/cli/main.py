"""The command line: runs one command, and turns its errors into a message and an exit status."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Coroutine, Mapping
from importlib import import_module
from pathlib import Path

from satellite.cli.arguments import parse
from satellite.errors import ConfigError, ConfigUnreadable, DaemonUnreachable, SatelliteError

# Every import of more than the standard library's smallest modules is inside a function: `--help` and shell completion
# run this file at each key press.

Command = Callable[[argparse.Namespace], int | Coroutine[object, object, int]]
"""Returns the exit status, or a coroutine that does."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status, as listed by `satellite --help`."""
    try:
        try:
            return _main(parse(arguments))
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output, such as `head`, has ended
        # Python flushes standard output once more at exit, which would raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _main(args: argparse.Namespace) -> int:
    try:
        if args.config is not None and args.action in _TAKE_ANY_CONFIG:
            _validate_config(args.config)
        if "uri" in args and args.uri is None:
            args.uri, args.own = _own_uri(args.config), True
        status = _COMMANDS[args.action](args)
        return status if isinstance(status, int) else _run_in_foreground(args, status)
    except SatelliteError as error:
        _report(args, error)
        return _exit_status(error, args.action)
    except KeyboardInterrupt:
        return 130


_TAKE_ANY_CONFIG = ("ask", "say", "rooms", "announce", "status", "bench", "completion")
"""Commands that need no configuration; one that was named has to be valid all the same."""


def _validate_config(path: Path) -> None:
    from satellite.daemon import config_check

    config_check.load(path)


def _own_uri(path: Path | None) -> str:
    """Return the configured daemon's address, or the default one where the system's configuration cannot be read."""
    from satellite.daemon import config_check
    from satellite.wire import client

    try:
        wyoming = config_check.load(path).wyoming
    except ConfigError:
        return client.DEFAULT_URI
    return client.own_uri(wyoming.host, wyoming.port)


def _run_in_foreground(args: argparse.Namespace, command: Coroutine[object, object, int]) -> int:
    import asyncio

    from satellite.system import logs

    logs.set_up("debug" if args.verbose else "error")
    return asyncio.run(command)


def _report(args: argparse.Namespace, error: SatelliteError) -> None:
    """Print the error on standard error; with `--json` also on standard output, as an object."""
    text = str(error)
    if isinstance(error, DaemonUnreachable) and "own" in args:
        from satellite.cli.doctor import unit

        text += f"; start it: {'sudo systemctl start satellite' if unit.installed() else 'satellite run'}"
    print(f"error: [{error.code}]{chr(10) if chr(10) in text else ' '}{text}", file=sys.stderr)
    if getattr(args, "json", False):
        print(json.dumps({"error": {"code": error.code, "message": text}}, ensure_ascii=False))


def _exit_status(error: SatelliteError, action: str) -> int:
    """Return a command's exit status; status 2 of `run` keeps systemd from trying again."""
    if isinstance(error, ConfigError):
        return 1 if action == "run" and isinstance(error, ConfigUnreadable) else 2
    if isinstance(error, DaemonUnreachable):
        return 5
    return 2 if error.code == "model-unknown" else 1


def _run(args: argparse.Namespace) -> int:
    import gc

    gc.disable()  # imports leave no garbage, and looking for it takes a fifth of their time
    import asyncio
    import logging

    from satellite.daemon import config_check, serving
    from satellite.system import logs

    logs.set_up("debug" if args.verbose else "info")
    try:
        config = config_check.load(args.config)
        if not args.verbose:
            logs.set_level(config.log_level)
        # Closing the runner would wait for its threads, and one may be in the middle of an import.
        status = asyncio.Runner().run(serving.serve(config, args.config, verbose=args.verbose))
    except SatelliteError as error:
        if not logs.in_journal():
            raise
        # Printed to standard error it would have no priority in the journal.
        logging.getLogger(__name__).critical("%s", error, extra={"code": error.code})
        status = _exit_status(error, args.action)
    # An engine's thread cannot be interrupted in the middle of a computation, and an ordinary exit would wait for it.
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)


def _config(args: argparse.Namespace) -> int:
    from satellite.config import reference
    from satellite.daemon import config_check

    if args.effective:
        print(reference.effective(config_check.load(args.config)), end="")
    elif args.schema:
        print(json.dumps(reference.schema(), indent=2, ensure_ascii=False))
    else:
        print(reference.example(), end="")
    return 0


def _bench(args: argparse.Namespace) -> int:
    """Run the benchmark, which is a distribution of its own."""
    from importlib.metadata import entry_points

    found = list(entry_points(group="satellite.bench"))
    if not found:
        raise SatelliteError(
            "the benchmark is not installed; in a checkout of the source: make bench, or pip install ./bench",
            code="bench-missing",
        )
    run: Callable[[list[str]], int] = found[0].load()
    return run([*([] if args.config is None else ["--config", str(args.config)]), *args.arguments])


def _in_module(module: str, function: str = "run") -> Command:
    """Return a command that imports its module when it is run."""

    def command(args: argparse.Namespace) -> int | Coroutine[object, object, int]:
        found: Command = getattr(import_module(f"satellite.cli.{module}"), function)
        return found(args)

    return command


_COMMANDS: Mapping[str, Command] = {
    "run": _run,
    "check": _in_module("check"),
    "config": _config,
    "demo": _in_module("demo"),
    "ask": _in_module("ask", "ask"),
    "say": _in_module("ask", "say"),
    "announce": _in_module("ask", "announce"),
    "rooms": _in_module("room_list"),
    "status": _in_module("status_page"),
    "doctor": _in_module("doctor.command"),
    "certificate": _in_module("certificate"),
    "models": _in_module("models"),
    "tune": _in_module("tune"),
    "bench": _bench,
    "completion": _in_module("completion"),
    "room-names": _in_module("room_names"),
}
