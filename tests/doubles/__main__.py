"""`python -m tests.doubles`: a stand-in as a process of its own, until SIGTERM.

`esphome` is a device with options of its own; the others are chat servers.
"""

import argparse
import asyncio
import math
import re
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from satellite.config.chat import ChatSettings, LocalSettings
from tests.doubles import esphome_program
from tests.doubles.http import HttpServer, Words, script, thought_by
from tests.doubles.ollama import OllamaServer
from tests.doubles.openai import OpenAIServer


def main(arguments: Sequence[str] | None = None) -> int:
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] == ["esphome"]:
        return esphome_program.main(words[1:])
    asyncio.run(_serve(_parser().parse_args(words)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tests.doubles", description="a chat server that stands in")
    parser.add_argument("kind", choices=("ollama", "openai"))
    parser.add_argument(
        "--port", type=int, default=0, help="0 chooses a free one, which the first line of output names"
    )
    parser.add_argument("--model", nargs="+", metavar="NAME", help="what it has; NAME=BLOB shares a runner (Ollama)")
    words = parser.add_mutually_exclusive_group()
    words.add_argument("--gguf", type=Path, metavar="FILE", help="answer with this model")
    words.add_argument("--say", default="Paris is the capital of France.", metavar="TEXT", help="always answer this")
    parser.add_argument("--threads", type=int, default=0, help="of the GGUF model; 0 is one a core, at most four")
    parser.add_argument("--seconds-per-token", type=float, default=0, metavar="S")
    ollama = parser.add_argument_group("ollama")
    ollama.add_argument("--library", nargs="+", metavar="NAME", default=(), help="what it can be asked to fetch")
    ollama.add_argument("--load-seconds", type=float, default=0, metavar="S", help="what loading a model takes")
    ollama.add_argument("--overhead-seconds", type=float, default=0, metavar="S", help="what every request costs")
    ollama.add_argument("--keep-alive", type=float, default=300, metavar="S", help="OLLAMA_KEEP_ALIVE; -1 is for ever")
    parser.add_argument_group("openai").add_argument("--key", help="the only key it accepts (default: any)")
    return parser


async def _serve(args: argparse.Namespace) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with _words(args) as words, _server(args, words) as server:
        print(f"listening at {server.url}", flush=True)
        await ended.wait()


@asynccontextmanager
async def _words(args: argparse.Namespace) -> AsyncIterator[Words]:
    if args.gguf is None:
        yield script(*re.findall(r"\s*\S+", args.say))
        return
    from satellite.engines.chat.llama_cpp import LlamaCppChat

    model = LlamaCppChat(
        LocalSettings(type="local", context_tokens=4096, threads=args.threads, parallel=1),
        ChatSettings(max_tokens=1024),
    )
    try:
        await model.load(args.gguf)
        yield thought_by(model)
    finally:
        await model.close()


def _server(args: argparse.Namespace, words: Words) -> HttpServer:
    server: HttpServer
    if args.kind == "openai":
        model = {"model": args.model[0]} if args.model else {}
        server = OpenAIServer(words, key=args.key, port=args.port, **model)
    else:
        named = [name.partition("=") for name in args.model or ("smollm2",)]
        server = OllamaServer(
            words,
            models={name: blob or name for name, _, blob in named},
            load_seconds=args.load_seconds,
            overhead_seconds=args.overhead_seconds,
            keep_alive_seconds=math.inf if args.keep_alive < 0 else args.keep_alive,
            port=args.port,
        )
        server.library = set(args.library)
    server.seconds_per_token = args.seconds_per_token
    return server


if __name__ == "__main__":
    raise SystemExit(main())
