"""What the checks of the doctor take and return."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from satellite.config.settings import Config
from satellite.wire.client import JsonObject


class State(StrEnum):
    """The result of a check."""

    GOOD = "good"
    NOTE = "note"
    """Worth knowing; nothing has to be done."""

    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    what: str
    """What was checked."""

    state: State
    seen: str
    remedy: str = ""
    """A command where there is one, else words."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is checked: a configuration, and the daemon that runs with it."""

    config: Config
    state: JsonObject | None
    """What the daemon answers to `status`; None where it does not answer."""

    uri: str
    """The daemon's address."""

    @property
    def providers(self) -> Sequence[JsonObject]:
        """The states of the running daemon's chat providers."""
        providers: Sequence[JsonObject] = (self.state or {}).get("chat", {}).get("providers", [])
        return providers

    @property
    def stages(self) -> Sequence[JsonObject]:
        """The states of the running daemon's stages."""
        stages: Sequence[JsonObject] = (self.state or {}).get("stages", [])
        return stages


Check = Callable[[Target], Awaitable[Sequence[Finding]]]


def good(what: str, seen: str) -> Finding:
    """Return the finding that something is as it should be."""
    return Finding(what, State.GOOD, seen)


def note(what: str, seen: str, remedy: str = "") -> Finding:
    """Return the finding that something is worth knowing."""
    return Finding(what, State.NOTE, seen, remedy)


def bad(what: str, seen: str, remedy: str) -> Finding:
    """Return the finding that something has to be repaired, and how."""
    return Finding(what, State.BAD, seen, remedy)
