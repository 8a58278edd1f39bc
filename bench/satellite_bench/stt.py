"""Speech to text: how long from the end of the audio to the words, and how many of them are wrong."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop

from satellite.audio.corpus import Clip, Corpus
from satellite.audio.pcm import CANONICAL, AudioFormat
from satellite.audio.word_errors import WordErrors, normalise, total, word_errors
from satellite_bench.contest import Outcome, Pair, compete
from satellite_bench.server import Server, connected, receive
from satellite_bench.stats import Compared

_CHUNK_SAMPLES = 1024
_TRAILING_SECONDS = 0.5
"""Silence after every clip; this and the size of the chunks are wyoming-bench's."""


@dataclass(frozen=True, slots=True)
class Transcribed:
    """One answer."""

    text: str
    total_ms: float
    """From before `transcribe` is sent, the connection being open, to the transcript: wyoming-bench's `total`."""

    after_stop_ms: float
    """From `audio-stop` being sent to the transcript: the wait after the last word."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A clip that either side transcribed wrongly."""

    said: str
    ours: str
    theirs: str | None


@dataclass(frozen=True, slots=True)
class SttResult:
    """One corpus, sent in one way."""

    DESCRIBED: ClassVar = ("word_errors",)

    corpus: str
    clips: int
    audio_seconds: float
    realtime: bool
    """True when the audio came at a microphone's pace, False when all of it came at once."""

    total_ms: Compared
    after_stop_ms: Compared
    our_words: WordErrors = field(repr=False)
    their_words: WordErrors | None = field(repr=False)
    mismatches: tuple[Mismatch, ...]
    failures: tuple[str, ...]

    @property
    def word_errors(self) -> dict[str, dict[str, float]]:
        """The errors of each side."""
        sides = {"ours": self.our_words} | ({"theirs": self.their_words} if self.their_words else {})
        return {
            side: {"errors": found.errors, "words": found.words, "percent": found.percent}
            for side, found in sides.items()
        }


async def measure(
    pair: Pair, corpus: Corpus, *, realtime: bool, repeats: int, on_progress: Callable[[int, int], None]
) -> SttResult:
    """Let both servers transcribe the corpus. The longest clip goes first, uncounted, to warm them up."""

    async def request(server: Server, clip: Clip) -> Transcribed:
        return await transcribe(server.port, clip.pcm, realtime=realtime)

    for server in pair.servers:
        await transcribe(server.port, corpus.longest.pcm)
    outcome = await compete(pair, corpus.clips, request, repeats=repeats, on_progress=on_progress)
    return SttResult(
        corpus=corpus.name,
        clips=len(corpus.clips),
        audio_seconds=corpus.seconds,
        realtime=realtime,
        total_ms=outcome.compared(lambda answer: answer.total_ms),
        after_stop_ms=outcome.compared(lambda answer: answer.after_stop_ms),
        our_words=_errors(outcome.ours),
        their_words=None if outcome.theirs is None else _errors(outcome.theirs),
        mismatches=tuple(_mismatches(outcome)),
        failures=tuple(outcome.failures),
    )


async def transcribe(port: int, pcm: bytes, *, source: AudioFormat = CANONICAL, realtime: bool = False) -> Transcribed:
    """Have `pcm`, in the format `source`, transcribed over a connection of its own."""
    layout = {"rate": source.rate, "width": source.width, "channels": source.channels}
    audio = pcm + bytes(int(_TRAILING_SECONDS * source.rate) * source.frame_bytes)
    step = _CHUNK_SAMPLES * source.frame_bytes
    async with connected(port) as client:
        began = time.monotonic()
        await client.write_event(Transcribe(language="en").event())
        await client.write_event(AudioStart(**layout).event())
        for at in range(0, len(audio), step):
            chunk = audio[at : at + step]
            if realtime:  # a microphone has a chunk when its last sample has been spoken
                due = began + (at + len(chunk)) / (source.rate * source.frame_bytes)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            await client.write_event(AudioChunk(audio=chunk, **layout).event())
        await client.write_event(AudioStop().event())
        stopped = time.monotonic()
        while (event := await receive(client)).type != "transcript":
            pass
        answered = time.monotonic()
    return Transcribed(Transcript.from_event(event).text, (answered - began) * 1000, (answered - stopped) * 1000)


def _errors(side: list[tuple[Clip, Transcribed | None]]) -> WordErrors:
    """Return the word errors of a whole side; a request that failed understood nothing."""
    return total(word_errors(clip.words, answer.text if answer else "") for clip, answer in side)


def _mismatches(outcome: Outcome[Clip, Transcribed]) -> list[Mismatch]:
    """Return the clips that either side got wrong in the first pass over the corpus."""
    found: dict[str, Mismatch] = {}
    for index, (clip, ours) in enumerate(outcome.ours):
        our_text = ours.text.strip() if ours else ""
        their_text = None
        if outcome.theirs is not None:
            theirs = outcome.theirs[index][1]
            their_text = theirs.text.strip() if theirs else ""
        heard = [our_text] if their_text is None else [our_text, their_text]
        if any(normalise(text) != normalise(clip.words) for text in heard):
            found.setdefault(clip.name, Mismatch(clip.words, our_text, their_text))
    return list(found.values())
