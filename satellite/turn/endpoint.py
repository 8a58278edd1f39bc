"""When a voice command begins and ends: a pure state machine over (seconds, is_speech)."""

from dataclasses import dataclass
from enum import StrEnum

_ONSET_SECONDS = 0.09
"""Speech that must come together before a command counts as begun: three 32 ms windows, so no click starts one."""


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """All in seconds."""

    silence_seconds: float = 0.7
    no_speech_seconds: float = 5.0
    max_command_seconds: float = 15.0

    def scaled(self, sensitivity: str | None) -> "EndpointSettings":
        """Return the settings for a `vad_sensitivity` of Wyoming: relaxed waits longer, aggressive shorter.

        The ratios are Home Assistant's: 1.25 s and 0.25 s against 0.7 s (`assist_pipeline/vad.py`, 2026.11).
        """
        factor = {"relaxed": 1.25 / 0.7, "aggressive": 0.25 / 0.7}.get(sensitivity or "", 1.0)
        return EndpointSettings(self.silence_seconds * factor, self.no_speech_seconds, self.max_command_seconds)


class EndpointState(StrEnum):
    """Where the command is."""

    WAITING = "waiting"
    SPEAKING = "speaking"
    ENDED = "ended"
    """The speaker finished, or the command is as long as it may be."""

    NO_SPEECH = "no-speech"
    """Nobody spoke in time."""


class Endpoint:
    """Feed it the VAD's decisions in order; it says where the command is."""

    def __init__(self, settings: EndpointSettings) -> None:
        self._settings = settings
        self.state = EndpointState.WAITING
        self.seconds = 0.0
        """Audio seen so far."""

        self.last_speech_at = 0.0
        """Where in the audio the latest speech ended."""

        self._speech_in_row = 0.0
        self._silence_in_row = 0.0

    def feed(self, seconds: float, is_speech: bool) -> EndpointState:
        """Advance by a window of `seconds` and return the state; ended states are final."""
        if self.state in (EndpointState.ENDED, EndpointState.NO_SPEECH):
            return self.state
        self.seconds += seconds
        self._speech_in_row = self._speech_in_row + seconds if is_speech else 0.0
        self._silence_in_row = 0.0 if is_speech else self._silence_in_row + seconds
        if is_speech:
            self.last_speech_at = self.seconds
        if self.state is EndpointState.WAITING:
            if self._speech_in_row >= _ONSET_SECONDS:
                self.state = EndpointState.SPEAKING
            elif self.seconds >= self._settings.no_speech_seconds:
                self.state = EndpointState.NO_SPEECH
        elif self._silence_in_row >= self._settings.silence_seconds:
            self.state = EndpointState.ENDED
        if self.state is EndpointState.SPEAKING and self.seconds >= self._settings.max_command_seconds:
            self.state = EndpointState.ENDED
        return self.state
