"""What is known of a provider before it is asked."""

import time
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a provider is worth asking now, and what an administrator should know of it."""

    state: str
    """One word for programs and metrics, such as `warm`, `loading` or `unreachable`."""

    up: bool
    """False when asking it would be waiting for nothing."""

    words: str
    """For people: what is the matter, and what to do about it."""

    forbidden: bool = False
    """True when it must not be asked even if nobody else is left: its rate limit, or no key."""

    since: float = field(default_factory=time.monotonic)
    """When it came into this state, `time.monotonic()`."""

    is_late: bool = False
    """True when it is not up, but alive: it would answer, though not soon."""
