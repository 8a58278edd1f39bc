"""The end of a command: how often it comes too early, and how long after the last of the speech it comes.

Nothing is played: the detectors of speech see every recording at once, and all times are those of the audio. What
computing and the network take comes on top, for all alike.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from satellite.audio import to_float
from satellite.bench import microvad
from satellite.bench.corpus import Corpus
from satellite.bench.splicing import Spliced, WordStarts, spliced
from satellite.bench.stats import Summary, summarise
from satellite.config import Endpoint as EndpointConfig
from satellite.engines.vad import SileroVad
from satellite.engines.worker import Worker
from satellite.errors import SatelliteError, Stage
from satellite.turn.endpoint import Endpoint, EndpointSettings, EndpointState

OURS = "satellite"

_SEED = 20_26
_THRESHOLD = 0.5
"""Of speech, the configuration's default."""

_ADAPTIVE = ((0.5, 0.3), (0.7, 0.4), (0.9, 0.5), (1.1, 0.6), (1.3, 0.7))
"""Silence in seconds that is needed at first and at least: a curve, the configuration's default on it."""

_FIXED = (0.3, 0.5, 0.6, 0.7, 0.9)
"""The same without adapting to anything."""


@dataclass(frozen=True, slots=True)
class Found:
    """Where one way to find it sees the end of one recording."""

    recording: Spliced
    seconds: float | None
    """None where it never does, such as when it heard nobody speak."""

    @property
    def cut(self) -> bool:
        """Whether it was too early, or nothing was heard at all."""
        return self.seconds is None or self.seconds < self.recording.speech_end_seconds

    @property
    def lost_ms(self) -> float:
        """How long after the last of the speech it was."""
        assert self.seconds is not None
        return (self.seconds - self.recording.speech_end_seconds) * 1000


@dataclass(frozen=True, slots=True)
class EndpointFigures:
    """One way to find the end, over all recordings."""

    finder: str
    """`satellite` or `Home Assistant`."""

    setting: str
    found: tuple[Found, ...]
    default: bool = False

    def cut(self, *pauses: tuple[int, ...]) -> tuple[int, int]:
        """Return how many of the recordings with such pauses were cut, and how many there are."""
        those = [found for found in self.found if found.recording.pauses_ms in pauses]
        return sum(found.cut for found in those), len(those)

    def cut_percent(self, *pauses: tuple[int, ...]) -> float:
        """Return the same in a hundred."""
        cut, of = self.cut(*pauses)
        return 100 * cut / of if of else 0.0

    def lost_ms(self, *pauses: tuple[int, ...]) -> Summary | None:
        """Return the time lost in those that were not cut; None where all were."""
        lost = [found.lost_ms for found in self.found if found.recording.pauses_ms in pauses and not found.cut]
        return summarise(lost) if lost else None

    def described(self) -> dict[str, Any]:
        """Return it for JSON."""
        kinds = kinds_of(self.found)
        lost = {label(kind): self.lost_ms(kind) for kind in kinds}
        return {
            "finder": self.finder,
            "setting": self.setting,
            "default": self.default,
            "cut": {label(kind): dict(zip(("cut", "of"), self.cut(kind), strict=True)) for kind in kinds},
            "lost_ms": {name: summary.described() if summary else None for name, summary in lost.items()},
        }


@dataclass(slots=True)
class EndpointResult:
    """All ways to find the end, over the same recordings."""

    corpus: str
    clips: int
    figures: list[EndpointFigures] = field(default_factory=list)

    def described(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "corpus": self.corpus,
            "clips": self.clips,
            "figures": [figures.described() for figures in self.figures],
        }


def kinds_of(found: Iterable[Found]) -> list[tuple[int, ...]]:
    """Return the kinds of pauses that there are, none first."""
    return sorted({one.recording.pauses_ms for one in found}, key=lambda pauses: (len(pauses), pauses))


def label(pauses_ms: Sequence[int]) -> str:
    """Return what such pauses are called in tables."""
    return " + ".join(f"{length} ms" for length in pauses_ms) or "none"


async def measure(
    corpus: Corpus, word_starts: WordStarts, rival: Path | None, *, on_progress: Callable[[str], None]
) -> EndpointResult:
    """Find the ends; `rival` is a Python that has microVAD, None leaves Home Assistant's way out."""
    import asyncio

    chance = np.random.default_rng(_SEED)
    recordings: list[Spliced] = []
    for number, clip in enumerate(corpus.clips, 1):
        on_progress(f"words of {number} of {len(corpus.clips)} clips")
        recordings += await asyncio.to_thread(spliced, clip, word_starts, chance)
    on_progress("detecting speech")
    ours = await _speech(recordings)
    result = EndpointResult(corpus.name, len(corpus.clips))
    default = EndpointConfig()
    for first, least in _ADAPTIVE:
        is_default = (first, least) == (default.silence_seconds, default.least_silence_seconds)
        result.figures.append(_ours(recordings, ours, first, least, default=is_default))
    result.figures += [_ours(recordings, ours, silence, silence) for silence in _FIXED]
    if rival is not None:
        on_progress("detecting speech with microVAD")
        theirs = await asyncio.to_thread(microvad.probabilities, rival, [one.pcm for one in recordings])
        for name, silence in microvad.SILENCES.items():
            ends = [microvad.ends_at(speech, silence) for speech in theirs]
            found = tuple(map(Found, recordings, ends))
            setting = f"{name}, {silence:g} s"
            result.figures.append(EndpointFigures(microvad.NAME, setting, found, default=name == "default"))
    return result


async def _speech(recordings: Sequence[Spliced]) -> list[tuple[float, list[float]]]:
    """Return the length of a window and the probability of speech in each, by our own detector."""
    worker = Worker(Stage.STT, name="vad")
    try:
        vad = SileroVad(worker)
        await worker.run(vad.load)
        return [(vad.window_seconds, await vad.stream().feed(one.pcm)) for one in recordings]
    finally:
        worker.close()


def _ours(
    recordings: Sequence[Spliced],
    speech: Sequence[tuple[float, list[float]]],
    first: float,
    least: float,
    *,
    default: bool = False,
) -> EndpointFigures:
    settings = EndpointSettings(silence_seconds=first, least_silence_seconds=least)
    ends = [ends_at(Endpoint(settings), window_seconds, windows) for window_seconds, windows in speech]
    setting = f"{first:g} s at first, {least:g} s at least" if first != least else f"always {first:g} s"
    return EndpointFigures(OURS, setting, tuple(map(Found, recordings, ends)), default)


def ends_at(endpoint: Endpoint, window_seconds: float, speech: Iterable[float]) -> float | None:
    """Return where `endpoint` ends the command, seconds; None when it does not."""
    for probability in speech:
        match endpoint.feed(window_seconds, probability >= _THRESHOLD):
            case EndpointState.ENDED:
                return endpoint.seconds
            case EndpointState.NO_SPEECH:
                return None
    return None


def whisper_word_starts(model: Path, threads: int) -> WordStarts:
    """Return what finds the words of a recording: Whisper, by its attention. Blocks while it loads."""
    from faster_whisper import WhisperModel

    try:
        whisper = WhisperModel(str(model), device="cpu", compute_type="int8", cpu_threads=threads)
    except (OSError, RuntimeError, ValueError) as error:
        raise SatelliteError(f"{model} cannot be loaded: {error}", code="bench-words") from error

    def find(pcm: bytes) -> list[float]:
        segments, _ = whisper.transcribe(to_float(pcm), beam_size=1, temperature=0.0, word_timestamps=True)
        return [float(word.start) for segment in segments for word in segment.words or ()]

    return find
