"""When a voice command begins and ends: a pure state machine over (seconds, is_speech)."""

from dataclasses import dataclass
from enum import StrEnum

from satellite.config.settings import EndpointSettings
from satellite.pipeline.completeness import Completeness

_ONSET_SECONDS = 0.09
"""Speech that must come together before a command counts as begun: three 32 ms windows, so no click starts one."""

_SETTLED_SECONDS = 1.33
"""Speech after which a command is as likely to be complete as it will ever be: half of all commands are this short."""

_PAUSE_SECONDS = 0.2
"""Least silence within a command that is a pause of the speaker, not the closure of a consonant."""

_PAUSE_MARGIN_SECONDS = 0.15
"""How much longer than the longest one so far the next pause of the same speaker may be."""


def scaled(settings: EndpointSettings, sensitivity: str | None) -> EndpointSettings:
    """Return the settings for a `vad_sensitivity` of Wyoming: relaxed waits longer, aggressive shorter.

    The ratios are Home Assistant's: 1.25 s and 0.25 s against 0.7 s (`assist_pipeline/vad.py`, 2026.11).
    """
    factor = {"relaxed": 1.25 / 0.7, "aggressive": 0.25 / 0.7}.get(sensitivity or "", 1.0)
    silences = ("silence_seconds", "least_silence_seconds", "sentence_silence_seconds", "complete_silence_seconds")
    return settings.model_copy(update={name: getattr(settings, name) * factor for name in silences})


@dataclass(slots=True)
class Heard:
    """What is known of a command while it is spoken."""

    spoken_seconds: float = 0.0
    longest_pause_seconds: float = 0.0
    words: Completeness = Completeness.UNKNOWN


def silence_needed(settings: EndpointSettings, heard: Heard) -> float:
    """Return how long the silence must be that ends the command, seconds.

    The words tell most. Without them, who has hardly begun will go on, so it is longest at first. Who has paused before
    will pause again as long. It is never longer than `silence_seconds`.
    """
    longest = settings.silence_seconds
    match heard.words:
        case Completeness.COMPLETE:
            return min(settings.complete_silence_seconds, longest)
        case Completeness.INCOMPLETE:
            return longest
        case Completeness.SENTENCE:
            needed = min(settings.sentence_silence_seconds, longest)
        case Completeness.UNKNOWN:
            least = min(settings.least_silence_seconds, longest)
            needed = longest - (longest - least) * min(1.0, heard.spoken_seconds / _SETTLED_SECONDS)
    if heard.longest_pause_seconds:
        needed = max(needed, min(longest, heard.longest_pause_seconds + _PAUSE_MARGIN_SECONDS))
    return needed


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

    def __init__(self, settings: EndpointSettings, *, decides: bool = True) -> None:
        """Begin to wait for speech; one that `decides` not by itself is over only when `decide` finds it so."""
        self._settings = settings
        self._decides = decides
        self.state = EndpointState.WAITING
        self.seconds = 0.0
        """Audio seen so far."""

        self.last_speech_at = 0.0
        """Where in the audio the latest speech ended."""

        self._heard = Heard()
        self._held = False
        self._fades = False
        self._speech_in_row = 0.0
        self._silence_in_row = 0.0

    @property
    def pauses(self) -> bool:
        """Whether it is silent amid the command, longer than between two syllables: that may be the end."""
        is_silent = self._silence_in_row >= self._settings.provisional_silence_seconds
        return self.state is EndpointState.SPEAKING and (is_silent or self._fades)

    def note(self, words: Completeness) -> None:
        """Take what the words up to here say of the end, which may be now; it holds until there is more speech."""
        self._heard.words = words
        if self._decides:
            self._end_if_silent()

    def restart(self) -> None:
        """Wait for speech again: what was taken for it had no words, such as the end of the wake word, or a cough."""
        if self.state is EndpointState.SPEAKING:
            self.state = EndpointState.WAITING
            self._heard = Heard()

    def hold(self) -> None:
        """Wait as long as ever, until `release` or more speech: there is nothing to answer with yet."""
        self._held = True

    def release(self) -> None:
        """Wait no longer than the words ask for: the end may be now."""
        self._held = False
        if self._decides:
            self._end_if_silent()

    def feed(self, seconds: float, is_speech: bool, *, fades: bool = False) -> EndpointState:
        """Advance by a window of `seconds` and return the state; ended states are final.

        Speech that `fades`, since it has become quiet by loudness, counts as silence; but it ends no command.
        """
        if self.state in (EndpointState.ENDED, EndpointState.NO_SPEECH):
            return self.state
        self.seconds += seconds
        self._fades = is_speech and fades and self.state is EndpointState.SPEAKING
        if is_speech and not self._fades:
            self._take_speech(seconds)
        else:
            self._speech_in_row = 0.0
            self._silence_in_row += seconds
        if self.state is EndpointState.WAITING and self._speech_in_row >= _ONSET_SECONDS:
            self.state = EndpointState.SPEAKING
            self._heard = Heard(spoken_seconds=self._speech_in_row)
        return self.decide() if self._decides else self.state

    def decide(self) -> EndpointState:
        """Say whether the command is over, by what was fed until now, and return the state."""
        is_silent = not self._speech_in_row
        if self.state is EndpointState.WAITING and self.seconds >= self._settings.no_speech_seconds and is_silent:
            self.state = EndpointState.NO_SPEECH
        self._end_if_silent()
        if self.state is EndpointState.SPEAKING and self.seconds >= self._settings.max_command_seconds:
            self.state = EndpointState.ENDED
        return self.state

    def _end_if_silent(self) -> None:
        needed = self._settings.silence_seconds if self._held else silence_needed(self._settings, self._heard)
        if self.state is EndpointState.SPEAKING and self._silence_in_row >= needed and not self._fades:
            self.state = EndpointState.ENDED

    def _take_speech(self, seconds: float) -> None:
        if self._silence_in_row >= _PAUSE_SECONDS:
            self._heard.longest_pause_seconds = max(self._heard.longest_pause_seconds, self._silence_in_row)
        self._silence_in_row = 0.0
        self._heard.words = Completeness.UNKNOWN
        self._held = False
        self._speech_in_row += seconds
        self._heard.spoken_seconds += seconds
        self.last_speech_at = self.seconds
