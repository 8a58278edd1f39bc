"""The daemon's state, for people and programs."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from satellite import __version__
from satellite.gpu import gpus
from satellite.turn.stages import Stages


class Status:
    """Tells how the daemon is, at any moment since it began."""

    def __init__(self, stages: Stages, rooms: Callable[[], list[dict[str, Any]]]) -> None:
        """Tell of `stages`, and of what `rooms` returns."""
        self.ready = False
        """Whether every stage has been warmed up, or has failed."""

        self.cold: dict[str, str] = {}
        """Why a stage is not warm, by its name."""

        self._stages = stages
        self._engines = stages.engines
        self._rooms = rooms
        self._began = time.monotonic()

    async def described(self) -> dict[str, Any]:
        """Return everything as one object that JSON can hold."""
        chat = self._engines.chat.engine
        return {
            "version": __version__,
            "uptime_seconds": round(time.monotonic() - self._began, 1),
            "ready": self.ready,
            "stages": self.stages(),
            "rooms": self._rooms(),
            "responders": [{"responder": one.name, **one.details} for one in self._stages.responders],
            "speech_to_text": {
                **self._engines.transcriber.engine.counts,
                "early": self._stages.early_transcripts.begun,
                "early_used": self._stages.early_transcripts.used,
            },
            "chat": {**chat.details, "words": chat.health.words},
            "gpus": await asyncio.to_thread(gpus),
        }

    def stages(self) -> list[dict[str, Any]]:
        """Return the state of each stage, and the device that it really runs on, where it tells."""
        stages = []
        for slot in self._engines.slots:
            if slot.failure is not None:
                state, words = "failed", str(slot.failure)
            elif not slot.settled and slot.on_demand:
                state, words = "idle", "is loaded when it is asked for"
            elif not slot.settled:
                state, words = "loading", "is being loaded"
            elif trouble := getattr(slot.engine, "trouble", ""):
                state, words = "unreachable", trouble
            else:
                words = self.cold.get(slot.name, "")
                state = "cold" if words else "ready"
            told = {"stage": slot.name, "state": state, "words": words}
            if device := getattr(slot.engine, "device", None):
                told["device"] = device
            stages.append(told)
        return stages
