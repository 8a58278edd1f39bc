"""The command line: what each command does, and its exit status. What is large is imported where it is used."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from satellite.cli.arguments import parse, parser
from satellite.errors import ConfigError, ConfigUnreadable, DaemonUnreachable, SatelliteError

if TYPE_CHECKING:
    from satellite.config.settings import Config
    from satellite.wire import client


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status, as `satellite --help` tells."""
    try:
        try:
            return _main(parse(arguments))
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has gone, which is no trouble of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _main(args: argparse.Namespace) -> int:
    try:
        if args.config is not None and args.action in _TAKE_ANY_CONFIG:
            _load(args)
        if "uri" in args and args.uri is None:
            args.uri, args.own = _own_uri(args), True
        return _COMMANDS[args.action](args)
    except SatelliteError as error:
        _tell(args, error)
        return _exit_status(error, args.action)
    except KeyboardInterrupt:
        return 130


_TAKE_ANY_CONFIG = ("ask", "say", "rooms", "announce", "status", "bench", "completion")
"""Commands that need no configuration; one that was named must be good all the same."""


def _tell(args: argparse.Namespace, error: SatelliteError) -> None:
    """Say on standard error what has failed; with `--json` also on standard output, as an object."""
    text = str(error)
    if isinstance(error, DaemonUnreachable) and "own" in args:
        from satellite.cli.doctor import unit

        text += f"; start it: {'sudo systemctl start satellite' if unit.installed() else 'satellite run'}"
    print(f"error: [{error.code}]{chr(10) if chr(10) in text else ' '}{text}", file=sys.stderr)
    if getattr(args, "json", False):
        print(json.dumps({"error": {"code": error.code, "message": text}}, ensure_ascii=False))


def _own_uri(args: argparse.Namespace) -> str:
    """Return where the configured daemon listens; the usual address where the system's configuration cannot be read."""
    from satellite.daemon import config_check
    from satellite.wire import client

    try:
        wyoming = config_check.load(args.config).wyoming
    except ConfigError:
        return client.DEFAULT_URI
    return client.own_uri(wyoming.host, wyoming.port)


def _load(args: argparse.Namespace) -> "Config":
    from satellite.daemon import config_check

    return config_check.load(args.config)


def _foreground(args: argparse.Namespace, command: Coroutine[Any, Any, int]) -> int:
    import asyncio

    from satellite.system import logs

    logs.set_up("debug" if args.verbose else "error")
    return asyncio.run(command)


def _run(args: argparse.Namespace) -> int:
    import gc

    gc.disable()  # nothing that is imported becomes garbage, and looking for some takes a fifth of the time
    import asyncio
    import logging

    from satellite.daemon import serving
    from satellite.system import logs

    logs.set_up("debug" if args.verbose else "info")
    try:
        config = _load(args)
        if not args.verbose:
            logs.set_level(config.log_level)
        # Never closed: it would wait for threads, and one may be in the middle of an import.
        status = asyncio.Runner().run(serving.serve(config, args.config, verbose=args.verbose))
    except SatelliteError as error:
        if not logs.in_journal():
            raise
        # Printed, it would have no priority there.
        logging.getLogger(__name__).critical("%s", error, extra={"code": error.code})
        status = _exit_status(error, args.action)
    # An engine's thread cannot be interrupted in the middle of a computation: leave without waiting for it.
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)


def _exit_status(error: SatelliteError, action: str) -> int:
    """Return what a command ends with; of the daemon, 2 is what systemd need not try again."""
    if isinstance(error, ConfigError):
        return 1 if action == "run" and isinstance(error, ConfigUnreadable) else 2
    if isinstance(error, DaemonUnreachable):
        return 5
    return 2 if error.code == "model-unknown" else 1


def _check(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from satellite.cli.check import problems
    from satellite.models.store import Store

    config = _load(args)
    store = Store(config.models.directory)
    found = list(problems(config, store))
    if args.json:
        told = {"ok": not found, "models_directory": str(store.directory), "problems": [asdict(one) for one in found]}
        print(json.dumps(told))
        return 1 if found else 0
    print("configuration: good")
    for problem in found:
        print(f"error: [{problem.code}] {problem.key}: {problem.text}", file=sys.stderr)
    if found:
        print("the daemon starts, without what needs these", file=sys.stderr)
    else:
        print(f"models: all present in {store.directory}")
    return 1 if found else 0


def _config(args: argparse.Namespace) -> int:
    from satellite.config import reference

    if args.effective:
        print(reference.effective(_load(args)), end="")
    elif args.schema:
        print(json.dumps(reference.schema(), indent=2, ensure_ascii=False))
    else:
        print(reference.example(), end="")
    return 0


def _demo(args: argparse.Namespace) -> int:
    from satellite.cli import demo

    return _foreground(args, demo.run(args))


async def _ask(args: argparse.Namespace) -> int:
    from satellite.audio import sound_files
    from satellite.wire import client

    file = Path(args.question)
    if file.suffix.lower() in sound_files.SUFFIXES:
        heard = await _ask_recording(args, file)
        if not args.json:
            print(f"heard: {heard.transcript}\n{heard.reply}")
    else:
        say_on = (lambda _: None) if args.json else (lambda words: print(words, end="", flush=True))
        heard = await client.ask_text(args.uri, args.question, say_on, args.language)
        if not args.json:
            print()
        if args.output:
            spoken = await client.say(args.uri, heard.reply)
            heard.pcm, heard.format = spoken.pcm, spoken.format
    if args.output:
        _write_sound(heard, args.output)
    if args.json:
        print(json.dumps(_described(heard, args.output), ensure_ascii=False))
    return 0


async def _ask_recording(args: argparse.Namespace, file: Path) -> "client.Heard":
    from wyoming.pipeline import PipelineStage

    from satellite.audio.sound_files import read_sound
    from satellite.wire import client

    pcm = read_sound(file)
    end = PipelineStage.TTS if args.output else PipelineStage.HANDLE
    return await client.converse(args.uri, client.recording(pcm, realtime=False), start=PipelineStage.ASR, end=end)


async def _say(args: argparse.Namespace) -> int:
    from satellite.wire import client

    heard = await client.say(args.uri, args.text, args.voice, args.speaker)
    _write_sound(heard, args.output)
    if args.json:
        print(json.dumps({"output": str(args.output), "audio_seconds": round(heard.audio_seconds, 3)}))
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from satellite.cli.doctor import command

    return _foreground(args, command.run(args))


async def _status(args: argparse.Namespace) -> int:
    from satellite.wire import client

    if args.watch:
        from satellite.cli import status_page

        await status_page.watch(lambda: client.status(args.uri))
    state = await client.status(args.uri)
    if args.json:
        print(json.dumps(state, ensure_ascii=False))
    elif args.metrics:
        from satellite.monitoring import metrics

        print(metrics.exposition(state), end="")
    else:
        from satellite.cli import status_page

        status_page.show(state)
    return _STATUS_EXITS[state["state"]]


_STATUS_EXITS = {"ready": 0, "degraded": 3, "loading": 4}
"""What `satellite status` exits with; `_exit_status` has the rest."""


async def _rooms(args: argparse.Namespace) -> int:
    from satellite.cli import status_page
    from satellite.wire import client

    if args.action_of_rooms == "devices":
        return await _devices(args)
    if args.action_of_rooms == "discover":
        from satellite.wire.discovery import discover

        found = await discover(_own_ports(args))
    else:
        found = (await client.status(args.uri))["rooms"]
    if args.json:
        print(json.dumps({"rooms": found}, ensure_ascii=False))
    else:
        status_page.show_rooms(found)
    return 0


def _own_ports(args: argparse.Namespace) -> list[int]:
    """Return the ports of the configured daemon; the usual ones where the system's configuration cannot be read."""
    from satellite.config.settings import Config

    try:
        config = _load(args)
    except ConfigError:
        config = Config()
    wyoming = config.wyoming
    ports = (wyoming.port, wyoming.wake_port, wyoming.stt_port, wyoming.tts_port, wyoming.handle_port)
    return [port for port in (*ports, config.home_assistant_satellite.port) if port]


async def _devices(args: argparse.Namespace) -> int:
    """Show this machine's microphones and speakers; needs no running daemon."""
    import asyncio

    from satellite.cli import status_page
    from satellite.rooms.host import portaudio

    found = await asyncio.to_thread(portaudio.devices)
    if args.json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        status_page.show_devices(found)
    return 0


async def _announce(args: argparse.Namespace) -> int:
    from satellite.wire import client

    where = {"rooms": args.rooms} if args.rooms else {}
    result = await client.command(args.uri, "announce", text=args.text, **where)
    if args.json:
        print(json.dumps(result, ensure_ascii=False))
    for room, reason in result["failed"].items():
        print(f"error: not heard in {room}: {reason}", file=sys.stderr)
    return 1 if result["failed"] else 0


def _write_sound(heard: "client.Heard", output: Path) -> None:
    from satellite.audio.pcm import CANONICAL, write_wav

    try:
        write_wav(output, bytes(heard.pcm), heard.format or CANONICAL)
    except OSError as error:
        raise SatelliteError(f"{output} cannot be written: {error}", code="bad-output") from error


def _described(heard: "client.Heard", output: Path | None) -> dict[str, Any]:
    return {
        "transcript": heard.transcript,
        "reply": heard.reply,
        "provider": heard.provider,
        "audio_seconds": round(heard.audio_seconds, 3),
        "output": str(output) if output else None,
    }


def _models(args: argparse.Namespace) -> int:
    from satellite.cli import models

    models.run(args, _load(args))
    return 0


def _tune(args: argparse.Namespace) -> int:
    from satellite.cli import tune

    return _foreground(args, tune.run(args))


def _bench(args: argparse.Namespace) -> int:
    """Run the benchmark, which is a distribution of its own."""
    found = list(entry_points(group="satellite.bench"))
    if not found:
        raise SatelliteError(
            "the benchmark is not installed; in a checkout of the source: make bench, or pip install ./bench",
            code="bench-missing",
        )
    run: Callable[[Sequence[str]], int] = found[0].load()
    configured = [] if args.config is None else ["--config", str(args.config)]
    return run([*configured, *args.arguments])


def _completion(args: argparse.Namespace) -> int:
    """Print a script that a shell reads; files are completed where files are expected."""
    import shtab

    def complete_files(command: argparse.ArgumentParser) -> None:
        for action in command._actions:  # argparse has no public way to list them; shtab goes the same
            if isinstance(action, argparse._SubParsersAction):
                for name in action.choices:
                    complete_files(action.choices[name])
            elif action.type is Path:
                action.complete = shtab.DIRECTORY if action.metavar == "DIR" else shtab.FILE  # type: ignore[attr-defined]  # shtab reads it

    top = parser()
    complete_files(top)
    print(shtab.complete(top, args.shell))
    return 0


def _asynchronous(command: Callable[[argparse.Namespace], Coroutine[Any, Any, int]]) -> Callable[..., int]:
    return lambda args: _foreground(args, command(args))


_COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "run": _run,
    "check": _check,
    "config": _config,
    "demo": _demo,
    "ask": _asynchronous(_ask),
    "say": _asynchronous(_say),
    "rooms": _asynchronous(_rooms),
    "announce": _asynchronous(_announce),
    "status": _asynchronous(_status),
    "doctor": _doctor,
    "models": _models,
    "tune": _tune,
    "bench": _bench,
    "completion": _completion,
}
