"""A circuit breaker: whether a provider is worth asking, judged by the results of earlier requests."""

from collections.abc import Callable
from enum import StrEnum

from satellite.backoff import Backoff
from satellite.clock import monotonic
from satellite.errors import ChatError, ChatRejected
from satellite.net.provider_states import state_after

_FIRST_HOLD_SECONDS = 1.0
_LONGEST_HOLD_SECONDS = 60.0
_EMPTY_ANSWERS = 3
"""Empty answers in a row that are the provider's fault and no longer the questions'."""

_LONGEST_REQUESTED_SECONDS = 86_400.0
"""Rate limits are per day at most; a longer Retry-After is a mistake."""


class BreakerState(StrEnum):
    """The states of Nygard's circuit breaker (Release It!, 2007)."""

    CLOSED = "closed"
    """It answers."""

    OPEN = "open"
    """It does not, and is not asked."""

    HALF_OPEN = "half-open"
    """A probe succeeded; the next question decides."""


class CircuitBreaker:
    """Opens with a failure and closes with an answer.

    After the first failure a probe may run at once, after each further one later: 1, 2, 4 … 60 s. Only an answer
    resets that, so that a provider that passes probes and fails questions is asked ever more rarely.
    """

    def __init__(self, *, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._backoff = Backoff(_FIRST_HOLD_SECONDS, _LONGEST_HOLD_SECONDS, jitter=False)
        self._has_failed = self._is_requested = False
        self._empty = 0
        self._probe_at = 0.0
        self.state = BreakerState.CLOSED
        self.reason = ""
        """Why it is not closed."""

        self.cause = ""
        """The state in `provider_states.TONES` that its last failure means."""

        self.since = now()
        """When it entered its state."""

    @property
    def up(self) -> bool:
        """Whether a question may be asked."""
        return self.state is not BreakerState.OPEN

    @property
    def due(self) -> bool:
        """Whether a probe should check if the provider is back."""
        return self.state is BreakerState.OPEN and self._now() >= self._probe_at

    @property
    def forbidden(self) -> bool:
        """Whether the provider itself has asked not to be used for now."""
        return self.state is BreakerState.OPEN and self._is_requested and self._now() < self._probe_at

    def failed(self, error: ChatError, *, hold_seconds: float | None = None) -> None:
        """Record a failed question; `hold_seconds` is when the provider itself says that it will answer again."""
        if isinstance(error, ChatRejected) and error.code != "chat-refused":
            return  # the question was at fault
        if error.code == "chat-empty":  # by the question's fault as often as by the provider's
            self._empty += 1
            if self._empty < _EMPTY_ANSWERS:
                return
        self._is_requested = hold_seconds is not None
        if hold_seconds is None:
            # One failure may be an accident, such as a connection that the server had just closed.
            hold_seconds = self._backoff.next() if self._has_failed else 0.0
        self._has_failed = True
        self._open(hold_seconds, str(error), state_after(error))

    def rest(self, seconds: float, reason: str) -> None:
        """Do not use the provider for so long, though it has not failed."""
        self._is_requested = True
        self._open(seconds, reason, "rate-limited")

    def succeeded(self) -> None:
        """Record an answer."""
        self._has_failed = False
        self._backoff.reset()
        self._empty = 0
        self.reason = self.cause = ""
        self._enter(BreakerState.CLOSED)

    def outage_ended(self) -> None:
        """Allow a probe at once: what had kept the provider from answering, such as a restart, is over."""
        self._backoff.reset()
        self._probe_at = self._now()

    def probe_succeeded(self) -> None:
        """Record that a probe of an open breaker found the provider working."""
        self._enter(BreakerState.HALF_OPEN)

    def _open(self, seconds: float, reason: str, cause: str) -> None:
        self._probe_at = self._now() + min(seconds, _LONGEST_REQUESTED_SECONDS)
        self.reason, self.cause = reason, cause
        self._enter(BreakerState.OPEN)

    def _enter(self, state: BreakerState) -> None:
        if state is not self.state:
            self.state = state
            self.since = self._now()
