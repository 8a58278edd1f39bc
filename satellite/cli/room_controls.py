"""`satellite rooms ask`, `stop`, `volume` and the like: a running daemon on this machine operates a room."""

import argparse
import json
from pathlib import PurePath

from satellite.audio.sound_files import SUFFIXES
from satellite.cli.ask import report_failed
from satellite.wire import client


async def run(args: argparse.Namespace) -> int:
    """Do one thing in a room, and print what there is to report."""
    action, fields = _request(args)
    result = await client.command(args.uri, "room", action=action, room=args.room, **fields)
    if args.json:
        print(json.dumps(result, ensure_ascii=False))
    elif action == "ask":
        print(result["text"] if result["choice"] is None else f"{result['choice']}: {result['text']}")
    elif action == "stop":
        print("stopped" if result["stopped"] else "nothing sounded")
    return report_failed(result) if action == "broadcast" else 0


def _request(args: argparse.Namespace) -> tuple[str, client.JsonObject]:
    """Return the action and its fields, as `POST /rooms/ROOM/ACTION` has them."""
    match args.action_of_rooms:
        case "ask":
            given = {"choices": args.choice, "language": args.language, "timeout": args.timeout}
            return "ask", {"text": args.text} | {name: value for name, value in given.items() if value is not None}
        case "mute" | "unmute" as action:
            return "mute", {"muted": action == "mute"}
        case "volume":
            return "volume", {"volume": args.percent / 100}
        case "listen-only":
            return "listen-only", {"listen_only": not args.off}
        case "play":
            return "play", {_kind(args.what): args.what, "announce": args.announce}
        case "call":
            return "call", {"to": args.to}
        case "broadcast":
            return "broadcast", {"text": args.text}
        case action:
            return str(action), {}


def _kind(what: str) -> str:
    """Return whether `what` is the name of a `file`, a `url` or a `station`."""
    if "://" in what:
        return "url"
    return "file" if PurePath(what).suffix.lower() in SUFFIXES else "station"
