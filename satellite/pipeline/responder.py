"""Who may answer a question before a chat model is asked."""

from dataclasses import dataclass
from typing import Protocol

from satellite.pipeline.dialogue import Question


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete answer."""

    text: str
    """What to say; empty for an answer that is silence, such as that to "never mind"."""

    provider: str
    """Who gave it, such as `commands` or `home_assistant`."""


@dataclass(frozen=True, slots=True)
class ResponderStatus:
    """Whether a responder works."""

    responder: str
    state: str
    """One word for programs."""

    up: bool
    """False when asking it would be waiting for nothing."""

    summary: str
    """The state as a sentence."""


class Responder(Protocol):
    """Answers what it understands, at once and without guessing."""

    @property
    def name(self) -> str:
        """Return what logs, answers and the status call it."""

    def deadline_seconds(self, question: Question) -> float:
        """Return how long `respond` may take; longer where something has to be got ready first, such as a language."""

    async def concerns(self, question: Question) -> bool:
        """Return whether it may answer, without doing anything; True where only asking can tell."""

    async def respond(self, question: Question) -> Reply | None:
        """Return the answer, None for a question that is not for this one, or when it cannot be answered in time."""

    @property
    def status(self) -> ResponderStatus:
        """Return its present state; a subclass says more."""

    async def watch(self) -> None:
        """Look after it until cancelled."""

    async def close(self) -> None:
        """Release what it holds; may be called twice."""


class Commands(Protocol):
    """Recognises commands that need no model, before anything acts on them."""

    async def means_stop(self, text: str, language: str | None) -> bool:
        """Return whether `text` asks for nothing but that the answer stops."""

    async def is_command(self, text: str, language: str | None) -> bool:
        """Return whether `text` is a whole command, to which nothing can be added."""
