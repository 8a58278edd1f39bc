"""The daemon's state as a page in a terminal."""

import asyncio
import io
from collections.abc import Awaitable, Callable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from satellite.errors import SatelliteError
from satellite.monitoring.tones import tone
from satellite.net.provider_states import Tone

_WATCH_SECONDS = 1.0

_STAGES = ("listen", "stt", "chat", "tts")
_COLOURS = {Tone.GOOD: "green", Tone.WAIT: "yellow", Tone.BAD: "red"}

_DISTURBED = ("foreign-keep-alive", "other-context", "runner-died", "unloaded")
"""What other clients of Ollama, or its crashes, do to the model."""


def show(state: dict[str, Any], console: Console | None = None) -> None:
    """Print what `Status.described` returned."""
    console = console or Console()
    up = f"· up {_duration(state['uptime_seconds'])}"
    console.print(Text(" ").join([Text(f"satellite {state['version']} ·"), _coloured(state["state"]), Text(up)]))
    for one in state["attention"]:
        console.print(Text(f"{one['what']}: {one['text']}", "red"), Text(f"  → {one['cure']}"), sep="\n")
    console.print()
    console.print(_stages(state["stages"]), "")
    if state.get("responders"):
        console.print(_responders(state["responders"]), "")
    chat = state["chat"]
    console.print(_providers(chat))
    if switch := chat["last_switch"]:
        told = f"last switch: {switch['at']} from {switch['from']} to {switch['to']}: {switch['reason']}"
        console.print(Text(told))
    for provider in chat["providers"]:
        if keepalive := provider.get("keepalive"):
            console.print(Text(_keepalive(provider["provider"], keepalive)))
    if state.get("rooms"):
        console.print()
        show_rooms(state["rooms"], console)
    if state.get("runs"):
        console.print("", _runs(state["runs"]))
    if state["gpus"]:
        console.print()
    for gpu in state["gpus"]:
        console.print(Text(_gpu(gpu)))


async def watch(ask: Callable[[], Awaitable[dict[str, Any]]]) -> None:
    """Show what `ask` returns, again and again, until cancelled; also that nobody answers.

    In place on a terminal, else one block after the other, with an empty line between them.
    """
    console = Console()
    if not console.is_terminal:
        while True:
            await _show_once(ask, console)
            console.print()
            await asyncio.sleep(_WATCH_SECONDS)
    with console.screen() as screen:
        while True:
            page = Console(width=console.width, record=True, file=io.StringIO(), force_terminal=True)
            await _show_once(ask, page)
            screen.update(Text.from_ansi(page.export_text(styles=True)))
            await asyncio.sleep(_WATCH_SECONDS)


async def _show_once(ask: Callable[[], Awaitable[dict[str, Any]]], console: Console) -> None:
    try:
        show(await ask(), console)
    except SatelliteError as error:
        console.print(Text(f"[{error.code}] {error}", "red"))


def show_rooms(rooms: list[dict[str, Any]], console: Console | None = None) -> None:
    """Print rooms: of the hub, or as they were found in the network."""
    console = console or Console()
    if not rooms:
        console.print("no rooms")
        return
    table = Table("room", "address", "state", "", box=None, pad_edge=False)
    for room in rooms:
        state = room.get("state", "found")
        table.add_row(room["room"], room["uri"], _coloured(state), Text(room.get("doing") or room.get("words", "")))
    console.print(table)


def show_devices(devices: dict[str, list[dict[str, Any]]], console: Console | None = None) -> None:
    """Print the machine's microphones and speakers, as `portaudio.devices` returned them."""
    console = console or Console()
    for kind, found in devices.items():
        if not found:
            console.print(f"no {kind}")
            continue
        table = Table("number", kind, "by", "rate", "channels", "", box=None, pad_edge=False)
        for one in found:
            default = "default" if one["default"] else ""
            table.add_row(
                str(one["number"]), Text(one["name"]), one["host_api"], str(one["rate"]), str(one["channels"]), default
            )
        console.print(table)


def _stages(stages: list[dict[str, Any]]) -> Table:
    table = Table("stage", "state", "where", "", box=None, pad_edge=False)
    for stage in stages:
        where = Text(stage.get("device", ""))
        table.add_row(stage["stage"], _coloured(stage["state"]), where, Text(stage["words"]))
    return table


def _runs(runs: list[dict[str, Any]]) -> Table:
    """Return the latest runs with their times in milliseconds; `waited` is from the last word to the first sound."""
    table = Table("last runs", "began", "outcome", *("waited", *_STAGES), "by", "", box=None, pad_edge=False)
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


def _responders(responders: list[dict[str, Any]]) -> Table:
    table = Table("asked first", "state", "", box=None, pad_edge=False)
    for one in responders:
        table.add_row(one["responder"], _coloured(one["state"]), Text(one["words"]))
    return table


def _providers(chat: dict[str, Any]) -> Table:
    table = Table("chat", "state", "since", "", box=None, pad_edge=False)
    for provider in chat["providers"]:
        name = f"→ {provider['provider']}" if provider["provider"] == chat["answering"] else f"  {provider['provider']}"
        words = provider["words"]
        if provider["leaves_house"]:
            words += f" (outside this house; {provider.get('sent_outside', 'unknown')} questions sent)"
        colour = _COLOURS[provider["tone"]]
        table.add_row(name, Text(provider["state"], colour), _duration(provider["since_seconds"]), Text(words))
    return table


def _keepalive(provider: str, keepalive: dict[str, Any]) -> str:
    told = [f"keep-alive of {provider}: {keepalive['when']}"]
    if keepalive["load_seconds"] is not None:
        told.append(f"the last load took {keepalive['load_seconds']:.1f} s")
    seen = [f"{state} {count} times" for state, count in keepalive["seen"].items() if state in _DISTURBED]
    return "; ".join(told + ([f"seen so far: {', '.join(seen)}"] if seen else []))


def _gpu(gpu: dict[str, Any]) -> str:
    told = [str(gpu.get("name", "a GPU"))]
    if "watts" in gpu:
        told.append(f"{gpu['watts']:.0f} W")
    if "load" in gpu:
        told.append(f"{gpu['load']:.0%} busy")
    if "memory_used_bytes" in gpu:
        told.append(f"{gpu['memory_used_bytes'] / 2**30:.1f} of {gpu['memory_total_bytes'] / 2**30:.1f} GiB used")
    return "GPU: " + ", ".join(told)


def _coloured(state: str) -> Text:
    return Text(state, _COLOURS[tone(state)])


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
