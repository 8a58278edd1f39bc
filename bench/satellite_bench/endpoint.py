"""The end of a command: how often it comes too early, and how long after the last of the speech it comes.

Nothing is played: the detectors of speech see every recording at once, and all times are those of the audio. What
computing and the network take comes on top, for all alike; only the words of a pause are known as late as here, and
our end waits for an answer that has its first sound so long after the pause as is said (`ANSWER_SECONDS`).
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from satellite.audio.corpus import Corpus
from satellite.audio.pcm import BYTES_PER_SECOND, RATE
from satellite.config.endpoint import EndpointSettings
from satellite.config.settings import SttSettings
from satellite.engines.stt.whisper import WhisperTranscriber
from satellite.engines.vad import SileroVad
from satellite.engines.worker import Worker
from satellite.errors import Stage
from satellite.models.spec import ModelSpec
from satellite.pipeline.completeness import Completeness, completeness
from satellite.pipeline.recording import CommandRecording
from satellite.pipeline.turn_detection import TurnDetector, TurnState, repairable
from satellite.skills.grammar import Grammar
from satellite_bench import microvad
from satellite_bench.conditions import speech_level
from satellite_bench.splicing import Spliced, Words, speech_bounds, spliced
from satellite_bench.stats import Summary, as_json, summarise

OURS = "satellite"

_SEED = 20_26
_THRESHOLD = 0.5
"""Of speech, the configuration's default."""

_SENTENCES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.9)
"""Silence in seconds after a sentence that may go on: a curve, with the configuration's default on it."""

_REPAIRABLE = (0.2, 0.3, 0.4, 0.5)
"""The same where the command is taken up again if more speech comes."""

_FIXED = (0.3, 0.5, 0.7, 0.9)
"""The same whatever is said, and however."""

_LONGEST_SECONDS = 60.0

NATURAL_PAUSES = {300: 7.3, 500: 2.6, 800: 1.5, 1000: 0.8}
"""In how many of a hundred orders the longest pause has at least so many milliseconds, by loudness.

Counted in 619 spontaneous orders by more than fifty people (Picovoice/speech-to-intent-benchmark, Apache-2.0).
"""

BACKGROUND_DB = 10.0
"""How much softer than the speaker a television is."""

IN_TIME_MS = 1500.0
"""How soon a command ends although a television speaks on."""

ANSWER_SECONDS = 0.55
"""How long after the beginning of a pause an answer has its first sound, unless it is said."""

Understand = Callable[[bytes, Sequence[float]], Awaitable[Completeness]]
"""Tells of canonical PCM and its probabilities of speech what the words say of the end."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What the turn detector is given of a recording, and what the words are worth at each pause."""

    window_seconds: float
    windows: Sequence[tuple[bool, bool, bool]]
    """Whether somebody speaks in each, whether the voice fades, and whether it trails off."""

    words: Mapping[int, Completeness]
    """By the window at which the pause was taken for the end."""

    words_seconds: float = 0.0
    """How much later they are known."""

    answer_seconds: float = 0.0
    """How much later than the pause the answer has its first sound, for which the end waits."""


@dataclass(frozen=True, slots=True)
class Found:
    """Where one way to find it sees the end of one recording."""

    recording: Spliced
    seconds: float | None
    """None where it never does, such as where it detected no speech."""

    withdrawn: int = 0
    """How many earlier ends were taken back, since the speaker went on."""

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
    repairs: bool = False
    """Whether a command is taken up again if its speaker goes on."""

    def cut(self, *pauses: tuple[int, ...]) -> tuple[int, int]:
        """Return how many of the recordings with such pauses were cut, and how many there are."""
        those = [found for found in self.found if found.recording.pauses_ms in pauses]
        return sum(found.cut for found in those), len(those)

    def cut_percent(self, *pauses: tuple[int, ...]) -> float:
        """Return the same in a hundred."""
        cut, of = self.cut(*pauses)
        return 100 * cut / of if of else 0.0

    def cut_weighted_percent(self) -> float:
        """Return how many of a hundred commands are cut, where pauses are as frequent as people make them."""
        return self._weighted_percent(lambda found: found.cut)

    def withdrawn_weighted_percent(self) -> float:
        """Return in how many of a hundred an answer is begun and silenced again."""
        return self._weighted_percent(lambda found: found.withdrawn > 0)

    @property
    def in_time(self) -> int:
        """How many were heard to their end, and ended soon after it."""
        return sum(not found.cut and found.lost_ms <= IN_TIME_MS for found in self.found)

    def _weighted_percent(self, counts: Callable[[Found], bool]) -> float:
        """Return the share that counts; a pause is taken for the longest spliced one that it is not shorter than."""
        kinds: list[tuple[int, ...]] = [(), *((length,) for length in NATURAL_PAUSES)]
        shares = [100.0, *NATURAL_PAUSES.values(), 0.0]
        weights = [share - longer for share, longer in pairwise(shares)]
        total = 0.0
        for kind, weight in zip(kinds, weights, strict=True):
            those = [found for found in self.found if found.recording.pauses_ms == kind]
            total += weight * sum(map(counts, those)) / max(1, len(those))
        return total

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
            "repairs": self.repairs,
            "cut": {label(kind): dict(zip(("cut", "of"), self.cut(kind), strict=True)) for kind in kinds},
            "cut_weighted_percent": round(self.cut_weighted_percent(), 2),
            "withdrawn_weighted_percent": round(self.withdrawn_weighted_percent(), 2),
            "lost_ms": as_json(lost),
        }


@dataclass(slots=True)
class EndpointResult:
    """All ways to find the end, over the same recordings."""

    corpus: str
    clips: int
    figures: list[EndpointFigures] = field(default_factory=list)
    television: list[EndpointFigures] = field(default_factory=list)
    """The same over the recordings without a pause, while another voice speaks on."""

    answer_seconds: float = ANSWER_SECONDS


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
    answer_seconds: float = ANSWER_SECONDS,
    on_progress: Callable[[str], None],
) -> EndpointResult:
    """Find the ends; `rival` is a Python that has microVAD, None leaves Home Assistant's way out.

    Our ends wait for an answer until `answer_seconds` after the pause, as a run does that has no sound yet.
    """
    chance = np.random.default_rng(_SEED)
    recordings: list[Spliced] = []
    for number, clip in enumerate(corpus.clips, 1):
        on_progress(f"words of {number} of {len(corpus.clips)} clips")
        recordings += await asyncio.to_thread(spliced, clip, words, chance, tuple(NATURAL_PAUSES))
    noisy = with_television([one for one in recordings if not one.pauses_ms], chance)
    silently = await _heard([*recordings, *noisy], understand, on_progress)
    heard = [replace(one, answer_seconds=answer_seconds) for one in silently]
    ours, over_television = heard[: len(recordings)], heard[len(recordings) :]
    result = EndpointResult(corpus.name, len(corpus.clips), answer_seconds=answer_seconds)
    default = EndpointSettings()
    for setting in _settings(default):
        result.figures.append(setting.figures(recordings, ours))
        if setting.default:
            result.television.append(setting.figures(noisy, over_television))
    deaf = [replace(heard, words=dict.fromkeys(heard.words, Completeness.UNKNOWN)) for heard in ours]
    result.figures.append(_Setting("without the words", default).figures(recordings, deaf))
    for seconds in _FIXED:
        settings = default.model_copy(update={"silence_seconds": seconds, "least_silence_seconds": seconds})
        result.figures.append(_Setting(f"always {seconds:g} s", settings).figures(recordings, deaf))
    if rival is not None:
        on_progress("detecting speech with microVAD")
        for those, figures in ((recordings, result.figures), (noisy, result.television)):
            theirs = await asyncio.to_thread(microvad.probabilities, rival, [one.pcm for one in those])
            for name, silence in microvad.SILENCES.items():
                found = tuple(map(Found, those, [microvad.ends_at(speech, silence) for speech in theirs]))
                title = f"{name}, {silence:g} s"
                figures.append(EndpointFigures(microvad.NAME, title, found, default=name == "default"))
    return result


@dataclass(frozen=True, slots=True)
class _Setting:
    """One way of ours to find the end."""

    name: str
    endpoint: EndpointSettings
    default: bool = False
    repairs: bool = False

    def figures(self, recordings: Sequence[Spliced], heard: Sequence[Heard]) -> EndpointFigures:
        seconds = self.endpoint.repair_seconds if self.repairs else 0.0
        found = tuple(
            Found(recording, *ends_at(TurnDetector(self.endpoint), one, seconds))
            for recording, one in zip(recordings, heard, strict=True)
        )
        return EndpointFigures(OURS, self.name, found, self.default, self.repairs)


def _settings(default: EndpointSettings) -> Iterator[_Setting]:
    """Yield the curves of both kinds of rooms, with the default settings on them."""
    for seconds in _SENTENCES:
        settings = default.model_copy(update={"sentence_silence_seconds": seconds})
        yield _Setting(f"{seconds:g} s after a sentence", settings, settings == default)
    for seconds in _REPAIRABLE:
        settings = default.model_copy(update={"repairable_silence_seconds": seconds})
        yield _Setting(f"{seconds:g} s, repaired", repairable(settings), settings == default, repairs=True)


def with_television(recordings: Sequence[Spliced], chance: np.random.Generator) -> list[Spliced]:
    """Return the recordings with the voices of others in them from beginning to end, `BACKGROUND_DB` softer."""
    samples = [np.frombuffer(one.pcm, np.int16) for one in recordings]
    bounds = [speech_bounds(one) for one in samples]
    spoken = [one[int(begin * RATE) : int(end * RATE)] for one, (begin, end) in zip(samples, bounds, strict=True)]
    found: list[Spliced] = []
    for number, (recording, own) in enumerate(zip(recordings, samples, strict=True)):
        others = [spoken[at] for at in chance.permutation(len(spoken)).tolist() if at != number] or [spoken[number]]
        levelled = [other / speech_level(other.astype(np.float64)) for other in others]
        voices = np.resize(np.concatenate(levelled), len(own))
        mixed = own + voices * speech_level(spoken[number].astype(np.float64)) * 10 ** (-BACKGROUND_DB / 20)
        found.append(replace(recording, pcm=np.clip(mixed, -32768, 32767).astype(np.int16).tobytes()))
    return found


class _NotedTurn(TurnDetector):
    """Notes what it is given, and ends nothing."""

    def __init__(self) -> None:
        super().__init__(EndpointSettings(), automatic=False)
        self.windows: list[tuple[bool, bool, bool]] = []

    def feed(self, seconds: float, is_speech: bool, *, fades: bool = False, trails: bool = False) -> TurnState:
        self.windows.append((is_speech, fades, trails))
        return super().feed(seconds, is_speech, fades=fades, trails=trails)


async def _heard(
    recordings: Sequence[Spliced], understand: Understand, on_progress: Callable[[str], None]
) -> list[Heard]:
    """Return what a run hears in each recording, and the words at its pauses."""
    worker = Worker(Stage.STT, name="vad")
    found: list[Heard] = []
    took: list[float] = []
    try:
        vad = SileroVad(worker)
        await worker.run(vad.load)
        for number, one in enumerate(recordings, 1):
            on_progress(f"words at pauses, {number} of {len(recordings)} recordings")
            turn, words, last_speech_at = _NotedTurn(), dict[int, Completeness](), -1.0
            recording = CommandRecording(vad, turn, threshold=_THRESHOLD, max_seconds=_LONGEST_SECONDS)
            size = int(vad.window_seconds * BYTES_PER_SECOND)
            for at in range(0, len(one.pcm) - size + 1, size):
                await recording.feed(one.pcm[at : at + size])
                if recording.pauses and turn.last_speech_at != last_speech_at:
                    last_speech_at = turn.last_speech_at
                    began = time.monotonic()
                    words[len(turn.windows) - 1] = await understand(bytes(recording.pcm), recording.speech)
                    took.append(time.monotonic() - began)
            found.append(Heard(vad.window_seconds, turn.windows, words))
    finally:
        worker.close()
    return [replace(one, words_seconds=median(took) if took else 0.0) for one in found]


def ends_at(endpoint: TurnDetector, heard: Heard, repair_seconds: float = 0.0) -> tuple[float | None, int]:
    """Return where `endpoint` ends the command, seconds, None when it does not; and how many ends it took back.

    An end is taken back where speech comes within `repair_seconds` of the latest speech.
    """
    late = math.ceil(heard.words_seconds / heard.window_seconds)
    known = {window + late: (window, words) for window, words in heard.words.items()}
    last_speech, held_at, withdrawn, repairable_until = -1, -1, 0, 0.0
    ended_at: float | None = None
    for window, (is_speech, fades, trails) in enumerate(heard.windows):
        endpoint.feed(heard.window_seconds, is_speech, fades=fades, trails=trails)
        if endpoint.last_speech_at == endpoint.seconds:
            last_speech = window
        if window in heard.words and ended_at is None:
            held_at = window
            endpoint.hold()
        if held_at > last_speech and (window - held_at) * heard.window_seconds >= heard.answer_seconds:
            endpoint.release()
        asked, words = known.get(window, (-1, Completeness.UNKNOWN))
        if asked > last_speech:
            endpoint.set_completeness(words)
        if ended_at is not None and endpoint.state is TurnState.SPEAKING:
            ended_at, withdrawn = None, withdrawn + 1
        elif ended_at is None and endpoint.state is TurnState.ENDED:
            ended_at = endpoint.seconds
            repairable_until = endpoint.last_speech_at + repair_seconds
            endpoint.listen_on()
        if endpoint.state is TurnState.NO_SPEECH or (ended_at is not None and endpoint.seconds >= repairable_until):
            break
    return ended_at, withdrawn


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
