"""What the endpoints share: the daemon's parts, and how a run is carried out for a client."""

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from satellite.audio.pcm import BYTES_PER_SECOND
from satellite.config.http import HttpSettings
from satellite.engines.protocols import VoiceChoice
from satellite.errors import ChatRejected, SatelliteError, Stage, StageError
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
from satellite.monitoring.runs import RunHistory
from satellite.monitoring.status import Status
from satellite.pipeline.audio_queue import AudioInbox
from satellite.pipeline.request import RunRequest, Speech
from satellite.pipeline.run import Run
from satellite.pipeline.stages import RunConfig, Stages
from satellite.rooms.announcements import Announcer
from satellite.tasks import begin_task, end_tasks

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

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
    announcer: Announcer
    queues: Callable[[], Mapping[str, int]]
    """How many calls wait for each engine."""

    runs: RunHistory
    rate: RateLimit
    work: Work

    @property
    def config(self) -> RunConfig:
        """The configuration as it is now: parts of it change while the daemon runs."""
        return self.stages.config

    def check_length(self, text: str, refusal: type[StageError] = ChatRejected) -> None:
        """Raise `refusal` for a text that is too long."""
        longest = self.config.wyoming.max_text_characters
        if len(text) > longest:
            raise refusal(f"a text of {len(text)} characters is too long; at most {longest}", kind="too-long")


@dataclass(slots=True)
class Outcome:
    """What a run has led to so far."""

    heard: str = ""
    language: str = ""
    said: str = ""
    provider: str | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    _asked: float = 0.0
    _command_end: float = 0.0

    def note(self, step: Step) -> None:
        """Take over what a step reports. Raises the run's error as `SatelliteError`."""
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
                # Speculative sound exists before the command has ended; it is sent, and timed, only from then on.
                self._mark("first_audio", max(0.0, step.at - (self._command_end or self._asked or self.began)))
            case RunEnd():
                self._mark("total", step.at - self.began)
            case RunFailed():
                raise SatelliteError(step.text, code=step.code)

    def _mark(self, name: str, seconds: float) -> None:
        self.timings_ms[name] = round(1000 * seconds, 1)


async def perform(context: Context, request: RunRequest, recording: bytes = b"") -> AsyncGenerator[Step, None]:
    """Yield the steps of a run over a `recording`, if it needs one; closing the generator cancels the run."""
    steps: asyncio.Queue[Step] = asyncio.Queue(_STEPS)
    run = Run(context.stages, context.bus, request, steps.put)
    inbox = AudioInbox()
    tasks = [
        begin_task(run.execute(inbox), f"run {request.room}"),
        begin_task(_feed(inbox, recording), f"feed {request.room}"),
    ]
    try:
        while True:
            step = await steps.get()
            yield step
            if isinstance(step, RunEnd):
                return
    finally:
        await end_tasks(*tasks)


async def finish(context: Context, request: RunRequest, recording: bytes = b"") -> tuple[Outcome, list[Speech]]:
    """Return the outcome of a whole run, and its sound. Raises its error."""
    outcome = Outcome()
    sound: list[Speech] = []
    async with aclosing(perform(context, request, recording)) as steps:
        async for step in steps:
            outcome.note(step)
            if isinstance(step, Speech):
                sound.append(step)
    return outcome, sound


async def _feed(inbox: AudioInbox, recording: bytes) -> None:
    for at in range(0, len(recording), BYTES_PER_SECOND):
        await inbox.put(recording[at : at + BYTES_PER_SECOND])
    inbox.end()


def new_conversation() -> str:
    """Return a name that cannot be guessed: whoever knows it can continue the conversation."""
    return uuid.uuid4().hex


def client_of(connection: "HTTPConnection") -> str:
    """Return the address of a client."""
    return connection.client.host if connection.client else "unknown"


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
