"""The shortest window that a Whisper model bears: words, time and repetitions in windows of several lengths.

Whisper was trained on 30 s. In a shorter window it is faster, and in one that is too short it invents and repeats
words: where that begins differs from model to model, and has to be measured.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from satellite.audio.pcm import BYTES_PER_SECOND
from satellite.config.settings import Stt
from satellite.engines.protocols import AFTER_SPEECH_SECONDS
from satellite.engines.stt.whisper import FULL_WINDOW_SECONDS, WhisperTranscriber
from satellite.engines.vad import SileroVad
from satellite.engines.worker import Worker
from satellite.errors import Stage
from satellite.models import catalogue
from satellite.models.spec import Kind
from satellite.models.store import Store
from satellite_bench.corpus import Clip, Corpus
from satellite_bench.report import Row, table
from satellite_bench.stats import Summary, summarise
from satellite_bench.words import WordErrors, total, word_errors

SECONDS = (6.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 15.0, 20.0, FULL_WINDOW_SECONDS)

_WER_POINTS = 0.2
"""How much more than the full window's word error rate is as good as it, points."""


@dataclass(frozen=True, slots=True)
class WindowFigures:
    """What one window came to, over all recordings."""

    seconds: float
    words: WordErrors
    milliseconds: Summary
    repeats: int
    """Recordings in which words repeated themselves, and were decoded again over the full window."""

    def described(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "window_seconds": self.seconds,
            "word_errors": {
                "errors": self.words.errors,
                "words": self.words.words,
                "percent": round(self.words.percent, 2),
            },
            "milliseconds": self.milliseconds.described(),
            "repeats": self.repeats,
        }


@dataclass(frozen=True, slots=True)
class WindowsResult:
    """All windows of a model, the shortest first, the full one last."""

    model: str
    device: str
    corpus: str
    clips: int
    figures: Sequence[WindowFigures]

    @property
    def recommended(self) -> float:
        """The floor for this model, seconds."""
        return recommended(self.figures)

    def described(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "model": self.model,
            "device": self.device,
            "corpus": self.corpus,
            "clips": self.clips,
            "windows": [figures.described() for figures in self.figures],
            "recommended_floor_seconds": self.recommended,
        }

    def markdown(self) -> str:
        """Return it for people."""
        full = self.figures[-1].milliseconds.median
        rows: list[Row] = [
            (
                f"{of.seconds:g} s",
                f"{of.words.percent:.2f} %",
                str(of.words.errors),
                str(of.repeats),
                f"{of.milliseconds.median:.0f}",
                f"{of.milliseconds.p95:.0f}",
                f"{of.milliseconds.median / full:.2f}",
            )
            for of in self.figures
        ]
        columns = ("window", "WER", "errors", "repeats", "median, ms", "p95, ms", "of the full one's time")
        lines = [
            f"Whisper {self.model} on {self.device}; corpus: {self.corpus}, {self.clips} clips.",
            "",
            *table(columns, rows),
            "",
            f"Recommended for this model: stt.window_floor_seconds: {self.recommended:g}",
        ]
        return "\n".join(lines) + "\n"


def recommended(figures: Sequence[WindowFigures]) -> float:
    """Return the floor that `figures`, the shortest first and the full window last, speak for.

    A window is as good as the full one if its word error rate is hardly higher and no more recordings repeat
    themselves. The floor is one step above the shortest of those that are, it and all longer ones: below them words
    break down within a second, and other voices are not in the corpus.
    """
    full = figures[-1]
    good = [full]
    for of in reversed(figures[:-1]):
        if of.words.percent > full.words.percent + _WER_POINTS or of.repeats > full.repeats:
            break
        good.append(of)
    return good[max(0, len(good) - 2)].seconds


async def measure(
    settings: Stt, store: Store, corpus: Corpus, seconds: Sequence[float], on_progress: Callable[[int, int], None]
) -> WindowsResult:
    """Let the model of `settings` transcribe every clip in windows of at least so many `seconds` and in the full one.

    The windows take turns clip by clip, so that whatever else the machine does hits all of them alike.
    """
    spec = catalogue.find(Kind.STT, settings.model)
    worker = Worker(Stage.STT)
    try:
        vad = SileroVad(worker)
        whisper = WhisperTranscriber(
            settings, worker, languages=spec.languages, window_floor_seconds=spec.window_floor_seconds
        )
        await worker.run(vad.load)
        await worker.run(lambda: whisper.load(store.path(spec)))
        windows = sorted({*seconds, FULL_WINDOW_SECONDS})
        await _heard(whisper, vad, windows[-1], corpus.longest)  # uncounted: the first one is slow
        heard: dict[float, list[_Heard]] = {window: [] for window in windows}
        for number, clip in enumerate(corpus.clips, 1):
            for window in windows:
                heard[window].append(await _heard(whisper, vad, window, clip))
            on_progress(number, len(corpus.clips))
    finally:
        worker.close()
    figures = [_figures(window, of) for window, of in heard.items()]
    return WindowsResult(settings.model, whisper.device, corpus.name, len(corpus.clips), figures)


@dataclass(frozen=True, slots=True)
class _Heard:
    words: WordErrors
    seconds: float
    repeated: bool


async def _heard(whisper: WhisperTranscriber, vad: SileroVad, window: float, clip: Clip) -> _Heard:
    pcm = clip.pcm + bytes(int(AFTER_SPEECH_SECONDS * BYTES_PER_SECOND))
    speech = await vad.stream().feed(pcm)
    whisper.window_floor_seconds = window
    retries = whisper.counts["full_window_retries"]
    began = time.monotonic()
    text = (await whisper.transcribe(pcm, speech=speech)).text
    seconds = time.monotonic() - began
    return _Heard(word_errors(clip.words, text), seconds, whisper.counts["full_window_retries"] > retries)


def _figures(window: float, heard: Sequence[_Heard]) -> WindowFigures:
    words = total(one.words for one in heard)
    return WindowFigures(
        window, words, summarise([1000 * one.seconds for one in heard]), sum(one.repeated for one in heard)
    )
