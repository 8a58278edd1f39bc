"""Whether a provider is worth asking, judged by what came of asking it: a circuit breaker."""

import time
from collections.abc import Callable
from enum import StrEnum

from satellite.errors import ChatError, ChatRejected
from satellite.net.provider_states import state_after

_FIRST_HOLD_SECONDS = 1.0
_LONGEST_HOLD_SECONDS = 60.0
_EMPTY_ANSWERS = 3
"""So many in a row are the provider's fault."""

_LONGEST_TOLD_SECONDS = 86_400.0
"""Limits are per day at most; what asks for more is mistaken."""


class BreakerState(StrEnum):
    """The states of Nygard's circuit breaker (Release It!, 2007)."""

    CLOSED = "closed"
    """It answers."""

    OPEN = "open"
    """It does not; nobody waits for it."""

    HALF_OPEN = "half-open"
    """A probe got through; the next question decides."""


class Breaker:
    """Opens with a failure and closes with an answer.

    After the first failure a probe may run at once, after each further one later: 1, 2, 4 … 60 s. Only an answer
    forgets the failures, so that a provider that passes probes and fails questions is asked ever more rarely.
    """

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._failures = self._empty = 0
        self._probe_at = 0.0
        self._told = False
        self.state = BreakerState.CLOSED
        self.reason = ""
        """Why it is not closed."""

        self.cause = ""
        """The state, by `provider_states.MEANINGS`, that its last failure means."""

        self.since = now()
        """When it came into its state."""

    @property
    def up(self) -> bool:
        """Whether a question may be asked."""
        return self.state is not BreakerState.OPEN

    @property
    def due(self) -> bool:
        """Whether a probe should see if the provider is back."""
        return self.state is BreakerState.OPEN and self._now() >= self._probe_at

    @property
    def forbidden(self) -> bool:
        """Whether the provider itself has asked to be left alone."""
        return self.state is BreakerState.OPEN and self._told and self._now() < self._probe_at

    def failed(self, error: ChatError, *, hold_seconds: float | None = None) -> None:
        """Note a question that failed; `hold_seconds` is when the provider itself says that it will answer again."""
        if isinstance(error, ChatRejected) and error.code != "chat-refused":
            return  # the question was at fault
        if error.code == "chat-empty":  # by the question's fault as often as by the provider's
            self._empty += 1
            if self._empty < _EMPTY_ANSWERS:
                return
        self._failures += 1
        self._told = hold_seconds is not None
        if hold_seconds is None:
            hold_seconds = 0.0 if self._failures == 1 else _FIRST_HOLD_SECONDS * 2 ** min(self._failures - 2, 10)
            hold_seconds = min(hold_seconds, _LONGEST_HOLD_SECONDS)
        self._probe_at = self._now() + min(hold_seconds, _LONGEST_TOLD_SECONDS)
        self.reason, self.cause = str(error), state_after(error)
        self._enter(BreakerState.OPEN)

    def rest(self, seconds: float, reason: str) -> None:
        """Leave the provider alone for a while, though it has not failed."""
        self._probe_at = self._now() + min(seconds, _LONGEST_TOLD_SECONDS)
        self._told = True
        self.reason, self.cause = reason, "rate-limited"
        self._enter(BreakerState.OPEN)

    def succeeded(self) -> None:
        """Note an answer."""
        self._failures = self._empty = 0
        self.reason = self.cause = ""
        self._enter(BreakerState.CLOSED)

    def excuse(self) -> None:
        """Note that what had kept it from answering is over: a probe may run at once."""
        self._failures = min(self._failures, 1)
        self._probe_at = self._now()

    def probed(self, failure: ChatError | None) -> None:
        """Note what a probe of an open breaker found."""
        if failure is None:
            self._enter(BreakerState.HALF_OPEN)
        else:
            self.failed(failure)

    def _enter(self, state: BreakerState) -> None:
        if state is not self.state:
            self.state = state
            self.since = self._now()
