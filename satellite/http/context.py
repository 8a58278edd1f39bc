"""What the endpoints share: the daemon's parts, and how a run is carried out for a client."""

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from satellite.audio.pcm import BYTES_PER_SECOND
from satellite.config.http import HttpSettings
from satellite.engines.protocols import VoiceChoice
from satellite.errors import ChatRejected, SatelliteError, Stage, StageError
from satellite.events import RunBus, RunEnd, RunEvent, RunFailed
from satellite.http.browser_rooms import BrowserRooms
from satellite.http.rate_limit import RateLimit, Work
from satellite.models.store import Store
from satellite.monitoring.runs import RunHistory, RunRecord
from satellite.monitoring.status import Status
from satellite.net.tls_certificate import ServerCertificate
from satellite.pipeline.audio_queue import AudioInbox
from satellite.pipeline.request import RunRequest, Speech
from satellite.pipeline.run import Run
from satellite.pipeline.stages import RunConfig, Stages
from satellite.rooms.announcements import Announcer
from satellite.rooms.controls import RoomControls
from satellite.tasks import begin_task, end_tasks

_STEPS = 8
"""Steps of a run that may wait for the client before the run waits."""

_WATCHERS = 64
"""Clients that may watch at once."""

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
    controls: RoomControls
    browsers: BrowserRooms
    """Browsers that are rooms."""

    queues: Callable[[], Mapping[str, int]]
    """How many calls wait for each engine."""

    runs: RunHistory
    rate: RateLimit
    work: Work
    certificate: ServerCertificate | None = None
    """That of HTTPS; None serves plain HTTP."""

    watchers: Work = field(default_factory=lambda: Work(_WATCHERS, f"{_WATCHERS} clients are watching already"))
    """Clients of `/events`."""

    @property
    def config(self) -> RunConfig:
        """The configuration as it is now: parts of it change while the daemon runs."""
        return self.stages.config

    def check_length(self, text: str, refusal: type[StageError] = ChatRejected) -> None:
        """Raise `refusal` for a text that is too long."""
        longest = self.config.wyoming.max_text_characters
        if len(text) > longest:
            raise refusal(f"a text of {len(text)} characters is too long; at most {longest}", kind="too-long")


class Outcome:
    """What a run of a client has led to so far."""

    def __init__(self, request: RunRequest) -> None:
        self.run = RunRecord(request.run_id, request.room, time.monotonic())

    def note(self, step: Step) -> None:
        """Take over what a step reports. Raises the run's error as `SatelliteError`."""
        if isinstance(step, RunFailed):
            raise SatelliteError(step.text, code=step.code)
        if not isinstance(step, Speech):
            self.run.update(step)

    @property
    def timings_ms(self) -> dict[str, float]:
        """How long stages took, and how long the client waited for the first token and the first sound."""
        run = self.run
        asked = next((span.start for span in run.spans if span.name == "chat"), 0.0)
        timings = {
            "stt": run.seconds("stt"),
            "first_token": _since(asked, run.marks.get("first_token")),
            "chat": run.seconds("chat"),
            "first_audio": _since(run.marks.get("command_end") or asked, run.marks.get("first_audio")),
            "total": run.total,
        }
        return {name: round(1000 * seconds, 1) for name, seconds in timings.items() if seconds is not None}


def _since(begin: float, end: float | None) -> float | None:
    return None if end is None else max(0.0, end - begin)


async def perform(context: Context, request: RunRequest, recording: bytes = b"") -> AsyncGenerator[Step, None]:
    """Yield the steps of a run over a `recording`, if it needs one; closing the generator cancels the run."""
    # Bounded, so that a slow client holds up its own run: speech is made only as fast as it is sent.
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
        # Also reached when the client has left: closing the generator cancels the run, and frees its engines.
        await end_tasks(*tasks)


async def finish(context: Context, request: RunRequest, recording: bytes = b"") -> tuple[Outcome, list[Speech]]:
    """Return the outcome of a whole run, and its sound. Raises its error."""
    outcome = Outcome(request)
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
    """Return a name that cannot be guessed: a client that knows it can continue the conversation."""
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
