"""What the endpoints share: the daemon's parts, and how a run is made for a client."""

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from satellite.config.http import HttpSettings
from satellite.engines.chat.status import ChatStatus
from satellite.engines.protocols import VoiceChoice
from satellite.errors import SatelliteError, Stage
from satellite.events import (
    ChatChunk,
    ChatEnd,
    ChatStart,
    RunBus,
    RunEnd,
    RunEvent,
    RunFailed,
    SttEnd,
    SttVadEnd,
    TtsStart,
)
from satellite.http.rate_limit import RateLimit, Work
from satellite.models.store import Store
from satellite.monitoring.runs import Recorder
from satellite.monitoring.status import Status
from satellite.pipeline.audio_queue import AudioInbox
from satellite.pipeline.request import RunRequest, Speech
from satellite.pipeline.run import Run
from satellite.pipeline.stages import RunConfig, Stages
from satellite.rooms.room import RoomStatus
from satellite.tasks import begin_task, end_tasks

_STEPS = 8
"""Steps of a run that may wait for the client before the run waits."""

Step = RunEvent | Speech


@dataclass(frozen=True, slots=True)
class Context:
    """The daemon's parts that the endpoints use."""

    settings: HttpSettings
    stages: Stages
    bus: RunBus
    status: Status
    store: Store
    announce: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
    rooms: Callable[[], list[RoomStatus]]
    chat: Callable[[], ChatStatus]
    queues: Callable[[], dict[str, int]]
    """How many calls wait for each engine or run."""

    runs: Recorder
    rate: RateLimit
    work: Work

    @property
    def config(self) -> RunConfig:
        """The configuration as it is now: parts of it change while the daemon runs."""
        return self.stages.config


@dataclass(slots=True)
class Outcome:
    """What came of a run."""

    heard: str = ""
    language: str = ""
    said: str = ""
    provider: str | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    _asked: float = 0.0
    _command_end: float = 0.0

    def note(self, step: Step) -> None:
        """Take what a step tells. Raises the run's error as `SatelliteError`."""
        if isinstance(step, Speech):
            return
        match step:
            case SttVadEnd():
                self._command_end = step.at
            case SttEnd():
                self.heard, self.language = step.text, step.language
                self._mark("stt", step.seconds)
            case ChatStart():
                self._asked = step.at
            case ChatChunk() if "first_token" not in self.timings_ms:
                self._mark("first_token", step.at - self._asked)
            case ChatEnd():
                self.said, self.provider = step.text, step.provider
                self._mark("chat", step.at - self._asked)
            case TtsStart():
                # The sound of an answer that was made before its question was known to be over waits until it is.
                self._mark("first_audio", max(0.0, step.at - (self._command_end or self._asked or self.began)))
            case RunEnd():
                self._mark("total", step.at - self.began)
            case RunFailed():
                raise SatelliteError(step.text, code=step.code)

    def _mark(self, name: str, seconds: float) -> None:
        self.timings_ms[name] = round(1000 * seconds, 1)


async def perform(context: Context, request: RunRequest, audio: AudioInbox | None = None) -> AsyncGenerator[Step, None]:
    """Yield the steps of a run, to its end; closing the generator cancels it."""
    steps: asyncio.Queue[Step] = asyncio.Queue(_STEPS)
    run = Run(context.stages, context.bus, request, steps.put)
    task = begin_task(run.execute(audio or AudioInbox()), f"run {request.room}")
    try:
        while True:
            step = await steps.get()
            yield step
            if isinstance(step, RunEnd):
                return
    finally:
        await end_tasks(task)


async def finish(
    context: Context, request: RunRequest, audio: AudioInbox | None = None
) -> tuple[Outcome, list[Speech]]:
    """Return what came of a whole run, and its sound. Raises its error."""
    outcome = Outcome()
    sound: list[Speech] = []
    async with aclosing(perform(context, request, audio)) as steps:
        async for step in steps:
            outcome.note(step)
            if isinstance(step, Speech):
                sound.append(step)
    return outcome, sound


def new_conversation() -> str:
    """Return a name that nobody can guess: who knows it goes on with the conversation."""
    return uuid.uuid4().hex


def run_request(
    client: str,
    conversation_id: str | None,
    *,
    start: Stage,
    end: Stage,
    text: str = "",
    language: str | None = None,
    voice: VoiceChoice | None = None,
) -> RunRequest:
    """Return what to run for a client."""
    return RunRequest(
        room=f"http {client}",
        conversation=f"conversation {conversation_id}" if conversation_id else None,
        start=start,
        end=end,
        text=text,
        language=language,
        voice=voice or VoiceChoice(language=language),
    )
