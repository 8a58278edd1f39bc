"""The states of a chat provider and what each means: one table for the status, the pages and the doctor."""

import time
from dataclasses import dataclass, field
from enum import StrEnum

from satellite.errors import ChatError


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

    since: float = field(default_factory=time.monotonic)
    """When it entered this state, `time.monotonic()`."""

    is_late: bool = False
    """Whether it is not up, but alive: it would answer, though not soon."""


TONES = {
    "ready": Tone.GOOD,
    "warm": Tone.GOOD,
    "released": Tone.GOOD,  # unloaded until it is needed, as keepalive.when says
    "other-name": Tone.GOOD,  # it answers, but Ollama lists it under the name of a model that shares its file
    "on-cpu": Tone.WAIT,
    "unknown": Tone.WAIT,
    "not-loaded": Tone.WAIT,
    "loading": Tone.WAIT,
    "unloaded": Tone.WAIT,
    "other-context": Tone.WAIT,
    "foreign-keep-alive": Tone.WAIT,
    "partly-on-cpu": Tone.WAIT,
    "runner-died": Tone.WAIT,
    "slow": Tone.WAIT,  # a question has waited longer for its first word than chat.first_token_seconds
    "recovering": Tone.WAIT,
    "rate-limited": Tone.WAIT,
    "no-key": Tone.WAIT,
    "refused": Tone.BAD,
    "unreachable": Tone.BAD,
    "silent": Tone.BAD,
    "model-missing": Tone.BAD,
    "failing": Tone.BAD,
    "failed": Tone.BAD,  # the model could not be loaded into the daemon
    "misconfigured": Tone.BAD,
}
"""What each state means for the next question; docs/chat.md describes them."""

COMING = frozenset({"loading", "not-loaded", "released", "unknown", "unloaded", "other-context"})
"""States of a provider that does not answer at once, though nothing is wrong with it."""

_AFTER = {
    "chat-unreachable": "unreachable",
    "chat-timeout": "silent",
    "chat-slow": "slow",
    "chat-unknown-model": "model-missing",
    "chat-rate-limited": "rate-limited",
    "chat-refused": "refused",
    "chat-misconfigured": "misconfigured",
}


def state_after(error: ChatError) -> str:
    """Return the state of a provider that has just failed with `error`."""
    return _AFTER.get(error.code, "failing")
