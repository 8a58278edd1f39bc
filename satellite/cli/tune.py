"""`satellite tune`: find the shortest window with which a Whisper model works, by transcribing recordings.

Whisper was trained on 30 s of audio. A shorter window is faster; in one that is too short the model invents and repeats
words. Where that begins differs from model to model, so it is measured.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median

from rich.console import Console
from rich.table import Table

from satellite.audio.corpus import Clip, Corpus, read_corpus
from satellite.audio.pcm import BYTES_PER_SECOND
from satellite.audio.word_errors import WordErrors, total, word_errors
from satellite.config.settings import SttSettings
from satellite.daemon import config_check
from satellite.engines.protocols import AFTER_SPEECH_SECONDS
from satellite.engines.stt.segments import FULL_WINDOW_SECONDS
from satellite.engines.stt.whisper import WhisperTranscriber
from satellite.engines.vad import SileroVad
from satellite.engines.worker import Worker
from satellite.errors import Stage
from satellite.models import catalogue
from satellite.models.spec import Kind
from satellite.models.store import Store

_SECONDS = (6.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 15.0, 20.0)

_WER_POINTS = 0.2
"""A window is as good as the full one if its word error rate is at most this much higher, percentage points."""


@dataclass(frozen=True, slots=True)
class WindowFigures:
    """The transcripts of all recordings in one window."""

    window_seconds: float
    word_error_percent: float
    median_ms: float
    repeats: int
    """Recordings whose words repeated, so that they were decoded again over the full window."""


async def run(args: argparse.Namespace) -> int:
    """Measure the configured model and print the result; return the exit status."""
    config = config_check.load(args.config)
    corpus = read_corpus(args.recordings)
    console = Console(stderr=args.json)
    figures = await measure(config.stt, Store(config.models.directory), corpus, args.windows or _SECONDS, console)
    floor = recommended_floor(figures)
    if args.json:
        windows = [asdict(one) for one in figures]
        print(json.dumps({"model": config.stt.model, "windows": windows, "window_floor_seconds": floor}))
        return 0
    table = Table("window", "word errors", "repeats", "median, ms", title=f"Whisper {config.stt.model}")
    for one in figures:
        cells = (f"{one.window_seconds:g} s", f"{one.word_error_percent:.2f} %", str(one.repeats))
        table.add_row(*cells, f"{one.median_ms:.0f}")
    console.print(table)
    print(f"Recommended for this model: stt.window_floor_seconds: {floor:g}")
    return 0


def recommended_floor(figures: Sequence[WindowFigures]) -> float:
    """Return the floor in seconds for `figures`, the shortest window first and the full one last.

    A window is good if its word error rate is hardly higher than the full window's and no more recordings repeat.
    The floor is one step above the shortest window from which on all are good: below it transcripts fail within a
    second, and the recordings do not hold every voice.
    """
    full = figures[-1]
    good = [full]
    for one in reversed(figures[:-1]):
        if one.word_error_percent > full.word_error_percent + _WER_POINTS or one.repeats > full.repeats:
            break
        good.append(one)
    return good[max(0, len(good) - 2)].window_seconds


async def measure(
    settings: SttSettings, store: Store, corpus: Corpus, seconds: Sequence[float], console: Console
) -> list[WindowFigures]:
    """Transcribe every clip in windows of at least `seconds` each and in the full one.

    Raises `ModelError` where the configured model is missing.
    """
    spec = catalogue.find(Kind.STT, settings.model)
    folder = store.path(spec)
    windows = sorted({*seconds, FULL_WINDOW_SECONDS})
    transcribed: dict[float, list[tuple[WordErrors, float, bool]]] = {window: [] for window in windows}
    worker = Worker(Stage.STT)
    try:
        vad = SileroVad(worker)
        whisper = WhisperTranscriber(
            settings, worker, languages=spec.languages, window_floor_seconds=spec.window_floor_seconds
        )
        await worker.run(vad.load)
        await worker.run(lambda: whisper.load(folder))
        await _transcribe(whisper, vad, windows[-1], corpus.longest)  # the first is slow and does not count
        with console.status("tune") as status:
            for number, clip in enumerate(corpus.clips, 1):
                status.update(f"recording {number} of {len(corpus.clips)}")
                # The windows take turns clip by clip, so that other load on the machine hits all of them alike.
                for window in windows:
                    transcribed[window].append(await _transcribe(whisper, vad, window, clip))
    finally:
        worker.close()
    figures = []
    for window, results in transcribed.items():
        errors, milliseconds, repeated = zip(*results, strict=True)
        figures.append(WindowFigures(window, total(errors).percent, median(milliseconds), sum(repeated)))
    return figures


async def _transcribe(
    whisper: WhisperTranscriber, vad: SileroVad, window: float, clip: Clip
) -> tuple[WordErrors, float, bool]:
    """Return the errors, the milliseconds that it took, and whether the transcript repeated itself."""
    pcm = clip.pcm + bytes(int(AFTER_SPEECH_SECONDS * BYTES_PER_SECOND))
    speech = await vad.stream(levelled=True).feed(pcm)
    whisper.window_floor_seconds = window  # of the same loaded model: loading takes longer than a transcript
    retries = whisper.counts["full_window_retries"]
    began = time.monotonic()
    text = (await whisper.transcribe(pcm, speech=speech)).text
    milliseconds = 1000 * (time.monotonic() - began)
    return word_errors(clip.words, text), milliseconds, whisper.counts["full_window_retries"] > retries
