"""Hearing: what both servers understand of the same recordings under many conditions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from satellite.audio.corpus import Clip
from satellite.audio.word_errors import WordErrors, normalise, total, word_errors
from satellite_bench import stt
from satellite_bench.conditions import Condition, Recording, recordings, sounds
from satellite_bench.contest import Outcome, Pair, compete
from satellite_bench.server import Server
from satellite_bench.stt import Mismatch, Transcribed

_SHORT = 2 / 3
"""Share of the words said below which a transcript lacks a part."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What one side made of the recordings under one condition."""

    DESCRIBED: ClassVar = ("wer_percent",)

    words: WordErrors = field(repr=False)
    empty: int
    """Recordings with speech of which nothing was heard."""

    short: int
    """Recordings of which something was heard, but fewer than two thirds as many words as were said."""

    invented: int
    """Sounds without speech in which words were heard."""

    @property
    def wer_percent(self) -> float:
        """Word errors in a hundred words, over the recordings with speech."""
        return self.words.percent


@dataclass(frozen=True, slots=True)
class HearingFigures:
    """One condition, both sides."""

    condition: str
    ours: Heard
    theirs: Heard | None
    mismatches: tuple[Mismatch, ...]


@dataclass(frozen=True, slots=True)
class HearingResult:
    """The whole matrix."""

    corpus: str
    spoken: int
    sounds: int
    """Recordings with and without speech under each condition."""

    figures: tuple[HearingFigures, ...]
    failures: tuple[str, ...]


async def measure(
    pair: Pair,
    corpus: str,
    clips: Sequence[Clip],
    conditions: Sequence[Condition],
    on_progress: Callable[[int, int], None],
) -> HearingResult:
    """Let both servers transcribe every clip and every sound without speech under every condition, once."""
    silent = sounds()
    figures: list[HearingFigures] = []
    failures: list[str] = []
    for number, condition in enumerate(conditions):
        on_progress(number, len(conditions))
        items = [*recordings(condition, clips), *recordings(condition, silent)]
        outcome = await compete(pair, items, _transcribe, repeats=1)
        figures.append(_figures(condition, outcome))
        failures += [f"{condition.name}: {failure}" for failure in outcome.failures]
    return HearingResult(corpus, len(clips), len(silent), tuple(figures), tuple(failures))


async def _transcribe(server: Server, recording: Recording) -> Transcribed:
    return await stt.transcribe(server.port, recording.pcm, source=recording.source)


def _figures(condition: Condition, outcome: Outcome[Recording, Transcribed]) -> HearingFigures:
    ours, theirs = _texts(outcome.ours), None if outcome.theirs is None else _texts(outcome.theirs)
    mismatches: list[Mismatch] = []
    for number, (recording, text) in enumerate(ours):
        other = None if theirs is None else theirs[number][1]
        if any(normalise(heard) != normalise(recording.words) for heard in (text, other) if heard is not None):
            mismatches.append(Mismatch(recording.words or f"({recording.name})", text, other))
    return HearingFigures(condition.name, heard(ours), None if theirs is None else heard(theirs), tuple(mismatches))


def _texts(side: Sequence[tuple[Recording, Transcribed | None]]) -> list[tuple[Recording, str]]:
    """Return what was heard of each recording; a request that failed heard nothing."""
    return [(recording, answer.text.strip() if answer else "") for recording, answer in side]


def heard(texts: Sequence[tuple[Recording, str]]) -> Heard:
    """Return the figures of one side's transcripts."""
    counts = [(len(normalise(recording.words)), len(normalise(text))) for recording, text in texts]
    return Heard(
        words=total(word_errors(recording.words, text) for recording, text in texts if recording.words),
        empty=sum(said > 0 and found == 0 for said, found in counts),
        short=sum(0 < found < said * _SHORT for said, found in counts),
        invented=sum(said == 0 and found > 0 for said, found in counts),
    )
