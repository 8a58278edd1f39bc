"""Transcripts of a recording that is not over: in its pauses, and word by word."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from satellite.audio.pcm import BYTES_PER_SECOND, read_wav
from satellite.config.settings import SttSettings
from satellite.engines.protocols import Transcription
from satellite.errors import SpeechToTextError
from satellite.pipeline.recording import Recording
from satellite.pipeline.transcripts import (
    PartialTranscripts,
    SpeculationCount,
    SpeculativeTranscript,
    agreed,
    partials_allowed,
    rest,
)
from tests.loudness import WINDOW_SAMPLES, LoudnessVad, silence, speech
from tests.test_engines_stt import COMMANDS, DATA, Ears

_CHUNK_BYTES = 4 * WINDOW_SAMPLES  # two windows
_PAUSE = 8  # windows: more than a consonant


class Room:
    """A recording that comes at a microphone's pace: its clock is its own length, unless it is `hurried`."""

    def __init__(self, *, hurried: bool = False) -> None:
        self.recorder = Recording(LoudnessVad(), max_seconds=60)
        self.count = SpeculationCount()
        self.transcribed: list[int] = []
        self.idle = True
        self.failures = 0
        seconds = LoudnessVad.window_seconds
        clock: Callable[[], float] = (lambda: 0.0) if hurried else (lambda: len(self.recorder.speech) * seconds)
        self.speculative = SpeculativeTranscript(
            self.recorder, self._transcribe, lambda: self.idle, self.count, clock=clock
        )

    async def _transcribe(self) -> Transcription:
        words = sum(probability >= 0.5 for probability in self.recorder.speech)
        self.transcribed.append(words)
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise SpeechToTextError("no luck")
        return Transcription(f"{words} windows", "en")

    async def hear(self, *parts: bytes) -> None:
        pcm = b"".join(parts)
        for at in range(0, len(pcm), _CHUNK_BYTES):
            await self.recorder.feed(pcm[at : at + _CHUNK_BYTES])
            self.speculative.update()
            await asyncio.sleep(0)

    async def result(self) -> tuple[str, list[int], SpeculationCount]:
        return (await self.speculative.result()).text, self.transcribed, self.count


@pytest.mark.parametrize(
    ("hurried", "parts", "expected"),
    [
        (False, [(20, _PAUSE)], ("20 windows", [20], SpeculationCount(begun=1, used=1))),
        (False, [(20, 40)], ("20 windows", [20], SpeculationCount(begun=1, used=1))),
        # The closure of a consonant begins none, nor does audio that comes all at once.
        (False, [(10, 4), (10, 4)], ("20 windows", [20], SpeculationCount())),
        (True, [(10, 20), (10, 20)], ("20 windows", [20], SpeculationCount())),
        # More speech drops one, and the next pause begins another.
        (False, [(10, 40), (20, 40)], ("30 windows", [10, 30], SpeculationCount(begun=2, used=1))),
    ],
)
async def test_one_transcript_is_begun_after_every_stretch_of_speech(
    hurried: bool, parts: list[tuple[int, int]], expected: tuple[str, list[int], SpeculationCount]
) -> None:
    room = Room(hurried=hurried)
    for spoken, paused in parts:
        await room.hear(speech(spoken))
        assert room.speculative.task is None
        await room.hear(silence(paused))
    assert await room.result() == expected


async def test_speech_at_the_very_end_is_not_forgotten() -> None:
    room = Room()
    await room.hear(speech(10), silence(_PAUSE))
    await room.recorder.feed(speech(2))
    assert await room.result() == ("12 windows", [10, 12], SpeculationCount(begun=1))


async def test_other_work_comes_first() -> None:
    room = Room()
    room.idle = False
    await room.hear(speech(10), silence(20))
    assert room.speculative.task is None
    room.idle = True
    await room.hear(silence(2))
    assert room.transcribed == [10]


async def test_a_failure_is_made_good() -> None:
    room = Room()
    room.failures = 1
    await room.hear(speech(10), silence(20))
    assert await room.result() == ("10 windows", [10, 10], SpeculationCount(begun=1))
    room.failures = 2
    await room.hear(speech(10), silence(20))
    with pytest.raises(SpeechToTextError):
        await room.result()


async def test_the_end_of_the_wake_word_is_no_command() -> None:
    room = Room()
    await room.hear(speech(10), silence(_PAUSE))
    room.recorder.take(len(room.recorder.speech))
    await room.hear(silence(20))
    assert room.speculative.task is None
    await room.hear(speech(6), silence(_PAUSE))
    assert (await room.result())[0] == "6 windows"


async def test_a_closed_one_leaves_nothing_behind() -> None:
    room = Room()
    await room.hear(speech(10))
    await room.recorder.feed(silence(_PAUSE))
    room.speculative.update()
    task = room.speculative.task
    assert task is not None
    room.speculative.close()
    room.speculative.close()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()


# Partial transcripts.


@pytest.mark.parametrize(
    ("said", "earlier", "later", "words"),
    [
        ("", "", "Turn on", ""),
        ("", "Turn on the", "Turn on the light", "Turn on"),
        ("", "Turn on the light.", "Turn on the lights in", "Turn on the"),
        ("", "Turn on the lights.", "Turn on the lights.", "Turn on the"),
        ("", "Turn off the", "Turn on the light", "Turn"),
        ("", "Earn on the", "Turn on the light", ""),
        ("Turn on", "Turn on the", "Turn on the light in", "Turn on"),
        ("Turn on", "Turn on the light", "Turn on the light in", "Turn on the"),
        ("Turn on", "Earn on the light", "Earn on the light in", "Turn on"),
        ("Turn on the", "Turn", "Turn on the light in", "Turn on the"),
    ],
)
def test_what_two_in_a_row_begin_with_counts_as_said(said: str, earlier: str, later: str, words: str) -> None:
    assert agreed(said.split(), earlier.split(), later.split()) == words.split()


@pytest.mark.parametrize(
    ("said", "transcript", "following"),
    [
        ("", "Turn on.", "Turn on."),
        ("Turn", "Turn on.", " on."),
        ("Turn on.", "Turn on.", ""),
        ("Turn on", "Turn on.", None),
        ("Turn", "Turnip.", None),
        ("Turn off", "Turn on.", None),
        ("Turn", "", None),
    ],
)
def test_the_rest_completes_the_transcript_or_there_is_none(said: str, transcript: str, following: str | None) -> None:
    assert rest(said, transcript) == following


async def listened(texts: Sequence[str | None], *parts: bytes, may: bool = True) -> tuple[list[str], int]:
    """Return, for what Whisper hears, the agreed words as they were reported, and how many partials began."""
    reported: list[str] = []
    begun: list[str | None] = []

    async def transcribe() -> Transcription:
        begun.append(texts[len(begun)])
        if begun[-1] is None:
            raise SpeechToTextError("no luck")
        return Transcription(begun[-1], "en")

    recorder = Recording(LoudnessVad(), max_seconds=60)
    partials = PartialTranscripts(recorder, transcribe, lambda: may, reported.append)
    pcm = b"".join(parts)
    for at in range(0, len(pcm), 2 * WINDOW_SAMPLES):
        await recorder.feed(pcm[at : at + 2 * WINDOW_SAMPLES])
        partials.update()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert partials.text == (reported[-1] if reported else "")
    partials.close()
    return reported, len(begun)


SECOND = round(1 / LoudnessVad.window_seconds)  # windows
PARTIAL = 16  # windows: half a second


@pytest.mark.parametrize(
    ("texts", "reported"),
    [
        (["Turn", "Turn on the", "Turn on the light in", "Turn on the light in a"], ["Turn on", "Turn on the light"]),
        (["Turn on the", None, "Turn on the light", "Turn on the light."], ["Turn on", "Turn on the"]),  # one fails
    ],
)
async def test_words_come_while_somebody_speaks(texts: list[str | None], reported: list[str]) -> None:
    assert await listened(texts, silence(SECOND), speech(4 * PARTIAL + 1)) == (reported, 4)


async def test_none_begins_in_a_pause_nor_where_it_may_not_nor_in_long_speech() -> None:
    assert await listened(["Turn", "Turn on"], speech(PARTIAL + 1), silence(10 * SECOND)) == ([], 1)
    assert await listened([], silence(5 * SECOND)) == ([], 0)
    assert await listened([], speech(5 * SECOND), may=False) == ([], 0)
    assert 35 < (await listened(["So"] * 90, speech(60 * SECOND)))[1] <= 40


@pytest.mark.parametrize(
    ("mode", "device", "usual_seconds", "idle", "may"),
    [
        ("auto", "cpu int8", 0.12, True, False),
        ("auto", "cpu int8", 0.05, True, True),
        ("auto", "cuda float16", 0.12, True, True),
        ("auto", "cuda float16", 0.5, True, False),
        ("auto", "cuda float16", None, True, False),
        ("auto", "cuda float16", 0.02, False, False),
        (True, "cpu int8", 0.12, True, True),
        (True, "cpu int8", 0.5, True, False),
        (True, "cpu int8", 0.12, False, False),
        (False, "cuda float16", 0.01, True, False),
    ],
)
def test_partials_never_delay_what_counts(
    mode: str | bool, device: str, usual_seconds: float | None, idle: bool, may: bool
) -> None:
    engine: Any = SimpleNamespace(device=device, usual_seconds=usual_seconds, idle=idle)
    assert partials_allowed(SttSettings.model_validate({"partials": mode}), engine) is may


@pytest.fixture(scope="module")
def ears(models_directory: Path) -> Iterator[Ears]:
    loaded = Ears(models_directory, SttSettings(threads=2))
    yield loaded
    loaded.worker.close()


@pytest.mark.models
@pytest.mark.parametrize("wav", COMMANDS, ids=lambda wav: wav.stem)
async def test_the_transcript_of_a_pause_is_what_the_whole_recording_says(ears: Ears, wav: Path) -> None:
    pcm = read_wav(wav) + bytes(BYTES_PER_SECOND)
    recorder = Recording(ears.vad, max_seconds=60)
    speculative = SpeculativeTranscript(
        recorder,
        lambda: ears.whisper.transcribe(bytes(recorder.pcm), speech=recorder.speech),
        lambda: True,
        SpeculationCount(),
        clock=lambda: len(recorder.speech),
    )
    for at in range(0, len(pcm), _CHUNK_BYTES):
        await recorder.feed(pcm[at : at + _CHUNK_BYTES])
        speculative.update()
    assert speculative.task is not None
    heard = await speculative.result()
    assert heard == await ears.whisper.transcribe(bytes(recorder.pcm), speech=recorder.speech)


@pytest.mark.models
async def test_agreed_words_of_recordings_stand(ears: Ears) -> None:
    words = wrong = 0

    async def scenario(pcm: bytes) -> tuple[str, str]:
        recorder = Recording(ears.vad, max_seconds=60)

        async def transcribe() -> Transcription:
            return await ears.whisper.transcribe(bytes(recorder.pcm), speech=list(recorder.speech))

        partials = PartialTranscripts(recorder, transcribe, lambda: True)
        for at in range(0, len(pcm), 4 * WINDOW_SAMPLES):
            await recorder.feed(pcm[at : at + 4 * WINDOW_SAMPLES])
            partials.update()
            while ears.worker.pending:  # as if the machine took no time
                await asyncio.sleep(0.001)
        return partials.text, (await transcribe()).text

    recordings = [read_wav(wav) for wav in sorted((DATA / "commands").glob("*.wav"))]
    for first in range(0, len(recordings), 2):  # two at a time: one alone is hardly longer than two partials
        said, transcript = await scenario(b"".join(recordings[first : first + 2]))
        words += len(said.split())
        wrong += 0 if rest(said, transcript) is not None else len(said.split())
    assert words > 8
    assert wrong / words < 0.25
