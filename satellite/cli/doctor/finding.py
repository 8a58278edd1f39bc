"""What a check finds."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How something is."""

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
    """What mends it: a command where there is one."""
