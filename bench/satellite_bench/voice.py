"""Voice to voice: from the last of the speech to the first sound of the answer, the endpoint included.

A time is in milliseconds after the end of the speech as the recording has it (`splicing.speech_bounds`: loudness
alone, without a voice activity detector), on the clock of the microphone. The first sound is the first sample above
-40 dBFS, played as it comes: silence at the beginning of the sound takes its time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from satellite_bench.endpoint import IN_TIME_MS
from satellite_bench.splicing import PAUSES_MS, Spliced
from satellite_bench.stats import Summary, summarise
from satellite_bench.tts import Playback

OURS = "satellite"
THEIRS = "rival"


@dataclass(frozen=True, slots=True)
class Turn:
    """One voice command and its answer; what never came is None."""

    recording: Spliced
    endpoint_ms: float | None = None
    """When the command was taken for complete; below 0 during the speech."""

    transcript_ms: float | None = None
    answer_ms: float | None = None
    """When the whole answer was there as text; None too where its sound began before that."""

    first_audio_ms: float | None = None
    """When the first of the sound came, however quiet."""

    first_sound_ms: float | None = None
    words: str = ""
    """What was understood."""

    error: str = ""

    @property
    def cut(self) -> bool:
        """Whether it was taken for complete before the last of the speech, or nothing was heard at all."""
        return self.endpoint_ms is None or self.endpoint_ms < 0

    @property
    def complete(self) -> bool:
        """Whether it was heard to its end and answered."""
        return not self.cut and self.first_sound_ms is not None

    @property
    def after_commit_ms(self) -> float | None:
        """From the end of the command to the first of the sound: the work that was left."""
        if self.endpoint_ms is None or self.first_audio_ms is None:
            return None
        return self.first_audio_ms - self.endpoint_ms


Moments = tuple[float | None, float | None, float | None]
"""When the end of the command, the transcript and the answer came, in seconds of a clock."""


def turn_of(
    recording: Spliced, spoken_ms: float, moments: Moments, playback: Playback, *, words: str, error: str
) -> Turn:
    """Return the turn of a recording whose speech ended at `spoken_ms` of the clock of `moments` and `playback`."""
    in_ms = (None if at is None else 1000 * at for at in moments)
    times = (*in_ms, playback.first_audio_ms, playback.first_audible_ms)
    endpoint, transcript, answer, audio, sound = (None if at is None else at - spoken_ms for at in times)
    return Turn(recording, endpoint, transcript, answer, audio, sound, words, error)


@dataclass(slots=True)
class VoiceFigures:
    """One side, over all recordings."""

    turns: list[Turn] = field(default_factory=list)
    """Of the recordings as they are."""

    spliced: dict[int, list[bool]] = field(default_factory=lambda: {length: [] for length in PAUSES_MS})
    """Of those with a pause of so many milliseconds: whether each was cut."""

    questions: int = 0
    """Calls of the chat model with a question in them, over `turns`."""

    @property
    def voice_ms(self) -> Summary | None:
        """Voice to voice, of the commands that are complete."""
        return self._summary(lambda turn: turn.first_sound_ms)

    @property
    def after_commit_ms(self) -> Summary | None:
        """The work left after the end of the command, of those that are complete."""
        return self._summary(lambda turn: turn.after_commit_ms)

    @property
    def median_turn(self) -> Turn | None:
        """The complete command in the middle, the faster of two."""
        ordered = sorted(self._complete, key=lambda turn: turn.first_sound_ms or 0.0)
        return ordered[(len(ordered) - 1) // 2] if ordered else None

    @property
    def cut_rate(self) -> float | None:
        """Share of the recordings as they are that were cut."""
        return _share([turn.cut for turn in self.turns])

    @property
    def calls_per_command(self) -> float | None:
        """Calls of the chat model with a question in them, over the commands."""
        return self.questions / len(self.turns) if self.turns else None

    def spliced_rate(self, length_ms: int) -> float | None:
        """Return the share of the recordings with such a pause that were cut."""
        return _share(self.spliced[length_ms])

    def stage_ms(self, stage: str) -> Summary | None:
        """Return when a stage was over, such as `endpoint`, in the commands that are complete."""
        return self._summary(lambda turn: getattr(turn, f"{stage}_ms"))

    @property
    def _complete(self) -> list[Turn]:
        return [turn for turn in self.turns if turn.complete]

    def _summary(self, figure: Callable[[Turn], float | None]) -> Summary | None:
        values = [value for turn in self._complete if (value := figure(turn)) is not None]
        return summarise(values) if values else None

    def described(self) -> dict[str, Any]:
        """Return them for JSON: times in ms, rates from 0 to 1."""
        voice, left = self.voice_ms, self.after_commit_ms
        stages = {name: self.stage_ms(name) for name in ("endpoint", "transcript", "answer", "first_audio")}
        return {
            "n": len(self.turns),
            "complete": len(self._complete),
            "p50_ms": _median(voice),
            "p95_ms": _rounded(voice.p95 if voice else None),
            "max_ms": _rounded(voice.max if voice else None),
            "false_cutoff_rate": _rounded(self.cut_rate, 4),
            "false_cutoff_rate_spliced": {
                str(length): _rounded(self.spliced_rate(length), 4) for length in self.spliced
            },
            "spliced": {str(length): {"cut": sum(cut), "of": len(cut)} for length, cut in self.spliced.items()},
            "work_after_commit_p50_ms": _median(left),
            "model_calls_per_command": _rounded(self.calls_per_command, 3),
            **{f"{name}_p50_ms": _median(summary) for name, summary in stages.items()},
            "unanswered": [
                {"recording": turn.recording.name, "words": turn.words, "error": turn.error}
                for turn in self.turns
                if turn.first_sound_ms is None
            ],
        }


@dataclass(frozen=True, slots=True)
class Streamed:
    """A command that was heard on after its end."""

    turn: Turn
    """By the last end."""

    withdrawn: int = 0
    """How many answers were withdrawn before that."""

    stuttered: bool = False
    """Whether one of them was heard."""

    @property
    def in_time(self) -> bool:
        """Whether it was heard to its end, and ended soon after that."""
        return not self.turn.cut and (self.turn.endpoint_ms or 0.0) <= IN_TIME_MS


@dataclass(slots=True)
class StreamingFigures:
    """What was found in a room that streams."""

    plain: list[Streamed] = field(default_factory=list)
    paused: list[Streamed] = field(default_factory=list)
    television: list[Streamed] = field(default_factory=list)

    @property
    def times(self) -> VoiceFigures:
        """The times of the recordings as they are."""
        return VoiceFigures([one.turn for one in self.plain])

    def described(self) -> dict[str, Any]:
        """Return it for JSON."""
        voice = self.times.voice_ms
        return {
            "p50_ms": voice and round(voice.median, 1),
            "p95_ms": voice and round(voice.p95, 1),
            "paused": {"as_one": sum(not one.turn.cut for one in self.paused), "of": len(self.paused)},
            "withdrawn": sum(one.withdrawn > 0 for one in self.paused),
            "stuttered": sum(one.stuttered for one in self.paused),
            "television": {"in_time": sum(one.in_time for one in self.television), "of": len(self.television)},
        }


@dataclass(slots=True)
class VoiceResult:
    """Both sides, over the same recordings."""

    corpus: str
    ours: VoiceFigures = field(default_factory=VoiceFigures)
    theirs: VoiceFigures | None = None
    streaming: StreamingFigures | None = None
    """Ours through a room that streams."""

    failures: list[str] = field(default_factory=list)
    """Why not everything could be measured."""

    @property
    def sides(self) -> Sequence[tuple[str, VoiceFigures]]:
        """Those that took part, ours first."""
        return [(OURS, self.ours), *([(THEIRS, self.theirs)] if self.theirs else [])]

    def described(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            OURS: self.ours.described(),
            THEIRS: self.theirs.described() if self.theirs else None,
            "streaming": self.streaming.described() if self.streaming else None,
            "corpus": self.corpus,
            "failures": self.failures,
        }


def _share(cut: Sequence[bool]) -> float | None:
    return sum(cut) / len(cut) if cut else None


def _median(summary: Summary | None) -> float | None:
    return _rounded(summary.median if summary else None)


def _rounded(value: float | None, places: int = 1) -> float | None:
    return None if value is None else round(value, places)
