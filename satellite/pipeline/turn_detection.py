"""Turn detection: when a voice command begins and ends. A pure state machine over (seconds, is_speech)."""

from dataclasses import dataclass
from enum import StrEnum

from satellite.config.endpoint import EndpointSettings
from satellite.pipeline.completeness import Completeness

_ONSET_SECONDS = 0.09
"""Consecutive speech after which a command has begun: three 32 ms windows, so that no click starts one."""

_SETTLED_SECONDS = 1.33
"""Speech after which more speech no longer makes an end more likely: half of all commands are this short."""

_RESUMED_SECONDS = 0.16
"""The same after the end of a command, which it takes up again: five windows, since this silences an answer."""

TRAILING_SECONDS = 0.4
"""How long a voice may trail off, twice as long as in any of 52 recorded commands; a longer soft voice is another's."""

_PAUSE_SECONDS = 0.2
"""Shortest silence within a command that is a pause of the speaker, not the closure of a consonant."""

_PAUSE_MARGIN_SECONDS = 0.15
"""How much longer than the longest pause so far the next one of the same speaker may be."""

# Home Assistant's ratios: 1.25 s and 0.25 s against 0.7 s (`assist_pipeline/vad.py`, 2026.11).
_SENSITIVITY_FACTORS = {"relaxed": 1.25 / 0.7, "aggressive": 0.25 / 0.7}


def scaled(settings: EndpointSettings, sensitivity: str | None) -> EndpointSettings:
    """Return the settings for a `vad_sensitivity` of Wyoming: relaxed waits longer, aggressive shorter."""
    factor = _SENSITIVITY_FACTORS.get(sensitivity or "", 1.0)
    silences = (
        "silence_seconds",
        "least_silence_seconds",
        "sentence_silence_seconds",
        "repairable_silence_seconds",
        "complete_silence_seconds",
    )
    return settings.model_copy(update={name: factor * getattr(settings, name) for name in silences})


def repairable(settings: EndpointSettings) -> EndpointSettings:
    """Return the settings where a command is taken up again if its speaker goes on, so that its end may come sooner."""
    seconds = min(settings.sentence_silence_seconds, settings.repairable_silence_seconds)
    return settings.model_copy(update={"sentence_silence_seconds": seconds})


class TurnState(StrEnum):
    """Where the command is."""

    WAITING = "waiting"
    SPEAKING = "speaking"
    ENDED = "ended"
    """The speaker has finished, or the command has reached its longest duration."""

    NO_SPEECH = "no-speech"
    """Nobody spoke in time."""


@dataclass(slots=True)
class _Speech:
    """What is known of a command that is being spoken."""

    seconds: float = 0.0
    longest_pause_seconds: float = 0.0
    completeness: Completeness = Completeness.UNKNOWN


class TurnDetector:
    """Decides where a command begins and ends from the VAD's decisions, fed in order."""

    def __init__(self, settings: EndpointSettings, *, automatic: bool = True) -> None:
        """Wait for speech. Unless `automatic`, the command ends only in a call of `decide`."""
        self._settings = settings
        self._automatic = automatic
        self.state = TurnState.WAITING
        self.seconds = 0.0
        """Audio seen so far."""

        self.last_speech_at = 0.0
        """Where in the audio the latest speech ended."""

        self._speech = _Speech()
        self.listens_on = False
        """Whether the command has ended, and nobody has gone on with it since `listen_on`."""

        self._held = False
        self._fades = self._trails = False
        self._speech_in_row = 0.0
        self._silence_in_row = 0.0

    @property
    def silence_seconds(self) -> float:
        """Audio since the latest speech."""
        return self.seconds - self.last_speech_at

    @property
    def longest_pause_seconds(self) -> float:
        """The longest pause within the command so far; 0 without one."""
        return self._speech.longest_pause_seconds

    @property
    def pauses(self) -> bool:
        """Whether the speaker pauses for longer than between two syllables: the command may be over."""
        is_silent = self._silence_in_row >= self._settings.provisional_silence_seconds
        return self.state is TurnState.SPEAKING and (is_silent or self._fades) and not self._trails

    def set_completeness(self, completeness: Completeness) -> None:
        """Use what the words so far say about the end, which may be now; more speech makes it unknown again."""
        self._speech.completeness = completeness
        if self._automatic:
            self._end_if_silent()

    def restart(self) -> None:
        """Wait for speech again: the sound so far had no words, such as the end of a wake word, or a cough."""
        if self.state is TurnState.SPEAKING:
            self.state = TurnState.WAITING
            self._speech = _Speech()

    def include_trail(self, silence_seconds: float) -> None:
        """Count a soft voice that ended so long ago as the speaker's; what was understood so far lacks its words."""
        if self.state is TurnState.SPEAKING:
            self.last_speech_at = self.seconds - silence_seconds
            self._silence_in_row = silence_seconds
            self._speech.completeness = Completeness.UNKNOWN
            self._held = False

    def listen_on(self) -> None:
        """Take up the command again, which has ended, if more speech comes: its state becomes `SPEAKING`."""
        self.listens_on = True

    def hold(self) -> None:
        """Require the longest silence until `release` or more speech: no answer is ready yet."""
        self._held = True

    def release(self) -> None:
        """Require only the silence that the words ask for: the end may be now."""
        self._held = False
        if self._automatic:
            self._end_if_silent()

    def feed(self, seconds: float, is_speech: bool, *, fades: bool = False, trails: bool = False) -> TurnState:
        """Advance by a window of `seconds` and return the state; ended states are final, except after `listen_on`.

        Speech that `fades`, which has become quiet by loudness alone, counts as silence but does not end a command.
        Silence that `trails` has a soft voice in it: the end of the command's last word, or somebody in the background.
        """
        if self.state in (TurnState.ENDED, TurnState.NO_SPEECH) and not self.listens_on:
            return self.state
        self.seconds += seconds
        self._fades = is_speech and fades and self.state is TurnState.SPEAKING
        if is_speech and not self._fades:
            self._add_speech(seconds)
        else:
            self._speech_in_row = 0.0
            self._silence_in_row += seconds
        # Words that were understood before such an end lack it, so that they must not stand for the command.
        self._trails = trails and self._silence_in_row <= TRAILING_SECONDS
        if self._trails:
            self.last_speech_at = self.seconds
        if self.state is TurnState.WAITING and self._speech_in_row >= _ONSET_SECONDS:
            self.state = TurnState.SPEAKING
            self._speech = _Speech(seconds=self._speech_in_row)  # what was said before the onset does not count
        if self.state is TurnState.ENDED and self._speech_in_row >= _RESUMED_SECONDS:
            self.state = TurnState.SPEAKING
            self.listens_on = False
        return self.decide() if self._automatic else self.state

    def decide(self) -> TurnState:
        """End the command if what was fed so far says so, and return the state."""
        is_silent = not self._speech_in_row
        if self.state is TurnState.WAITING and self.seconds >= self._settings.no_speech_seconds and is_silent:
            self.state = TurnState.NO_SPEECH
        self._end_if_silent()
        if self.state is TurnState.SPEAKING and self.seconds >= self._settings.max_command_seconds:
            self.state = TurnState.ENDED
        return self.state

    def _end_if_silent(self) -> None:
        needed = self._settings.silence_seconds if self._held else self._needed_silence_seconds()
        # A fading voice is silence by loudness alone, which errs in soft speech: only the VAD may end a command.
        if self.state is TurnState.SPEAKING and self._silence_in_row >= needed and not self._fades:
            self.state = TurnState.ENDED

    def _needed_silence_seconds(self) -> float:
        """Return the silence that ends the command, never more than `silence_seconds`.

        The words say most. Without them it is longest at first, since a speaker who has hardly begun will go on; one
        who has paused before will pause as long again.
        """
        settings, speech = self._settings, self._speech
        longest = settings.silence_seconds
        match speech.completeness:
            case Completeness.COMPLETE:
                return min(settings.complete_silence_seconds, longest)
            case Completeness.INCOMPLETE:
                return longest
            case Completeness.SENTENCE:
                needed = min(settings.sentence_silence_seconds, longest)
            case Completeness.UNKNOWN:
                least = min(settings.least_silence_seconds, longest)
                needed = longest - (longest - least) * min(1.0, speech.seconds / _SETTLED_SECONDS)
        if speech.longest_pause_seconds:
            needed = max(needed, min(longest, speech.longest_pause_seconds + _PAUSE_MARGIN_SECONDS))
        return needed

    def _add_speech(self, seconds: float) -> None:
        if self._silence_in_row >= _PAUSE_SECONDS:
            self._speech.longest_pause_seconds = max(self._speech.longest_pause_seconds, self._silence_in_row)
        self._silence_in_row = 0.0
        # The words known so far are no longer all of them, and the speculation that asked for the hold is stale.
        self._speech.completeness = Completeness.UNKNOWN
        self._held = False
        self._speech_in_row += seconds
        self._speech.seconds += seconds
        self.last_speech_at = self.seconds
