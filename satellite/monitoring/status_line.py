"""The daemon's state in one line, for `systemctl status`."""

from collections.abc import Sequence
from typing import Any

from satellite.engines.slot import Engines
from satellite.monitoring.attention import LOADING, Attention

_NAMED = 3
"""How many of the things that need attention are named; the rest is counted."""


def in_one_line(engines: Engines, rooms: list[dict[str, Any]], state: str, troubles: Sequence[Attention]) -> str:
    """Return such as `ready · 4 rooms · ollama phi3:mini warm · stt cpu`; `state` is that of `attention.overall`."""
    failed = list(dict.fromkeys(slot.stage.value for slot in engines.slots if slot.failure is not None))
    loading = list(dict.fromkeys(s.stage.value for s in engines.slots if not s.settled and not s.on_demand))
    if state == LOADING:
        state = f"loading {', '.join(loading)}" if loading else "warming up"
    parts = [f"{state}, without {', '.join(failed)}" if failed else state, _attention(troubles)]
    if rooms:
        parts.append(_rooms(rooms))
    if "chat" not in failed:
        parts.append(_chat(engines.chat.engine.details))
    if engines.transcriber.ready:
        device = engines.transcriber.engine.device.partition(" ")[0]
        parts.append(f"stt {device if device in ('cpu', 'cuda') else 'remote'}")
    return " · ".join(part for part in parts if part)


def _attention(troubles: Sequence[Attention]) -> str:
    if not troubles:
        return ""
    more = f" and {len(troubles) - _NAMED} more" if len(troubles) > _NAMED else ""
    return f"look at {', '.join(trouble.what for trouble in troubles[:_NAMED])}{more}"


def _rooms(rooms: list[dict[str, Any]]) -> str:
    connected = sum(room["state"] == "connected" for room in rooms)
    plural = "room" if len(rooms) == 1 else "rooms"
    return f"{len(rooms)} {plural}" if connected == len(rooms) else f"{connected} of {len(rooms)} {plural}"


def _chat(details: dict[str, Any]) -> str:
    """Return who answers, and how that is."""
    one = next((one for one in details["providers"] if one["provider"] == details["answering"]), None)
    return "" if one is None else f"{one['provider']} {one['model']} {one['state']}"
