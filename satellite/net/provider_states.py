"""The states of a chat provider and what each means: one table for the status, the pages and the doctor."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from satellite.clock import monotonic
from satellite.errors import ChatError
from satellite.languages import read_yaml


class Tone(StrEnum):
    """What a state means for the next question."""

    GOOD = "good"
    """It is answered at once."""

    WAIT = "wait"
    """It is answered, or soon will be; whatever is wrong passes by itself."""

    BAD = "bad"
    """It is not answered, or badly, until somebody intervenes."""


@dataclass(frozen=True, slots=True)
class ProviderHealth:
    """Whether a provider is worth asking now, and what an administrator should know of it."""

    state: str
    """One word for programs and metrics, such as `warm`, `loading` or `unreachable`."""

    up: bool
    """Whether a question would be answered."""

    message: str
    """For people: what is wrong, and what to do about it."""

    forbidden: bool = False
    """Whether it must not be asked even if no other is left: because of its rate limit, or for want of a key."""

    since: float = field(default_factory=monotonic)
    """When it entered this state, `time.monotonic()`."""

    is_late: bool = False
    """Whether it is not up, but alive: it would answer, though not soon."""


STATES: Mapping[str, Mapping[str, Any]] = read_yaml("satellite.net", "provider_states.yaml")
"""What is said of each state, by the names that the table's head explains."""

TONES = {state: Tone(about["tone"]) for state, about in STATES.items()}
"""What each state means for the next question."""

COMING = frozenset(state for state, about in STATES.items() if about.get("coming"))
"""States of a provider that does not answer at once, though nothing is wrong with it."""

_AFTER = {about["after"]: state for state, about in STATES.items() if "after" in about}


def state_after(error: ChatError) -> str:
    """Return the state of a provider that has just failed with `error`."""
    return _AFTER.get(error.code, "failing")
