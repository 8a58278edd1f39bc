"""`satellite bench`: its arguments, and what becomes of the result."""

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from satellite.errors import SatelliteError

if TYPE_CHECKING:
    from satellite_bench.report import Report
    from satellite_bench.runner import Runner

_PARTS = ("voice", "hearing", "speaking", "stt", "tts", "wake", "memory", "chat", "endpoint", "rooms", "http")

_LONGEST_IDLE_SECONDS = 86_400.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"what to measure: {', '.join(_PARTS)} (default: all of it)"
    )
    parser.add_argument(
        "--corpus", type=Path, metavar="DIR", help="recordings, NAME.wav with NAME.txt (default: a synthetic set)"
    )
    parser.add_argument("--realtime", action="store_true", help="also send the recordings at a microphone's pace, once")
    parser.add_argument(
        "--repeats", type=_count, metavar="N", help="how often each is measured (default: a clip 3, a reply 10 times)"
    )
    parser.add_argument(
        "--limit",
        type=_count,
        metavar="N",
        help="voice, hearing, speaking: how many recordings or texts (default: all; of the synthetic recordings 20)",
    )
    parser.add_argument_group("hearing").add_argument(
        "--conditions", nargs="+", default=(), metavar="NAME", help="such as '8 kHz' (default: all of them)"
    )
    voice = parser.add_argument_group("voice")
    voice.add_argument("--picture", type=Path, metavar="FILE.svg", help="draw where the time goes")
    voice.add_argument(
        "--language", choices=("en", "fr"), default="en", help="what is said and answered (default: %(default)s)"
    )
    parser.add_argument_group("endpoint").add_argument(
        "--answer-after",
        type=_seconds,
        metavar="SECONDS",
        help="when an answer, for which the end waits, has its first sound after a pause (default: 0.55)",
    )
    _add_chat_arguments(parser)
    parser.add_argument_group("rooms").add_argument(
        "--rooms",
        type=_count,
        nargs="+",
        default=(1, 10, 50),
        metavar="N",
        help="how many rooms stream at once, from few to many (default: 1 10 50)",
    )
    parser.add_argument("--no-rivals", action="store_true", help="measure our daemon alone")
    parser.add_argument("--output", type=Path, metavar="FILE.md", help="also write the result as Markdown")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("-v", "--mismatches", action="store_true", help="list what was understood wrongly")


def _add_chat_arguments(parser: argparse.ArgumentParser) -> None:
    chat = parser.add_argument_group("chat")
    chat.add_argument("--url", metavar="URL", help="measure against this Ollama (default: a stand-in is started)")
    chat.add_argument("--model", metavar="NAME", help="name of its model, as `ollama list` shows it")
    chat.add_argument("--num-ctx", type=_count, default=4096, metavar="N", help="context length (default: %(default)s)")
    chat.add_argument(
        "--idle",
        type=_seconds,
        nargs="+",
        default=(5.0, 60.0),
        metavar="SECONDS",
        help="times without any use, after which the first answer is measured (default: 5 60)",
    )


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= _LONGEST_IDLE_SECONDS:
        raise argparse.ArgumentTypeError(f"must be 0 to {_LONGEST_IDLE_SECONDS:g} seconds")
    return seconds


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments of `satellite bench` and measure; returns the exit status."""
    parser = argparse.ArgumentParser(prog="satellite bench", description="Measure, beside the official servers.")
    parser.add_argument("-c", "--config", type=Path, metavar="FILE", help="the configuration to measure with")
    add_arguments(parser)
    try:
        return run(parser.parse_args(arguments))
    except SatelliteError as error:
        print(f"error: [{error.code}] {error}", file=sys.stderr)
        return 1


def run(args: argparse.Namespace) -> int:
    """Measure, and return 0 whatever the marks say, 1 when something could not be measured."""
    unknown = [part for part in args.parts if part not in _PARTS]
    if unknown:
        raise SatelliteError(f"unknown part {unknown[0]!r}; expected {', '.join(_PARTS)}", code="bench-part")
    if args.language != "en" and list(args.parts) != ["voice"]:
        raise SatelliteError("only voice is measured in other languages: voice --language fr", code="bench-part")
    if bool(args.url) != bool(args.model):
        raise SatelliteError("--url and --model go together: a real server, and its model", code="bench-chat")
    try:
        report = asyncio.run(_interruptible(_runner(args)))
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM
    _show(report, args)
    return 1 if report.failures else 0


def _runner(args: argparse.Namespace) -> "Runner":
    from rich.console import Console

    from satellite.cli.models import pull_demo_models
    from satellite.daemon import config_check
    from satellite.models.store import Store
    from satellite_bench import conditions
    from satellite_bench.chat_run import ChatPlan
    from satellite_bench.endpoint import ANSWER_SECONDS
    from satellite_bench.rivals import cache_folder
    from satellite_bench.rooms_run import RoomsPlan
    from satellite_bench.runner import Plan, Runner
    from satellite_bench.voice_run import VoicePlan

    console = Console(stderr=True)
    store = Store(config_check.load(args.config).models.directory)
    for language in dict.fromkeys(("en", args.language)):  # the wake word is said by the English voice
        pull_demo_models(store, language, console)
    chat = ChatPlan(args.url, args.model, args.num_ctx, args.idle) if args.url else ChatPlan(idle_seconds=args.idle)
    plan = Plan(
        args.parts or _PARTS,
        args.corpus,
        args.realtime,
        args.repeats,
        conditions=conditions.named(args.conditions),
        rivals=not args.no_rivals,
        chat=chat,
        rooms=RoomsPlan(args.rooms),
        voice=VoicePlan(args.limit, args.language),
        answer_seconds=ANSWER_SECONDS if args.answer_after is None else args.answer_after,
    )
    return Runner(plan, store, cache_folder(), console)


async def _interruptible(runner: "Runner") -> "Report":
    """Run; SIGTERM stops the servers as Ctrl+C does, instead of leaving them behind."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await runner.run()


def _show(report: "Report", args: argparse.Namespace) -> None:
    from satellite_bench import voice_picture
    from satellite_bench.report import markdown

    if args.picture and report.voice:
        _save(args.picture, voice_picture.svg(report.voice))
    described = report.described_voice() if list(args.parts) == ["voice"] else report.described()
    _write(described, markdown(report, mismatches=args.mismatches), args)


def _write(described: dict[str, object], text: str, args: argparse.Namespace) -> None:
    if args.output:
        _save(args.output, text)
    print(json.dumps(described, ensure_ascii=False) if args.json else text, end="\n" if args.json else "")


def _save(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SatelliteError(f"{file} cannot be written: {error}", code="bad-output") from error
