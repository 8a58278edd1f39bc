"""The settings of where a voice command begins and ends."""

from pydantic import Field

from satellite.config.base import Seconds, Settings


class EndpointSettings(Settings):
    """When a voice command begins and ends."""

    silence_seconds: float = Field(1.1, ge=0.1, le=5)
    """Silence that ends an apparently unfinished command, and the longest pause allowed in any, in seconds."""

    least_silence_seconds: float = Field(0.5, ge=0.1, le=5)
    """Silence that ends a command longer than a second that is not transcribed yet, in seconds."""

    sentence_silence_seconds: float = Field(0.6, ge=0.1, le=5)
    """Silence that ends a sentence that may continue ("turn on the lights" ... "in the kitchen"), in seconds."""

    repairable_silence_seconds: float = Field(0.4, ge=0.1, le=5)
    """The same where the command is taken up again if the speaker goes on (`repair_seconds`), in seconds.

    A shorter time answers sooner, and more often begins an answer that is silenced again."""

    complete_silence_seconds: float = Field(0.3, ge=0.1, le=5)
    """Silence that ends an apparently complete command, in seconds, once the answer's first sound is ready.

    Until then `silence_seconds` applies. A client's vad_sensitivity scales all five.
    """

    provisional_silence_seconds: float = Field(0.06, ge=0.03, le=5)
    """Silence after which an answer is prepared speculatively, in seconds; it is held until the command ends."""

    repair_seconds: float = Field(1.5, ge=0, le=5)
    """Time after the last of the speech in which a command is taken up again if the speaker goes on, in seconds.

    The answer is silenced, and all that was said is answered as one; 0 turns it off. Only where the microphone is still
    heard after the command: satellites that stream, the host's own room, and `/ws`.
    """

    act_seconds: float = Field(0.9, ge=0, le=5)
    """Time after the last of the speech before timers and Home Assistant act on a sentence that may go on, in seconds.

    A longer time acts less often on half a command: nothing is undone. Complete commands do not wait for it."""

    no_speech_seconds: Seconds = 5.0
    """Time without speech after which the run ends, in seconds."""

    max_command_seconds: Seconds = 15.0
    """Longest command, in seconds."""
