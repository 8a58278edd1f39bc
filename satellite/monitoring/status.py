"""The daemon's state: collected from its parts, as JSON, and in one line."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from satellite import __version__
from satellite.engines.chat.provider_status import ChatStatus
from satellite.engines.slot import Slot
from satellite.errors import ModelError
from satellite.monitoring.attention import LOADING, Attention, StageStatus, needing_attention, overall
from satellite.monitoring.tones import tone
from satellite.net.provider_states import COMING
from satellite.net.tls_certificate import CertificateStatus
from satellite.pipeline.responder import ResponderStatus
from satellite.pipeline.stages import Stages
from satellite.rooms.room import RoomStatus
from satellite.system.nvidia import Gpu, gpus
from satellite.tasks import TaskStatus

_NAMED = 3
"""How many of the things that need attention are named in one line; the rest is counted."""

_LEFT_OUT = frozenset(
    {"code", "device", "model", "unusable", "keepalive", "sent_outside", "pending", "certificate", *Gpu.__slots__}
)
"""Fields that the JSON leaves out when they are None; any other is null."""


@dataclass(frozen=True, slots=True)
class DaemonStatus:
    """Everything that `GET /status` and `satellite status --json` report."""

    version: str
    uptime_seconds: float
    ready: bool
    """Whether every stage has been warmed up, or has failed."""

    state: str
    """`loading`, `ready` or `degraded`."""

    attention: tuple[Attention, ...]
    stages: tuple[StageStatus, ...]
    rooms: tuple[RoomStatus, ...]
    responders: tuple[ResponderStatus, ...]
    speech_to_text: Mapping[str, int]
    """How often what happened since the daemon began, by names that never change."""

    chat: ChatStatus
    background: tuple[TaskStatus, ...]
    gpus: tuple[Gpu, ...]
    event_loop_tasks: int
    certificate: CertificateStatus | None = None
    """That of HTTPS."""


def as_json(
    status: DaemonStatus | Attention | StageStatus | RoomStatus | ChatStatus | CertificateStatus,
) -> dict[str, Any]:
    """Return `status` by its names on the wire; stages, rooms and responders of a whole one with their `tone`."""
    body: dict[str, Any] = asdict(status, dict_factory=_wire)
    if isinstance(status, DaemonStatus):
        for part in ("stages", "rooms", "responders"):
            body[part] = [{**one, "tone": tone(one["state"])} for one in body[part]]
    return body


class StartupState(Protocol):
    """How far the daemon has come in loading its engines."""

    @property
    def finished(self) -> bool:
        """Whether every stage has been warmed up, or has failed."""

    @property
    def cold(self) -> Mapping[str, str]:
        """Why a stage could not be warmed up, by the name of its slot."""


class Status:
    """Collects the state of a daemon's parts, at any moment since it began."""

    def __init__(
        self,
        stages: Stages,
        startup: StartupState,
        *,
        chat: Callable[[], ChatStatus],
        rooms: Callable[[], Sequence[RoomStatus]],
        closed_ports: Callable[[], Mapping[str, Exception]],
        certificate: Callable[[], CertificateStatus | None],
    ) -> None:
        """Report on `stages` and what the functions return; `closed_ports` are those that cannot be opened, and why."""
        self._stages = stages
        self._engines = stages.engines
        self._startup = startup
        self.chat = chat
        self.rooms = rooms
        self._closed_ports = closed_ports
        self._certificate = certificate
        self._began = time.monotonic()

    async def now(self) -> DaemonStatus:
        """Return the whole state."""
        attention = self.attention()
        return DaemonStatus(
            version=__version__,
            uptime_seconds=round(time.monotonic() - self._began, 1),
            ready=self.ready,
            state=overall(attention, loaded=self.ready),
            attention=tuple(attention),
            stages=tuple(self.stages()),
            rooms=tuple(self.rooms()),
            responders=self._responders(),
            speech_to_text={
                **self._engines.transcriber.engine.counts,
                "early": self._stages.speculative_transcripts.begun,
                "early_used": self._stages.speculative_transcripts.used,
            },
            chat=self.chat(),
            background=self._stages.background.status(),
            gpus=tuple(await asyncio.to_thread(gpus)),  # the driver may take milliseconds
            event_loop_tasks=len(asyncio.all_tasks()),
            certificate=self._certificate(),
        )

    @property
    def ready(self) -> bool:
        """Whether every stage has been warmed up, or has failed."""
        return self._startup.finished

    @property
    def state(self) -> str:
        """The daemon's state in one word: `loading`, `ready` or `degraded`."""
        return overall(self.attention(), loaded=self.ready)

    @property
    def line(self) -> str:
        """The state in one line, such as `ready · 4 rooms · ollama phi3:mini warm · stt cpu`."""
        slots = self._engines.slots
        failed = list(dict.fromkeys(slot.stage.value for slot in slots if slot.failure is not None))
        loading = list(dict.fromkeys(slot.stage.value for slot in slots if not slot.settled and not slot.on_demand))
        # Names of stages, not of slots: wake words have two slots.
        state = self.state
        if state == LOADING:
            state = f"loading {', '.join(loading)}" if loading else "warming up"
        parts = [f"{state}, without {', '.join(failed)}" if failed else state]
        parts += [_attention_line(self.attention()), _rooms_line(self.rooms())]
        if "chat" not in failed:
            parts.append(_chat_line(self.chat()))
        if self._engines.transcriber.ready:
            device = self._engines.transcriber.engine.device.partition(" ")[0]
            parts.append(f"stt {device if device in ('cpu', 'cuda') else 'remote'}")
        return " · ".join(part for part in parts if part)

    def attention(self) -> list[Attention]:
        """Return what does not work as it was configured."""
        return list(
            needing_attention(
                self.stages(),
                self.chat().providers,
                self._responders(),
                self.rooms(),
                self._stages.background.status(),
                self._closed_ports(),
                self._certificate(),
            )
        )

    def stages(self) -> list[StageStatus]:
        """Return the state of each stage, its model and the device that it really runs on."""
        return [self._stage(slot) for slot in self._engines.slots]

    def _stage(self, slot: Slot[object]) -> StageStatus:
        info = slot.info()
        state, message = self._stage_state(slot, info.trouble)
        code = None
        if slot.failure is not None:
            cause = slot.failure.__cause__  # the engine's thread makes its stage's error of the store's
            code = cause.code if isinstance(cause, ModelError) else slot.failure.code
        unusable = (info.unusable or None) if slot.ready else None  # the failure of the engine says all
        return StageStatus(slot.name, state, message, code, info.device, info.model, unusable)

    def _stage_state(self, slot: Slot[object], trouble: str) -> tuple[str, str]:
        if slot.failure is not None:
            return "failed", str(slot.failure)
        if not slot.settled:
            return ("idle", "is loaded when it is asked for") if slot.on_demand else ("loading", "is being loaded")
        if slot is self._engines.chat and (unavailable := _unavailable(self.chat())):
            return unavailable
        if trouble:
            return "unreachable", trouble
        message = self._startup.cold.get(slot.name, "")
        return ("cold" if message else "ready"), message

    def _responders(self) -> tuple[ResponderStatus, ...]:
        return tuple(one.status for one in self._stages.responders)


def _wire(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    present = ((name, value) for name, value in fields if value is not None or name not in _LEFT_OUT)
    return {name.removesuffix("_"): value for name, value in present}  # `from_`


def _unavailable(chat: ChatStatus) -> tuple[str, str] | None:
    """Return the state of a chat stage of which no provider can answer, and why; None where one can."""
    if any(one.up for one in chat.providers):
        return None
    coming = [one for one in chat.providers if one.state in COMING]
    if any(one.state == "released" for one in coming):
        return "idle", "is loaded when it is asked for"
    message = "; ".join(f"{one.provider}: {one.message}" for one in coming or chat.providers)
    states = {one.state for one in chat.providers}
    return ("loading" if coming else states.pop() if len(states) == 1 else "unreachable"), message


def _attention_line(attention: Sequence[Attention]) -> str:
    if not attention:
        return ""
    more = f" and {len(attention) - _NAMED} more" if len(attention) > _NAMED else ""
    return f"look at {', '.join(one.what for one in attention[:_NAMED])}{more}"


def _rooms_line(rooms: Sequence[RoomStatus]) -> str:
    if not rooms:
        return ""
    connected = sum(room.state == "connected" for room in rooms)
    plural = "room" if len(rooms) == 1 else "rooms"
    return f"{len(rooms)} {plural}" if connected == len(rooms) else f"{connected} of {len(rooms)} {plural}"


def _chat_line(chat: ChatStatus) -> str:
    """Return who answers, and how that is."""
    one = next((one for one in chat.providers if one.provider == chat.answering), None)
    return "" if one is None else f"{one.provider} {one.model} {one.state}"
