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

    BROADCAST = "HassBroadcast"
    SET_VOLUME = "HassSetVolume"
    CHANGE_VOLUME = "HassSetVolumeRelative"
    LOUDER = "SatelliteLouder"
    QUIETER = "SatelliteQuieter"
    MUTE = "SatelliteMute"
    TELL = "SatelliteTell"
    CALL = "SatelliteCall"
    HANG_UP = "SatelliteHangUp"
    PLAY = "SatellitePlay"

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
        Intent.LOUDER,
        Intent.QUIETER,
        Intent.MUTE,
        Intent.HANG_UP,
    }
)

OF_ROOMS = frozenset(
    {
        Intent.BROADCAST,
        Intent.SET_VOLUME,
        Intent.CHANGE_VOLUME,
        Intent.LOUDER,
        Intent.QUIETER,
        Intent.MUTE,
        Intent.TELL,
        Intent.CALL,
        Intent.HANG_UP,
        Intent.PLAY,
    }
)
"""What is done with rooms."""


@dataclass(frozen=True, slots=True)
class Command:
    """What an utterance says."""

    intent: Intent
    duration: Duration
    """For how long, or by how much."""

    timer: TimerQuery
    """Which timer is meant, or for a new one its name; and the room that was named."""

    mentions_timer: bool
    """Whether a word for timers was said; without one, the sentence is a command only if there is a timer."""

    message: str = ""
    """What is to be said in other rooms."""

    volume: float = 0.0
    """From 0 to 1; of `CHANGE_VOLUME`, what is added."""

    media: str = ""
    """What is to be played."""

    @property
    def place(self) -> str | None:
        """The room that was named."""
        return self.timer.place

    @property
    def is_closed(self) -> bool:
        """Whether nothing can follow; more of a duration or a name might."""
        return self.intent in _CLOSED

    @property
    def acts(self) -> bool:
        """Whether it sets or changes a timer, which more words would have changed otherwise."""
        return not self.is_closed and self.intent is not Intent.TIMER_STATUS
