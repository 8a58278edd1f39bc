"""The request for a run, and the sound of its answer."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from satellite.audio.pcm import AudioFormat
from satellite.engines.protocols import VoiceChoice
from satellite.errors import SatelliteError, Stage
from satellite.events import RunEvent, RunIdentity, new_run_id

_LOGGER = logging.getLogger(__name__)

_LEVELS = {
    "wake-not-detected": logging.DEBUG,
    "stt-no-speech": logging.INFO,
    "stt-no-text-recognized": logging.INFO,
}
"""Levels of the log where nothing is wrong: people speak without meaning the daemon."""

_ORDER = (Stage.WAKE, Stage.STT, Stage.CHAT, Stage.TTS)


@dataclass(frozen=True, slots=True)
class Speech:
    """Some of the answer's sound."""

    format: AudioFormat
    pcm: bytes

    @property
    def seconds(self) -> float:
        """Its duration."""
        return len(self.pcm) / (self.format.rate * self.format.frame_bytes)


Emit = Callable[[RunEvent | Speech], Awaitable[None]]
"""Takes the steps of a run and the sound of its answer, in order."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What a run does, and for whom."""

    room: str
    """The room or client of the run, in events and logs."""

    conversation: str | None = None
    """The conversation that it continues; None for the room's own."""

    named_room: str | None = None
    """The room's name as people use it, for the chat model."""

    start: Stage = Stage.WAKE
    end: Stage = Stage.TTS
    wake_words: tuple[str, ...] | None = None
    """Words to listen for; None for the configured ones."""

    text: str = ""
    """The voice command when the run starts at chat, the words to speak when it starts at tts."""

    language: str | None = None
    persona: str | None = None
    """System prompt of this run; None for the usual one."""

    no_speech_seconds: float | None = None
    """How long to wait for speech; None for the configured time."""

    voice: VoiceChoice = field(default_factory=VoiceChoice)
    after_wake_word: bool = False
    """Whether the audio of a run that starts at stt begins with the end of a wake word."""

    vad_sensitivity: str | None = None
    listens_on: bool = False
    """Whether the microphone is heard after the end of the command, so that the speaker may go on."""

    hears_itself: bool | None = False
    """Whether the microphone hears the answer, so that a voice may be the answer's once that sounds.

    None where earlier answers have shown that it does not, but somebody may have turned up the speaker since.
    """

    run_id: str = field(default_factory=new_run_id)

    @property
    def identity(self) -> RunIdentity:
        """The run, as its events name it."""
        return RunIdentity(self.run_id, self.room)

    def log(self, error: SatelliteError, stage: Stage) -> None:
        """Log a failure of the run."""
        level = _LEVELS.get(error.code, logging.WARNING)
        fields = {"run": self.run_id, "room": self.room, "stage": stage.value, "code": error.code}
        _LOGGER.log(level, "run %s in %s: [%s] %s", self.run_id, self.room, error.code, error, extra=fields)

    def includes(self, stage: Stage) -> bool:
        """Return whether `stage` lies between the start and the end."""
        return _ORDER.index(self.start) <= _ORDER.index(stage) <= _ORDER.index(self.end)
