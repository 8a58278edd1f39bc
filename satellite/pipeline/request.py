"""What a run is asked for, and the sound that it gives."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from satellite.audio.pcm import AudioFormat
from satellite.engines.protocols import VoiceChoice
from satellite.errors import Stage
from satellite.events import RunEvent, RunIdentity, new_run_id

_ORDER = (Stage.WAKE, Stage.STT, Stage.CHAT, Stage.TTS)


@dataclass(frozen=True, slots=True)
class Speech:
    """Some of the answer's sound."""

    format: AudioFormat
    pcm: bytes

    @property
    def seconds(self) -> float:
        """How long it is heard."""
        return len(self.pcm) / (self.format.rate * self.format.frame_bytes)


Emit = Callable[[RunEvent | Speech], Awaitable[None]]
"""Takes the steps of a run and the sound of its answer, in order."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What a run shall do."""

    room: str
    """Who the run is for, in events and logs."""

    conversation: str | None = None
    """The conversation that it goes on with; None for the room's own."""

    named_room: str | None = None
    """The room as a person calls it, which the chat model is told."""

    start: Stage = Stage.WAKE
    end: Stage = Stage.TTS
    wake_words: tuple[str, ...] | None = None
    """Words to listen for; None for the configured ones."""

    text: str = ""
    """The voice command when the run starts at chat, the words to speak when it starts at tts."""

    language: str | None = None
    persona: str | None = None
    """What the chat model is told first; None for the usual system prompt."""

    no_speech_seconds: float | None = None
    """How long to wait for somebody to speak; None for the configured time."""

    voice: VoiceChoice = field(default_factory=VoiceChoice)
    after_wake_word: bool = False
    """Whether the audio of a run that starts at stt begins with the end of a wake word."""

    vad_sensitivity: str | None = None
    run_id: str = field(default_factory=new_run_id)

    @property
    def identity(self) -> RunIdentity:
        """What its events carry."""
        return RunIdentity(self.run_id, self.room)

    def includes(self, stage: Stage) -> bool:
        """Return whether `stage` lies between the start and the end."""
        return _ORDER.index(self.start) <= _ORDER.index(stage) <= _ORDER.index(self.end)
