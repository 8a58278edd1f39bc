"""The daemon's state, for people and programs."""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

from satellite import __version__
from satellite.engines.slot import Slot
from satellite.errors import ModelError
from satellite.monitoring import attention
from satellite.monitoring.attention import Attention
from satellite.monitoring.tones import tone
from satellite.net.provider_states import COMING
from satellite.pipeline.stages import Stages
from satellite.system.nvidia import gpus


class Status:
    """Tells how the daemon is, at any moment since it began."""

    def __init__(self, stages: Stages, rooms: Callable[[], list[dict[str, Any]]]) -> None:
        """Tell of `stages`, and of what `rooms` returns."""
        self.ready = False
        """Whether every stage has been warmed up, or has failed."""

        self.cold: dict[str, str] = {}
        """Why a stage is not warm, by its name."""

        self.troubles: list[Callable[[], Iterable[Attention]]] = []
        """Whoever else may know of something that needs attention."""

        self._stages = stages
        self._engines = stages.engines
        self._rooms = rooms
        self._began = time.monotonic()

    async def described(self) -> dict[str, Any]:
        """Return everything as one object that JSON can hold."""
        chat = self._engines.chat.engine
        troubles = self.attention()
        return {
            "version": __version__,
            "uptime_seconds": round(time.monotonic() - self._began, 1),
            "ready": self.ready,
            "state": attention.overall(troubles, loaded=self.ready),
            "attention": attention.described(troubles),
            "stages": _toned(self.stages()),
            "rooms": _toned(self._rooms()),
            "responders": _toned(self._responders()),
            "speech_to_text": {
                **self._engines.transcriber.engine.counts,
                "early": self._stages.early_transcripts.begun,
                "early_used": self._stages.early_transcripts.used,
            },
            "chat": {**chat.details, "words": chat.health.words},
            "background": self._stages.background.described(),
            "gpus": await asyncio.to_thread(gpus),
            "event_loop_tasks": len(asyncio.all_tasks()),
        }

    @property
    def state(self) -> str:
        """The daemon's state in one word: `loading`, `ready` or `degraded`."""
        return attention.overall(self.attention(), loaded=self.ready)

    def attention(self) -> list[Attention]:
        """Return what does not work as it was configured."""
        providers = self._engines.chat.engine.details["providers"]
        found = [*attention.needed(self.stages(), providers, self._responders(), self._rooms())]
        found += attention.failing(self._stages.background.described())
        for others in self.troubles:
            found += others()
        return found

    def stages(self) -> list[dict[str, Any]]:
        """Return the state of each stage, its model and the device that it really runs on, where it tells."""
        stages = []
        for slot in self._engines.slots:
            state, words = self._stage(slot)
            told = {"stage": slot.name, "state": state, "words": words}
            if slot.failure is not None:
                cause = slot.failure.__cause__  # the engine's thread makes its stage's error of it
                told["code"] = cause.code if isinstance(cause, ModelError) else slot.failure.code
            if device := getattr(slot.engine, "device", None):
                told["device"] = device
            if model := _model(slot.engine):
                told["model"] = model
            stages.append(told)
        return stages

    def _stage(self, slot: Slot[Any]) -> tuple[str, str]:
        if slot.failure is not None:
            return "failed", str(slot.failure)
        if not slot.settled:
            return ("idle", "is loaded when it is asked for") if slot.on_demand else ("loading", "is being loaded")
        if slot is self._engines.chat and (nobody := self._nobody_answers()):
            return nobody
        if trouble := getattr(slot.engine, "trouble", ""):
            return "unreachable", trouble
        words = self.cold.get(slot.name, "")
        return ("cold" if words else "ready"), words

    def _nobody_answers(self) -> tuple[str, str] | None:
        """Return the state of a chat stage of which no provider can answer, and why; None where one can."""
        providers = self._engines.chat.engine.details["providers"]
        if any(one["up"] for one in providers):
            return None
        coming = [one for one in providers if one["state"] in COMING]
        if any(one["state"] == "released" for one in coming):
            return "idle", "is loaded when it is asked for"
        words = "; ".join(f"{one['provider']}: {one['words']}" for one in coming or providers)
        states = {one["state"] for one in providers}
        return ("loading" if coming else states.pop() if len(states) == 1 else "unreachable"), words

    def _responders(self) -> list[dict[str, Any]]:
        return [{"responder": one.name, **one.details} for one in self._stages.responders]


def _toned(entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return `entries` with how good news the state of each is."""
    return [{**entry, "tone": tone(entry["state"])} for entry in entries]


def _model(engine: Any) -> str | None:
    """Return the model that an engine runs, or its default voice, where it tells."""
    if voices := getattr(engine, "voices", ()):
        return str(voices[0].name)
    return getattr(engine, "model", None)
