"""The command line: `satellite run | check | demo | ask | say | status | models | bench`."""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from wyoming.pipeline import PipelineStage

from satellite import __version__, configfile, logs
from satellite.config import Config
from satellite.errors import ConfigError, ModelError, SatelliteError
from satellite.wire import client


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 1 for a failure, 2 for a wrong configuration or usage."""
    args = _parser().parse_args(arguments)
    if "uri" in args and args.uri is None:
        args.uri = _own_uri(args)
    try:
        return int(args.command(args))
    except ConfigError as error:
        print(
            f"error: [{error.code}]\n{error}" if "\n" in str(error) else f"error: [{error.code}] {error}",
            file=sys.stderr,
        )
        return 2
    except SatelliteError as error:
        print(f"error: [{error.code}] {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    from satellite import demo
    from satellite.bench import commands as bench
    from satellite.models import commands as models

    parser = argparse.ArgumentParser(prog="satellite", description="A fast, private voice for the home.")
    parser.add_argument("--version", action="version", version=f"satellite {__version__}")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help=f"default: {configfile.SYSTEM_CONFIG}, if it exists"
    )
    parser.add_argument("--verbose", action="store_true", help="log at debug, transcripts included")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("run", help="the daemon")
    command.set_defaults(command=_run)

    command = commands.add_parser("check", help="check configuration and models")
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command.set_defaults(command=_check)

    command = commands.add_parser("demo", help="hear a question answered, on models fetched for it")
    demo.add_arguments(command)
    command.set_defaults(command=lambda args: _foreground(args, demo.run(args)))

    command = commands.add_parser("ask", help="ask a running daemon")
    command.add_argument("question", metavar="TEXT|FILE.wav", help="the question, or a recording of it")
    command.add_argument("-o", "--output", type=Path, metavar="FILE.wav", help="also write the spoken answer")
    command.add_argument("--language", help="language of the question, such as en")
    command.add_argument("--json", action="store_true", help="print one JSON object")
    _add_uri(command)
    command.set_defaults(command=lambda args: _foreground(args, _ask(args)))

    command = commands.add_parser("say", help="let a running daemon speak")
    command.add_argument("text")
    command.add_argument("-o", "--output", type=Path, metavar="FILE.wav", required=True, help="where the sound goes")
    command.add_argument("--voice", help="name of a voice")
    command.add_argument("--speaker", help="speaker of a multi-speaker voice")
    command.add_argument("--json", action="store_true", help="print one JSON object")
    _add_uri(command)
    command.set_defaults(command=lambda args: _foreground(args, _say(args)))

    command = commands.add_parser("status", help="how a running daemon is, and why")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object")
    form.add_argument("--metrics", action="store_true", help="print Prometheus metrics")
    form.add_argument("--watch", action="store_true", help="keep showing it, until Ctrl-C")
    _add_uri(command)
    command.set_defaults(command=lambda args: _foreground(args, _status(args)))

    command = commands.add_parser("doctor", help="what is wrong, and the command that mends it")
    command.add_argument("--json", action="store_true", help="print one JSON object")
    _add_uri(command)
    command.set_defaults(command=_doctor)

    command = commands.add_parser("rooms", help="the satellites that a running daemon drives, and those in the network")
    command.add_argument("action", nargs="?", choices=("list", "discover", "devices"), default="list")
    command.add_argument("--json", action="store_true", help="print one JSON object")
    _add_uri(command)
    command.set_defaults(command=lambda args: _foreground(args, _rooms(args)))

    command = commands.add_parser("announce", help="say something in rooms")
    command.add_argument("rooms", nargs="*", metavar="ROOM", help="where (default: everywhere)")
    command.add_argument("text")
    command.add_argument("--json", action="store_true", help="print one JSON object")
    _add_uri(command)
    command.set_defaults(command=lambda args: _foreground(args, _announce(args)))

    command = commands.add_parser("models", help="list, fetch and find models")
    models.add_arguments(command)
    command.set_defaults(command=lambda args: models.run(args, _load(args)))

    command = commands.add_parser("bench", help="measure, beside the official servers")
    bench.add_arguments(command)
    command.set_defaults(command=bench.run)
    return parser


def _add_uri(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--uri", help=f"the daemon's address (default: as configured, else {client.DEFAULT_URI})")


def _own_uri(args: argparse.Namespace) -> str:
    """Return where the configured daemon listens; the usual address where the configuration cannot be read."""
    try:
        wyoming = configfile.load(args.config).wyoming
    except ConfigError:
        return client.DEFAULT_URI
    host = "127.0.0.1" if wyoming.host in ("0.0.0.0", "::") else wyoming.host
    return f"tcp://[{host}]:{wyoming.port}" if ":" in host else f"tcp://{host}:{wyoming.port}"


def _load(args: argparse.Namespace) -> Config:
    return configfile.load(args.config)


def _foreground(args: argparse.Namespace, command: Coroutine[Any, Any, int]) -> int:
    logs.set_up("debug" if args.verbose else "error")
    return asyncio.run(command)


def _run(args: argparse.Namespace) -> int:
    from satellite import serving

    config = _load(args)
    logs.set_up("debug" if args.verbose else config.log_level)
    # An engine's thread cannot be interrupted in the middle of a computation: leave without waiting for it.
    status = asyncio.run(serving.serve(config, args.config, verbose=args.verbose))
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)


def _check(args: argparse.Namespace) -> int:
    from satellite.models.store import Store
    from satellite.models.wanted import wanted_models

    config = _load(args)
    store = Store(config.models.directory)
    problems = []
    for spec in wanted_models(config):
        try:
            store.path(spec)
        except ModelError as error:
            problems.append({"code": error.code, "text": str(error)})
    if args.json:
        print(json.dumps({"ok": not problems, "models_directory": str(store.directory), "problems": problems}))
    else:
        print("configuration: good")
        for problem in problems:
            print(f"error: [{problem['code']}] {problem['text']}", file=sys.stderr)
        if not problems:
            print(f"models: all present in {store.directory}")
    return 1 if problems else 0


async def _ask(args: argparse.Namespace) -> int:
    file = Path(args.question)
    if file.suffix.lower() == ".wav":
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


async def _ask_recording(args: argparse.Namespace, file: Path) -> client.Heard:
    from satellite.audio import read_wav

    try:
        pcm = read_wav(file)
    except (OSError, EOFError, ValueError) as error:
        raise SatelliteError(f"{file} cannot be used: {error}", code="bad-wav") from error
    end = PipelineStage.TTS if args.output else PipelineStage.HANDLE
    return await client.converse(args.uri, client.recording(pcm, realtime=False), start=PipelineStage.ASR, end=end)


async def _say(args: argparse.Namespace) -> int:
    heard = await client.say(args.uri, args.text, args.voice, args.speaker)
    _write_sound(heard, args.output)
    if args.json:
        print(json.dumps({"output": str(args.output), "audio_seconds": round(heard.audio_seconds, 3)}))
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from satellite import doctor

    return _foreground(args, doctor.run(args))


async def _status(args: argparse.Namespace) -> int:
    if args.watch:
        from satellite import status_page

        await status_page.watch(lambda: client.status(args.uri))
    state = await client.status(args.uri)
    if args.json:
        print(json.dumps(state, ensure_ascii=False))
    elif args.metrics:
        from satellite import metrics

        print(metrics.exposition(state), end="")
    else:
        from satellite import status_page

        status_page.show(state)
    return 0 if state["ready"] else 1


async def _rooms(args: argparse.Namespace) -> int:
    from satellite import status_page
    from satellite.wire.discovery import discover

    if args.action == "devices":
        return await _devices(args)
    if args.action == "discover":
        found = await discover()
    else:
        found = (await client.status(args.uri))["rooms"]
    if args.json:
        print(json.dumps({"rooms": found}, ensure_ascii=False))
    else:
        status_page.show_rooms(found)
    return 0


async def _devices(args: argparse.Namespace) -> int:
    """Show this machine's microphones and speakers; needs no running daemon."""
    from satellite import portaudio, status_page

    found = await asyncio.to_thread(portaudio.devices)
    if args.json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        status_page.show_devices(found)
    return 0


async def _announce(args: argparse.Namespace) -> int:
    result = await client.command(args.uri, "announce", text=args.text, rooms=args.rooms)
    if args.json:
        print(json.dumps(result, ensure_ascii=False))
    for room, reason in result["failed"].items():
        print(f"error: not heard in {room}: {reason}", file=sys.stderr)
    return 1 if result["failed"] else 0


def _write_sound(heard: client.Heard, output: Path) -> None:
    from satellite.audio import CANONICAL, write_wav

    try:
        write_wav(output, bytes(heard.pcm), heard.format or CANONICAL)
    except OSError as error:
        raise SatelliteError(f"{output} cannot be written: {error}", code="bad-output") from error


def _described(heard: client.Heard, output: Path | None) -> dict[str, Any]:
    return {
        "transcript": heard.transcript,
        "reply": heard.reply,
        "provider": heard.provider,
        "audio_seconds": round(heard.audio_seconds, 3),
        "output": str(output) if output else None,
    }


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
