"""The end of a command: how often it comes too early, and how long after the last of the speech it comes.

Nothing is played: the detectors of speech see every recording at once, and all times are those of the audio. What
computing and the network take comes on top, for all alike; only the words of a pause are known as late as here.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from satellite.audio.corpus import Corpus
from satellite.audio.pcm import BYTES_PER_SECOND, RATE
from satellite.config.settings import EndpointSettings, SttSettings
from satellite.engines.stt.whisper import WhisperTranscriber
from satellite.engines.vad import SileroVad
from satellite.engines.worker import Worker
from satellite.errors import Stage
from satellite.models.spec import ModelSpec
from satellite.pipeline.completeness import Completeness, completeness
from satellite.pipeline.pause_detector import PauseDetector
from satellite.pipeline.turn_detection import TurnDetector, TurnState
from satellite.skills.grammar import Grammar
from satellite_bench import microvad
from satellite_bench.splicing import Spliced, Words, spliced
from satellite_bench.stats import Summary, as_json, summarise

OURS = "satellite"

_SEED = 20_26
_THRESHOLD = 0.5
"""Of speech, the configuration's default."""

_SENTENCES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Silence in seconds after a sentence that may go on: a curve, with the configuration's default on it."""

_FIXED = (0.3, 0.5, 0.7, 0.9)
"""The same whatever is said, and however."""

NATURAL_PAUSES = {300: 7.3, 500: 2.6, 800: 1.5}
"""In how many of a hundred orders the longest pause has at least so many milliseconds, by loudness.

Counted in 619 spontaneous orders by more than fifty people (Picovoice/speech-to-intent-benchmark, Apache-2.0).
"""

Understand = Callable[[bytes, Sequence[float]], Awaitable[Completeness]]
"""Tells of canonical PCM and its probabilities of speech what the words say of the end."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What the VAD hears in a recording, and what the words are worth at each pause."""

    window_seconds: float
    windows: Sequence[tuple[float, bool]]
    """The probability of speech in each, and whether a pause has just begun by loudness."""

    words: Mapping[int, Completeness]
    """By the window at which the pause was taken for the end."""

    words_seconds: float = 0.0
    """How much later they are known."""


@dataclass(frozen=True, slots=True)
class Found:
    """Where one way to find it sees the end of one recording."""

    recording: Spliced
    seconds: float | None
    """None where it never does, such as where it detected no speech."""

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
    found: tuple[Found, ...] = field(repr=False)
    default: bool = False

    def cut(self, *pauses: tuple[int, ...]) -> tuple[int, int]:
        """Return how many of the recordings with such pauses were cut, and how many there are."""
        those = [found for found in self.found if found.recording.pauses_ms in pauses]
        return sum(found.cut for found in those), len(those)

    def cut_percent(self, *pauses: tuple[int, ...]) -> float:
        """Return the same in a hundred."""
        cut, of = self.cut(*pauses)
        return 100 * cut / of if of else 0.0

    def weighted_percent(self) -> float:
        """Return how many of a hundred commands are cut, where pauses are as frequent as people make them.

        A pause counts as the longest spliced one that it is not shorter than.
        """
        kinds: list[tuple[int, ...]] = [(), *((length,) for length in NATURAL_PAUSES)]
        shares = [100.0, *NATURAL_PAUSES.values(), 0.0]
        weights = [share - longer for share, longer in pairwise(shares)]
        return sum(weight * self.cut_percent(kind) / 100 for kind, weight in zip(kinds, weights, strict=True))

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
            "cut_weighted_percent": round(self.weighted_percent(), 2),
            "lost_ms": as_json(lost),
        }


@dataclass(slots=True)
class EndpointResult:
    """All ways to find the end, over the same recordings."""

    corpus: str
    clips: int
    figures: list[EndpointFigures] = field(default_factory=list)


def kinds_of(found: Iterable[Found]) -> list[tuple[int, ...]]:
    """Return the kinds of pauses that there are, none first."""
    return sorted({one.recording.pauses_ms for one in found}, key=lambda pauses: (len(pauses), pauses))


def label(pauses_ms: Sequence[int]) -> str:
    """Return what such pauses are called in tables."""
    return " + ".join(f"{length} ms" for length in pauses_ms) or "none"


async def measure(
    corpus: Corpus,
    words: Words,
    understand: Understand,
    rival: Path | None,
    *,
    on_progress: Callable[[str], None],
) -> EndpointResult:
    """Find the ends; `rival` is a Python that has microVAD, None leaves Home Assistant's way out."""
    chance = np.random.default_rng(_SEED)
    recordings: list[Spliced] = []
    for number, clip in enumerate(corpus.clips, 1):
        on_progress(f"words of {number} of {len(corpus.clips)} clips")
        recordings += await asyncio.to_thread(spliced, clip, words, chance)
    ours = await _heard(recordings, understand, on_progress)
    result = EndpointResult(corpus.name, len(corpus.clips))
    default = EndpointSettings()
    for seconds in _SENTENCES:
        settings = default.model_copy(update={"sentence_silence_seconds": seconds})
        name = f"by the words, {seconds:g} s after a sentence"
        result.figures.append(_ours(recordings, ours, name, settings, default=settings == default))
    deaf = [replace(heard, words={}) for heard in ours]
    result.figures.append(_ours(recordings, deaf, "without the words", default))
    for seconds in _FIXED:
        settings = default.model_copy(update={"silence_seconds": seconds, "least_silence_seconds": seconds})
        result.figures.append(_ours(recordings, deaf, f"always {seconds:g} s", settings))
    if rival is not None:
        on_progress("detecting speech with microVAD")
        theirs = await asyncio.to_thread(microvad.probabilities, rival, [one.pcm for one in recordings])
        for name, silence in microvad.SILENCES.items():
            ends = [microvad.ends_at(speech, silence) for speech in theirs]
            found = tuple(map(Found, recordings, ends))
            setting = f"{name}, {silence:g} s"
            result.figures.append(EndpointFigures(microvad.NAME, setting, found, default=name == "default"))
    return result


async def _heard(
    recordings: Sequence[Spliced], understand: Understand, on_progress: Callable[[str], None]
) -> list[Heard]:
    """Return what our own detector hears in each recording, and the words at its pauses, as a run asks for them."""
    worker = Worker(Stage.STT, name="vad")
    heard: list[Heard] = []
    took: list[float] = []
    try:
        vad = SileroVad(worker)
        await worker.run(vad.load)
        for number, one in enumerate(recordings, 1):
            on_progress(f"words at pauses, {number} of {len(recordings)} recordings")
            speech = await vad.stream().feed(one.pcm)
            words: dict[int, Completeness] = {}
            windows = list(zip(speech, _quiet(one.pcm, vad.window_seconds, len(speech)), strict=True))
            for window in _pauses(vad.window_seconds, windows):
                began = time.monotonic()
                pcm = one.pcm[: 2 * int((window + 1) * vad.window_seconds * RATE)]
                words[window] = await understand(pcm, speech[: window + 1])
                took.append(time.monotonic() - began)
            heard.append(Heard(vad.window_seconds, windows, words))
    finally:
        worker.close()
    return [replace(one, words_seconds=median(took) if took else 0.0) for one in heard]


def _quiet(pcm: bytes, window_seconds: float, windows: int) -> list[bool]:
    quiet, size = PauseDetector(), int(window_seconds * BYTES_PER_SECOND)
    found: list[bool] = []
    for window in range(windows):
        quiet.feed(pcm[window * size :][:size])
        found.append(quiet.paused)
    return found


def _pauses(window_seconds: float, windows: Sequence[tuple[float, bool]]) -> list[int]:
    """Return the windows at which a run begins to guess: each pause once, as far as the command can go on."""
    endless = EndpointSettings().model_copy(update={"max_command_seconds": math.inf})
    endpoint = TurnDetector(endless)
    endpoint.set_completeness(Completeness.INCOMPLETE)
    found: list[int] = []
    last_speech_at = -1.0
    for window, (probability, fades) in enumerate(windows):
        if endpoint.feed(window_seconds, probability >= _THRESHOLD, fades=fades) is TurnState.ENDED:
            break
        endpoint.set_completeness(Completeness.INCOMPLETE)
        if endpoint.pauses and endpoint.last_speech_at != last_speech_at:
            last_speech_at = endpoint.last_speech_at
            found.append(window)
    return found


def _ours(
    recordings: Sequence[Spliced],
    heard: Sequence[Heard],
    name: str,
    settings: EndpointSettings,
    *,
    default: bool = False,
) -> EndpointFigures:
    ends = [ends_at(TurnDetector(settings), one) for one in heard]
    return EndpointFigures(OURS, name, tuple(map(Found, recordings, ends)), default)


def ends_at(endpoint: TurnDetector, heard: Heard) -> float | None:
    """Return where `endpoint` ends the command, seconds; None when it does not."""
    late = math.ceil(heard.words_seconds / heard.window_seconds)
    known = {window + late: (window, words) for window, words in heard.words.items()}
    last_speech = -1
    for window, (probability, fades) in enumerate(heard.windows):
        is_speech = probability >= _THRESHOLD
        state = endpoint.feed(heard.window_seconds, is_speech, fades=fades)
        if endpoint.last_speech_at == endpoint.seconds:
            last_speech = window
        asked, words = known.get(window, (-1, Completeness.UNKNOWN))
        if asked > last_speech:
            endpoint.set_completeness(words)
            state = endpoint.state
        match state:
            case TurnState.ENDED:
                return endpoint.seconds
            case TurnState.NO_SPEECH:
                return None
    return None


def our_understanding(folder: Path, spec: ModelSpec, threads: int) -> Understand:
    """Return what asks our own speech to text, and the grammar of commands. Blocks while it loads."""
    worker = Worker(Stage.STT)
    transcriber = WhisperTranscriber(
        SttSettings(threads=threads), worker, languages=spec.languages, window_floor_seconds=spec.window_floor_seconds
    )
    transcriber.load(folder)
    grammar = Grammar("en")

    async def understand(pcm: bytes, speech: Sequence[float]) -> Completeness:
        text = (await transcriber.transcribe(pcm, speech=speech)).text
        command = await asyncio.to_thread(grammar.understand, text)
        return completeness(text, "en", is_command=command is not None and command.is_closed)

    return understand
