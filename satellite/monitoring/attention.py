"""What an administrator should look at, of everything that the daemon knows of itself; and its state in one word.

The one place that decides it: the command line, systemd's status line, HTTP and the dashboard tell what is said here.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from satellite.net.provider_states import COMING

LOADING, READY, DEGRADED = "loading", "ready", "degraded"
"""Not everything has been loaded yet; everything works; something needs attention, and the rest serves."""

_SUDO = "sudo " if os.environ.get("NOTIFY_SOCKET") else ""
"""The service's files and log are its own and root's."""

LOOK = f"{_SUDO}satellite doctor"
_LOG = f"{_SUDO}journalctl -u satellite -p err -n 20" if _SUDO else "read what the daemon printed"
_PULL = f"{_SUDO}satellite models pull configured"
_MODEL_CODES = frozenset({"model-missing", "model-corrupt"})


@dataclass(frozen=True, slots=True)
class Attention:
    """Something that does not work as it was configured."""

    what: str
    """What it is, such as `stage stt`, `provider ollama` or `room kitchen`."""

    text: str
    """What is the matter, for people."""

    cure: str
    """The command that mends it, or that says what does."""


def overall(troubles: Sequence[Attention], *, loaded: bool) -> str:
    """Return the daemon's state in one word: `loading`, `ready` or `degraded`."""
    if not loaded:
        return LOADING
    return DEGRADED if troubles else READY


def needed(
    stages: Iterable[Mapping[str, Any]],
    providers: Iterable[Mapping[str, Any]],
    responders: Iterable[Mapping[str, Any]],
    rooms: Iterable[Mapping[str, Any]],
) -> Iterator[Attention]:
    """Yield what needs attention of the parts that `Status.described` tells of."""
    for stage in stages:
        if stage["state"] not in ("ready", "idle", "loading"):
            cure = _PULL if stage.get("code") in _MODEL_CODES else LOOK
            yield Attention(f"stage {stage['stage']}", stage["words"] or stage["state"], cure)
    for provider in providers:
        if not provider["up"] and provider["state"] not in COMING:
            yield Attention(f"provider {provider['provider']}", provider["words"], LOOK)
    for responder in responders:
        if not responder["up"]:
            yield Attention(responder["responder"], responder["words"], LOOK)
    for room in rooms:
        if room["state"] not in ("connected", "connecting"):
            yield Attention(f"room {room['room']}", room["words"], LOOK)


def failing(tasks: Iterable[Mapping[str, Any]]) -> Iterator[Attention]:
    """Yield the background tasks that fail again and again, of those that `Background.described` tells of."""
    for task in tasks:
        if task["words"]:
            yield Attention(f"task {task['task']}", f"has failed: {task['words']}; it is tried again", _LOG)


def described(troubles: Iterable[Attention]) -> list[dict[str, str]]:
    """Return `troubles` as JSON can hold them."""
    return [asdict(trouble) for trouble in troubles]
