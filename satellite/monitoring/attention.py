"""What needs an administrator's attention, and the daemon's state in one word.

The command line, systemd's status line, HTTP and the dashboard all show what is decided here.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from satellite.engines.chat.provider_status import ProviderStatus
from satellite.errors import Stage
from satellite.net.provider_states import COMING
from satellite.net.tls_certificate import CertificateStatus
from satellite.pipeline.responder import ResponderStatus
from satellite.rooms.room import RoomStatus
from satellite.tasks import TaskStatus

LOADING, READY, DEGRADED = "loading", "ready", "degraded"
"""Not everything has been loaded yet; everything works; something needs attention, and the rest serves."""

# The service's files and its log belong to its own user and to root.
_SUDO = "sudo " if os.environ.get("NOTIFY_SOCKET") else ""

_DOCTOR = f"{_SUDO}satellite doctor"
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
    """The command that fixes it, or that says what does."""


@dataclass(frozen=True, slots=True)
class StageStatus:
    """One stage: an engine, or the servers that are asked instead."""

    stage: str
    """The name of its slot, such as `stt` or `openwakeword`."""

    state: str
    """`ready`, `idle` (loaded on demand), `loading`, `cold` (it serves), `failed`, `unreachable`, or a provider's."""

    message: str
    """What an administrator should know of the state; empty where there is nothing."""

    code: str | None = None
    """The code of the error that keeps it from loading."""

    device: str | None = None
    """What it really runs on, such as `cuda float16`."""

    model: str | None = None
    """The model, or the default voice."""

    unusable: Mapping[str, str] | None = None
    """Why wake words, or voices, cannot be used, by name; None where all can."""


def overall(attention: Sequence[Attention], *, loaded: bool) -> str:
    """Return the daemon's state in one word: `loading`, `ready` or `degraded`."""
    if not loaded:
        return LOADING
    return DEGRADED if attention else READY


def needing_attention(
    stages: Iterable[StageStatus],
    providers: Iterable[ProviderStatus],
    responders: Iterable[ResponderStatus],
    rooms: Iterable[RoomStatus],
    tasks: Iterable[TaskStatus],
    closed_ports: Mapping[str, Exception],
    certificate: CertificateStatus | None,
) -> Iterator[Attention]:
    """Yield what needs attention of a daemon's parts."""
    for stage in stages:
        if stage.state not in ("ready", "idle", "loading"):
            cure = _PULL if stage.code in _MODEL_CODES else _DOCTOR
            yield Attention(f"stage {stage.stage}", stage.message or stage.state, cure)
        for name, reason in (stage.unusable or {}).items():
            yield Attention(f"{'voice' if stage.stage == Stage.TTS else 'wake word'} {name}", reason, _DOCTOR)
    for provider in providers:
        if not provider.up and provider.state not in COMING:
            yield Attention(f"provider {provider.provider}", provider.message, _DOCTOR)
    for responder in responders:
        if not responder.up:
            yield Attention(responder.responder, responder.message, _DOCTOR)
    for room in rooms:
        if room.state not in ("connected", "connecting"):
            yield Attention(f"room {room.room}", room.message, _DOCTOR)
    for task in tasks:
        if task.message:
            yield Attention(f"task {task.task}", f"has failed: {task.message}; it is tried again", _LOG)
    for port, error in closed_ports.items():
        yield Attention(f"port {port.removesuffix('_port')}", str(error), _DOCTOR)
    if certificate is not None and certificate.message:
        yield Attention("certificate", certificate.message, _DOCTOR)
