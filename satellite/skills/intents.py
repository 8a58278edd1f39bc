"""What is answered without a model, and what a command says."""

from dataclasses import dataclass
from enum import StrEnum

from satellite.skills.timers.matching import Wanted
from satellite.skills.timers.timer import Duration


class Intent(StrEnum):
    """What is answered without a model: Home Assistant's names, and three of our own."""

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
    """Means something only while a timer rings, such as "thank you"."""


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
    """What an utterance says, all of it."""

    intent: Intent
    duration: Duration
    """For how long, or by how much."""

    wanted: Wanted
    """Which timer; of one to be set, its name and room."""

    about_timers: bool
    """Whether a timer is spoken of in so many words; without, it depends on whether there is one."""

    @property
    def is_closed(self) -> bool:
        """Whether there is nothing left to tell; where there is a duration or a name there may be more of it."""
        return self.intent in _CLOSED
