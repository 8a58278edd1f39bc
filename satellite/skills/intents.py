"""The intents that are answered without a model, and a command: an utterance that is wholly one of them."""

from dataclasses import dataclass
from enum import StrEnum

from satellite.skills.timers.matching import TimerQuery
from satellite.skills.timers.timers import Duration


class Intent(StrEnum):
    """Home Assistant's names of intents, and our own, which begin with `Satellite`."""

    START_TIMER = "HassStartTimer"
    CANCEL_TIMER = "HassCancelTimer"
    CANCEL_ALL_TIMERS = "HassCancelAllTimers"
    INCREASE_TIMER = "HassIncreaseTimer"
    DECREASE_TIMER = "HassDecreaseTimer"
    PAUSE_TIMER = "HassPauseTimer"
    UNPAUSE_TIMER = "HassUnpauseTimer"
    TIMER_STATUS = "HassTimerStatus"
    CURRENT_TIME = "HassGetCurrentTime"
    CURRENT_DATE = "HassGetCurrentDate"
    NEVERMIND = "HassNevermind"
    STOP = "SatelliteStop"
    REPEAT = "SatelliteRepeat"

    DISMISS = "SatelliteDismiss"
    """Acknowledges a timer that rings, such as "thank you"; means nothing otherwise."""


_CLOSED = frozenset(
    {
        Intent.CURRENT_TIME,
        Intent.CURRENT_DATE,
        Intent.NEVERMIND,
        Intent.STOP,
        Intent.REPEAT,
        Intent.DISMISS,
        Intent.CANCEL_ALL_TIMERS,
    }
)


@dataclass(frozen=True, slots=True)
class Command:
    """What an utterance says."""

    intent: Intent
    duration: Duration
    """For how long, or by how much."""

    timer: TimerQuery
    """Which timer is meant; for a new one, its name and room."""

    mentions_timer: bool
    """Whether a word for timers was said; without one, the sentence is a command only if there is a timer."""

    @property
    def is_closed(self) -> bool:
        """Whether nothing can follow; more of a duration or a name might."""
        return self.intent in _CLOSED

    @property
    def acts(self) -> bool:
        """Whether it sets or changes a timer, which more words would have changed otherwise."""
        return not self.is_closed and self.intent is not Intent.TIMER_STATUS
