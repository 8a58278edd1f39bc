"""Speaking: what Whisper hears of our voices and of the official Piper's, how loud they are, and when they begin."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np

from satellite.audio.word_errors import WordErrors, total, word_errors
from satellite.errors import SatelliteError
from satellite.languages import closest
from satellite.models.spec import Kind, ModelSpec
from satellite.models.store import Store
from satellite_bench import own, rivals, tts
from satellite_bench.conditions import speech_level
from satellite_bench.contest import REQUEST_SECONDS, Outcome, Pair, compete
from satellite_bench.server import Server, started
from satellite_bench.speaking_texts import TEXTS, Text, same_words
from satellite_bench.splicing import WhisperWords
from satellite_bench.stats import Compared, Summary, summarise
from satellite_bench.stt import Mismatch
from satellite_bench.tts import Spoken

_FULL_SCALE = 32767
_LEAST_RUN = 3
"""Samples at full scale, one after the other, from which on a peak is cut off: one alone may just touch it."""


class Ears(Protocol):
    """What understands the voices."""

    def text(self, pcm: bytes, language: str) -> str:
        """Return what is said in canonical PCM."""


@dataclass(frozen=True, slots=True)
class Said:
    """How one server spoke the texts."""

    DESCRIBED: ClassVar = ("wer_percent",)

    words: WordErrors = field(repr=False)
    by_kind: dict[str, float]
    """Word errors in a hundred words, by the kind of text."""

    level_db: float
    """Mean level of the frames with speech, dBFS."""

    clipped: int
    """Samples at full scale in runs of three or more."""

    first_audible_ms: Summary

    @property
    def wer_percent(self) -> float:
        """Word errors in a hundred words, over all texts."""
        return self.words.percent


@dataclass(frozen=True, slots=True)
class SpeakingFigures:
    """One voice; `theirs` is None where the official server was not measured or has no such voice."""

    voice: str
    language: str
    whisper: str
    ours: Said
    theirs: Said | None
    mismatches: tuple[Mismatch, ...]

    @property
    def first_audible_ms(self) -> Compared:
        """When the first sound is heard, of both sides."""
        return Compared(self.ours.first_audible_ms, self.theirs.first_audible_ms if self.theirs else None)


@dataclass(frozen=True, slots=True)
class SpeakingResult:
    """All voices that are installed and speak a language with texts and a Whisper model."""

    figures: tuple[SpeakingFigures, ...]
    failures: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Speaker:
    voice: ModelSpec
    language: str
    whisper: ModelSpec


class SpeakingBench:
    """Lets every installed voice speak, by our daemon and, where it is a Piper voice, by the official server too."""

    def __init__(
        self, folder: Path, store: Store, threads: int, python: Path | None, on_status: Callable[[str], None]
    ) -> None:
        """Without `python`, that of the official servers, ours alone is measured."""
        self._folder = folder
        self._store = store
        self._threads = threads
        self._python = python
        self._on_status = on_status

    async def measure(self, limit: int | None) -> SpeakingResult:
        """Speak all texts of each language, or `limit` of them; raises `SatelliteError` where no voice can be heard."""
        speakers = list(_speakers(self._store))
        if not speakers:
            raise SatelliteError("no voice is installed with a Whisper model of its language", code="bench-speaking")
        figures: list[SpeakingFigures] = []
        failures: list[str] = []
        for speaker in speakers:
            self._on_status(speaker.voice.name)
            model = self._store.path(speaker.whisper)
            ears = await asyncio.to_thread(WhisperWords, model, self._threads)
            texts = chosen(TEXTS[speaker.language], limit)
            async with self._pair(speaker.voice) as pair:
                outcome = await _spoken(pair, texts)
            failures += outcome.failures
            figures.append(await asyncio.to_thread(_figures, speaker, outcome, ears))
        return SpeakingResult(tuple(figures), tuple(failures))

    @asynccontextmanager
    async def _pair(self, voice: ModelSpec) -> AsyncIterator[Pair]:
        settings = {
            "tts": {"voice": voice.name, "device": "cpu", "threads": self._threads, "reply_cache_mib": 0},
            "deadlines": {"tts_seconds": REQUEST_SECONDS},  # what is heard is not to depend on the machine's speed
        }
        command = own.daemon(self._folder, self._store.directory, self._threads, chat=False, settings=settings)
        async with AsyncExitStack() as stack:
            ours = await stack.enter_async_context(started(command))
            theirs = None
            if self._python and voice.network is None:  # which Piper's voices have of their own
                rival = rivals.text_to_speech(self._python, self._store.file(voice, ".onnx"))
                theirs = await stack.enter_async_context(started(rival))
            yield Pair(ours, theirs)


def _speakers(store: Store) -> list[_Speaker]:
    """Return the installed voices, each with the largest installed Whisper model that knows its language."""
    whispers = sorted(store.installed(Kind.STT), key=lambda spec: -store.file(spec, "model.bin").stat().st_size)
    found: list[_Speaker] = []
    for voice in store.installed(Kind.TTS):
        language = next((code for own in voice.languages if (code := closest(own, TEXTS))), None)
        knowing = (spec for spec in whispers if language and closest(language, spec.languages))
        if language and (whisper := next(knowing, None)):
            found.append(_Speaker(voice, language, whisper))
    return found


def chosen(texts: Sequence[Text], limit: int | None) -> list[Text]:
    """Return up to `limit` texts, from all over them."""
    count = min(limit or len(texts), len(texts))
    return [texts[number * len(texts) // count] for number in range(count)]


async def _spoken(pair: Pair, texts: Sequence[Text]) -> Outcome[Text, Spoken]:
    """Let both servers speak every text once; the first one more often, uncounted, to warm them up."""

    async def request(server: Server, text: Text) -> Spoken:
        return await tts.synthesize(server.port, text.written, streaming=False)

    for server in pair.servers:
        await request(server, texts[0])
    return await compete(pair, texts, request, repeats=1)


def _figures(speaker: _Speaker, outcome: Outcome[Text, Spoken], ears: Ears) -> SpeakingFigures:
    ours = _heard(outcome.ours, speaker.language, ears)
    theirs = _heard(outcome.theirs, speaker.language, ears) if outcome.theirs is not None else None
    mismatches: list[Mismatch] = []
    for number, (text, mine) in enumerate(ours):
        other = theirs[number][1] if theirs else None
        wanted = same_words(text.said, speaker.language)
        if any(same_words(heard, speaker.language) != wanted for heard in (mine, other) if heard is not None):
            mismatches.append(Mismatch(text.written, mine, other))
    return SpeakingFigures(
        speaker.voice.name,
        speaker.language,
        speaker.whisper.name,
        said(ours, [spoken for _, spoken in outcome.ours if spoken], speaker.language),
        said(theirs, [spoken for _, spoken in outcome.theirs or () if spoken], speaker.language) if theirs else None,
        tuple(mismatches),
    )


def _heard(side: Sequence[tuple[Text, Spoken | None]], language: str, ears: Ears) -> list[tuple[Text, str]]:
    """Return what is heard of each text; of a request that failed, nothing."""
    return [(text, ears.text(spoken.canonical, language) if spoken else "") for text, spoken in side]


def said(texts: Sequence[tuple[Text, str]], sounds: Sequence[Spoken], language: str) -> Said:
    """Return the figures of one side; raises `SatelliteError` where it said nothing."""
    if not sounds:
        raise SatelliteError("the server spoke none of the texts", code="bench-request")
    errors: dict[str, list[WordErrors]] = {}
    for text, heard in texts:
        wrong = word_errors(same_words(text.said, language), same_words(heard, language))
        errors.setdefault(text.kind, []).append(wrong)
    powers = [speech_level(np.frombuffer(sound.canonical, np.int16) / 32768) ** 2 for sound in sounds]
    return Said(
        words=total(wrong for found in errors.values() for wrong in found),
        by_kind={kind: total(found).percent for kind, found in errors.items()},
        level_db=float(10 * np.log10(np.mean(powers))),
        clipped=sum(clipped(np.frombuffer(sound.pcm, np.int16)) for sound in sounds),
        first_audible_ms=summarise([sound.first_audible_ms for sound in sounds]),
    )


def clipped(samples: np.ndarray[tuple[int], np.dtype[np.int16]]) -> int:
    """Return the number of samples at full scale that are in runs of three or more."""
    full = np.abs(samples.astype(np.int32)) >= _FULL_SCALE
    edges = np.flatnonzero(np.diff(np.pad(full.astype(np.int8), 1)))
    lengths = edges[1::2] - edges[::2]
    return int(lengths[lengths >= _LEAST_RUN].sum())
