"""Transcripts of a recording that is not over: in its pauses, and word by word."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

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
        """Take sound chunk by chunk, and let whatever was begun go on."""
        pcm = b"".join(parts)
        for at in range(0, len(pcm), _CHUNK_BYTES):
            await self.recorder.feed(pcm[at : at + _CHUNK_BYTES])
            self.speculative.update()
            await asyncio.sleep(0)


async def test_a_pause_begins_the_transcription_and_silence_keeps_it() -> None:
    room = Room()
    await room.hear(speech(20), silence(_PAUSE))
    assert room.speculative.task is not None
    assert room.transcribed == [20]
    await room.hear(silence(30))
    assert room.speculative.task.done()
    assert (await room.speculative.result()).text == "20 windows"
    assert room.transcribed == [20]
    assert room.count == SpeculationCount(begun=1, used=1)


async def test_the_closure_of_a_consonant_begins_none() -> None:
    room = Room()
    await room.hear(speech(10), silence(4), speech(10), silence(4))
    assert room.speculative.task is None
    assert (await room.speculative.result()).text == "20 windows"
    assert room.count == SpeculationCount()


async def test_speech_drops_it_and_the_next_pause_begins_another() -> None:
    room = Room()
    await room.hear(speech(10), silence(40), speech(10))
    assert room.speculative.task is None
    await room.hear(speech(10), silence(40))
    assert room.transcribed == [10, 30]
    assert (await room.speculative.result()).text == "30 windows"
    assert room.count == SpeculationCount(begun=2, used=1)


async def test_speech_at_the_very_end_is_not_forgotten() -> None:
    room = Room()
    await room.hear(speech(10), silence(_PAUSE))
    await room.recorder.feed(speech(2))
    assert (await room.speculative.result()).text == "12 windows"
    assert room.count == SpeculationCount(begun=1)


async def test_audio_that_comes_all_at_once_is_transcribed_once() -> None:
    room = Room(hurried=True)
    await room.hear(speech(10), silence(20), speech(10), silence(20))
    assert (await room.speculative.result()).text == "20 windows"
    assert room.transcribed == [20]
    assert room.count == SpeculationCount()


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
    assert (await room.speculative.result()).text == "10 windows"
    assert room.count == SpeculationCount(begun=1)
    room.failures = 2
    await room.hear(speech(10), silence(20))
    with pytest.raises(SpeechToTextError):
        await room.speculative.result()


async def test_the_end_of_the_wake_word_is_no_command() -> None:
    room = Room()
    await room.hear(speech(10), silence(_PAUSE))
    room.recorder.pcm.clear()
    room.recorder.speech.clear()
    await room.hear(silence(20))
    assert room.speculative.task is None
    await room.hear(speech(6), silence(_PAUSE))
    assert (await room.speculative.result()).text == "6 windows"


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
    if following is not None:
        assert said + following == transcript


async def listened(texts: Sequence[str | None], *parts: bytes, may: bool = True) -> tuple[list[str], list[str], int]:
    """Return, for what Whisper hears, the agreed words after each chunk and as told, and how many partials began."""
    told: list[str] = []
    seen: list[str] = []
    hypotheses = iter(texts)
    begun = 0

    async def transcribe() -> Transcription:
        nonlocal begun
        begun += 1
        text = next(hypotheses)
        if text is None:
            raise SpeechToTextError("no luck")
        return Transcription(text, "en")

    recorder = Recording(LoudnessVad(), max_seconds=60)
    partials = PartialTranscripts(recorder, transcribe, lambda: may, told.append)
    pcm = b"".join(parts)
    for at in range(0, len(pcm), 2 * WINDOW_SAMPLES):
        await recorder.feed(pcm[at : at + 2 * WINDOW_SAMPLES])
        partials.update()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        seen.append(partials.text)
    partials.close()
    return seen, told, begun


SECOND = round(1 / LoudnessVad.window_seconds)  # windows
PARTIAL = 16  # windows: half a second


async def test_words_come_while_somebody_speaks() -> None:
    texts = ["Turn", "Turn on the", "Turn on the light in", "Turn on the light in the"]
    seen, told, begun = await listened(texts, silence(SECOND), speech(4 * PARTIAL + 1))
    assert begun == 4
    assert told == ["Turn on", "Turn on the light"]
    assert seen[-1] == told[-1]


async def test_none_begins_in_a_pause() -> None:
    assert (await listened(["Turn", "Turn on"], speech(PARTIAL + 1), silence(10 * SECOND)))[2] == 1
    assert (await listened([], silence(5 * SECOND)))[2] == 0


async def test_none_begins_where_it_may_not() -> None:
    assert (await listened([], speech(5 * SECOND), may=False))[2] == 0


async def test_a_partial_that_fails_is_left_out() -> None:
    seen, told, begun = await listened(
        ["Turn on the", None, "Turn on the light", "Turn on the light."], speech(4 * PARTIAL + 1)
    )
    assert begun == 4
    assert told == ["Turn on", "Turn on the"]
    assert seen[-1] == "Turn on the"


async def test_long_speech_gets_no_more_of_them() -> None:
    assert 35 < (await listened(["So"] * 90, speech(60 * SECOND)))[2] <= 40


class Engine:
    """As much of a transcriber as the question needs."""

    def __init__(self, device: str, seconds: float | None, *, idle: bool = True) -> None:
        self.device, self.usual_seconds, self.idle = device, seconds, idle


@pytest.mark.parametrize(
    ("mode", "engine", "may"),
    [
        ("auto", Engine("cpu int8", 0.12), False),
        ("auto", Engine("cpu int8", 0.05), True),
        ("auto", Engine("cuda float16", 0.12), True),
        ("auto", Engine("cuda float16", 0.5), False),
        ("auto", Engine("cuda float16", None), False),
        ("auto", Engine("cuda float16", 0.02, idle=False), False),
        (True, Engine("cpu int8", 0.12), True),
        (True, Engine("cpu int8", 0.5), False),
        (True, Engine("cpu int8", 0.12, idle=False), False),
        (False, Engine("cuda float16", 0.01), False),
    ],
)
def test_partials_never_delay_what_counts(mode: str | bool, engine: Engine, may: bool) -> None:
    assert partials_allowed(SttSettings.model_validate({"partials": mode}), engine) is may  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def ears(models_directory: Path) -> Iterator[Ears]:
    """The default model."""
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
