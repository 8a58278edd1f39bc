"""Words before the command is over: what counts as agreed, and how it fits the transcript."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from satellite.audio.pcm import read_wav
from satellite.config.settings import SttSettings
from satellite.engines.protocols import Transcription
from satellite.errors import SpeechToTextError
from satellite.pipeline.recording import Recording
from satellite.pipeline.transcripts import PartialTranscripts, agreed, partials_allowed, rest
from tests.loudness import WINDOW_SAMPLES, LoudnessVad, silence, speech
from tests.test_engines_stt import DATA, Ears


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
    """The last word may be cut and never counts; nothing that was said is taken back."""
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
    """Whole words only; a transcript that begins otherwise has no rest."""
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
    """One partial in half a second of speech; the callback is told whenever more words are agreed."""
    texts = ["Turn", "Turn on the", "Turn on the light in", "Turn on the light in the"]
    seen, told, begun = await listened(texts, silence(SECOND), speech(4 * PARTIAL + 1))
    assert begun == 4
    assert told == ["Turn on", "Turn on the light"]
    assert seen[-1] == told[-1]


async def test_none_begins_in_a_pause() -> None:
    """The pause belongs to the transcription that counts."""
    assert (await listened(["Turn", "Turn on"], speech(PARTIAL + 1), silence(10 * SECOND)))[2] == 1
    assert (await listened([], silence(5 * SECOND)))[2] == 0


async def test_none_begins_where_it_may_not() -> None:
    """Whoever is busy, or slow, says no."""
    assert (await listened([], speech(5 * SECOND), may=False))[2] == 0


async def test_a_partial_that_fails_is_left_out() -> None:
    """The next one goes on where the last good one was."""
    seen, told, begun = await listened(
        ["Turn on the", None, "Turn on the light", "Turn on the light."], speech(4 * PARTIAL + 1)
    )
    assert begun == 4
    assert told == ["Turn on", "Turn on the"]
    assert seen[-1] == "Turn on the"


async def test_long_speech_gets_no_more_of_them() -> None:
    """Each takes as long as all of the audio: behind 20 s none begins."""
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
    """`auto` wants a GPU or a tenth of the time, and no mode a busy engine or one that is slower than a pause."""
    assert partials_allowed(SttSettings.model_validate({"partials": mode}), engine) is may  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def ears(models_directory: Path) -> Iterator[Ears]:
    """The default model."""
    loaded = Ears(models_directory, SttSettings(threads=2))
    yield loaded
    loaded.worker.close()


@pytest.mark.models
async def test_agreed_words_of_recordings_stand(ears: Ears) -> None:
    """Of all words that count as said while recordings are spoken, hardly one is another in the transcript."""
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
