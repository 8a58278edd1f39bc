"""`satellite status`: the state of a running daemon as a page in a terminal, as JSON or as metrics."""

import argparse
import asyncio
import json
from collections.abc import Sequence
from contextlib import nullcontext

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from satellite.errors import SatelliteError
from satellite.monitoring.tones import tone
from satellite.net.provider_states import Tone
from satellite.wire import client
from satellite.wire.client import JsonObject

_WATCH_SECONDS = 1.0

_SOUNDING = {"call": "in a call", "timer": "a timer rings", "announcement": "announces", "media": "plays media"}
_STAGES = ("listen", "stt", "chat", "tts")
_COLOURS = {Tone.GOOD: "green", Tone.WAIT: "yellow", Tone.BAD: "red"}

_DISTURBED = ("foreign-keep-alive", "other-context", "runner-died", "unloaded")
"""States of the model that other clients of Ollama, or its crashes, cause."""

_EXIT_STATUSES = {"ready": 0, "degraded": 3, "loading": 4}


async def run(args: argparse.Namespace) -> int:
    """Print the state in the form that was asked for; return the exit status that goes with it."""
    if args.watch:
        await _watch(args.uri)
    state = await client.status(args.uri)
    if args.json:
        print(json.dumps(state, ensure_ascii=False))
    elif args.metrics:
        print((await client.command(args.uri, "metrics"))["text"], end="")
    else:
        Console().print(page(state))
    return _EXIT_STATUSES[state["state"]]


def page(state: JsonObject) -> Group:
    """Return the page for a state as `satellite.monitoring.status.as_json` returns it."""
    # Text in place of str throughout: rich would take brackets in names and error messages for markup.
    up = f"· up {_duration(state['uptime_seconds'])}"
    parts: list[RenderableType] = [
        Text(" ").join([Text(f"satellite {state['version']} ·"), _coloured(state["state"]), Text(up)])
    ]
    for one in state["attention"]:
        parts += [Text(f"{one['what']}: {one['text']}", "red"), Text(f"  → {one['cure']}")]
    parts += ["", _stages(state["stages"]), ""]
    if state.get("responders"):
        parts += [_responders(state["responders"]), ""]
    chat = state["chat"]
    parts.append(_providers(chat))
    if switch := chat["last_switch"]:
        change = f"last switch: {switch['at']} from {switch['from']} to {switch['to']}: {switch['reason']}"
        parts.append(Text(change))
    for provider in chat["providers"]:
        if keepalive := provider.get("keepalive"):
            parts.append(Text(_keepalive(provider["provider"], keepalive)))
    if state.get("rooms"):
        parts += ["", rooms_table(state["rooms"])]
    if certificate := state.get("certificate"):
        parts += ["", Text(f"https until {certificate['ends'][:10]}, SHA-256 {certificate['fingerprint']}")]
    if state.get("runs"):
        parts += ["", _runs(state["runs"])]
    if state["gpus"]:
        parts += ["", *(Text(_gpu(gpu)) for gpu in state["gpus"])]
    return Group(*parts)


async def _watch(uri: str) -> None:
    """Print the state, or that no daemon answers, every second until cancelled.

    On a terminal the page is replaced, elsewhere pages follow each other with an empty line between them.
    """
    console = Console()
    with console.screen() if console.is_terminal else nullcontext() as screen:
        while True:
            try:
                shown: RenderableType = page(await client.status(uri))
            except SatelliteError as error:
                shown = Text(f"[{error.code}] {error}", "red")
            if screen is None:
                console.print(shown, "", sep="\n")
            else:
                screen.update(shown)
            await asyncio.sleep(_WATCH_SECONDS)


def rooms_table(rooms: Sequence[JsonObject]) -> Table:
    """Return a table of rooms, those of the daemon or those found on the network."""
    table = plain_table("room", "address", "state", "")
    for room in rooms:
        state = room.get("state", "found")
        table.add_row(room["room"], room["uri"], _coloured(state), Text(_present(room)))
    return table


def _present(room: JsonObject) -> str:
    """Return what a room is doing, and what is set for it."""
    parts = [
        room.get("doing") or room.get("message", ""),
        "muted" if room.get("muted") else "",
        "only listens" if room.get("listen_only") else "",
        f"volume {round(100 * room['volume'])} %" if room.get("volume") is not None else "",
        _SOUNDING.get(room.get("sounding") or "", ""),
    ]
    return ", ".join(filter(None, parts))


def plain_table(*columns: str) -> Table:
    """Return an empty table without lines."""
    return Table(*columns, box=None, pad_edge=False)


def _stages(stages: Sequence[JsonObject]) -> Table:
    table = plain_table("stage", "state", "where", "")
    for stage in stages:
        where = Text(stage.get("device", ""))
        table.add_row(stage["stage"], _coloured(stage["state"]), where, Text(stage["message"]))
    return table


def _runs(runs: Sequence[JsonObject]) -> Table:
    """Return the latest runs with their times in milliseconds; `waited` is from the last word to the first sound."""
    table = plain_table("last runs", "began", "outcome", *("waited", *_STAGES), "by", "")
    for column in table.columns[3:8]:
        column.justify = "right"
    for run in runs:
        marks, spent = run["marks"], dict.fromkeys(_STAGES, 0.0)
        for span in run["stages"]:
            if span["name"] in spent and span["end_ms"] is not None:
                spent[span["name"]] += span["end_ms"] - span["start_ms"]
        waited = marks.get("first_audio_ms", 0.0) - marks.get("speech_end_ms", marks.get("first_audio_ms", 0.0))
        times = [f"{ms:.0f}" if ms else "" for ms in (waited, *spent.values())]
        trouble = f"[{run['error']['code']}] {run['error']['text']}" if run["error"] else run["switch_reason"]
        began = run["began"][11:19]
        table.add_row(run["room"], began, _coloured(run["outcome"]), *times, run["provider"] or "", Text(trouble))
    return table


def _responders(responders: Sequence[JsonObject]) -> Table:
    table = plain_table("asked first", "state", "")
    for one in responders:
        table.add_row(one["responder"], _coloured(one["state"]), Text(one["message"]))
    return table


def _providers(chat: JsonObject) -> Table:
    table = plain_table("chat", "state", "since", "")
    for provider in chat["providers"]:
        name = f"→ {provider['provider']}" if provider["provider"] == chat["answering"] else f"  {provider['provider']}"
        message = provider["message"]
        if provider["leaves_house"]:
            message += f" (outside this house; {provider.get('sent_outside', 'unknown')} questions sent)"
        colour = _COLOURS[provider["tone"]]
        table.add_row(name, Text(provider["state"], colour), _duration(provider["since_seconds"]), Text(message))
    return table


def _keepalive(provider: str, keepalive: JsonObject) -> str:
    parts = [f"keep-alive of {provider}: {keepalive['when']}"]
    if keepalive["load_seconds"] is not None:
        parts.append(f"the last load took {keepalive['load_seconds']:.1f} s")
    seen = [f"{state} {count} times" for state, count in keepalive["seen"].items() if state in _DISTURBED]
    return "; ".join(parts + ([f"seen so far: {', '.join(seen)}"] if seen else []))


def _gpu(gpu: JsonObject) -> str:
    parts = [str(gpu.get("name", "a GPU"))]
    if "watts" in gpu:
        parts.append(f"{gpu['watts']:.0f} W")
    if "load" in gpu:
        parts.append(f"{gpu['load']:.0%} busy")
    if "memory_used_bytes" in gpu:
        parts.append(f"{gpu['memory_used_bytes'] / 2**30:.1f} of {gpu['memory_total_bytes'] / 2**30:.1f} GiB used")
    return "GPU: " + ", ".join(parts)


def _coloured(state: str) -> Text:
    return Text(state, _COLOURS[tone(state)])


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
