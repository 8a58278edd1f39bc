"""A command that a room listens to without a wake word: after a question, or because somebody has asked for it."""

import asyncio
import time
from dataclasses import dataclass, field, replace

from satellite.engines.protocols import Transcription
from satellite.errors import SatelliteError, SpeechToTextError, Stage
from satellite.pipeline.request import RunRequest


@dataclass(slots=True, eq=False)
class Expectation:
    """One command that is expected."""

    until: float
    """When it has to begin at the latest, by `time.monotonic`."""

    follows: bool = True
    """Whether it goes on with a conversation: then it is no error that nobody says anything."""

    heard: asyncio.Future[Transcription] | None = None
    """Takes what is said, which is then not answered."""

    language: str | None = None
    """The language of what is said; None for the room's."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)

    def applied(self, request: RunRequest, follow_up_seconds: float) -> RunRequest:
        """Return `request`, which begins with the command, as it is to be run; the command begins."""
        self.begun.set()
        if self.follows:
            request = replace(request, no_speech_seconds=follow_up_seconds)
        if self.heard is not None:
            request = replace(request, end=Stage.STT, language=self.language or request.language)
        return request

    def settle(self, outcome: Transcription | SatelliteError | None) -> None:
        """Give to the one who waits for it what was said, or why nothing was; None if it was cut off."""
        if self.heard is None or self.heard.done():
            return
        if isinstance(outcome, Transcription):
            self.heard.set_result(outcome)
        else:
            self.heard.set_exception(outcome or SpeechToTextError("the room was interrupted", kind="stream-failed"))
        self.begun.set()  # who waits for that need not wait any longer


class Expectations:
    """The command that a room expects next, if any."""

    def __init__(self) -> None:
        self.command: Expectation | None = None

    @property
    def seconds_left(self) -> float:
        """How long it may still take to begin; 0 if none is expected."""
        return 0.0 if self.command is None else max(0.0, self.command.until - time.monotonic())

    def put(self, command: Expectation | None) -> None:
        """Expect `command` in place of another, which is cut off."""
        before, self.command = self.command, command
        if before is not None:
            before.settle(None)

    def take(self) -> Expectation | None:
        """Return the command, which begins now, if it is in time."""
        if not self.seconds_left:
            return None
        command, self.command = self.command, None
        return command
