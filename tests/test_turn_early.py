"""A transcript made in a pause: when one is begun, what drops it, and that it is what the whole recording says."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from satellite.audio.pcm import BYTES_PER_SECOND, read_wav
from satellite.config.settings import SttSettings
from satellite.engines.protocols import Transcription
from satellite.errors import SpeechToTextError
from satellite.pipeline.recording import Recording
from satellite.pipeline.transcripts import SpeculationCount, SpeculativeTranscript
from tests.loudness import WINDOW_SAMPLES, LoudnessVad, silence, speech
from tests.test_engines_stt import COMMANDS, Ears

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
        self.early = SpeculativeTranscript(self.recorder, self._transcribe, lambda: self.idle, self.count, clock=clock)

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
            self.early.update()
            await asyncio.sleep(0)


async def test_a_pause_begins_the_transcription_and_silence_keeps_it() -> None:
    """What follows is silence: there is one transcription, and it is done before anybody asks."""
    room = Room()
    await room.hear(speech(20), silence(_PAUSE))
    assert room.early.task is not None
    assert room.transcribed == [20]
    await room.hear(silence(30))
    assert room.early.task.done()
    assert (await room.early.result()).text == "20 windows"
    assert room.transcribed == [20]
    assert room.count == SpeculationCount(begun=1, used=1)


async def test_the_closure_of_a_consonant_begins_none() -> None:
    """Some 0.13 s of silence between speech are no pause."""
    room = Room()
    await room.hear(speech(10), silence(4), speech(10), silence(4))
    assert room.early.task is None
    assert (await room.early.result()).text == "20 windows"
    assert room.count == SpeculationCount()


async def test_speech_drops_it_and_the_next_pause_begins_another() -> None:
    """Every pause gets one, however long it is, and only the last can be used."""
    room = Room()
    await room.hear(speech(10), silence(40), speech(10))
    assert room.early.task is None
    await room.hear(speech(10), silence(40))
    assert room.transcribed == [10, 30]
    assert (await room.early.result()).text == "30 windows"
    assert room.count == SpeculationCount(begun=2, used=1)


async def test_speech_at_the_very_end_is_not_forgotten() -> None:
    """Speech that nobody had a look at since drops the transcript as well."""
    room = Room()
    await room.hear(speech(10), silence(_PAUSE))
    await room.recorder.feed(speech(2))
    assert (await room.early.result()).text == "12 windows"
    assert room.count == SpeculationCount(begun=1)


async def test_audio_that_comes_all_at_once_is_transcribed_once() -> None:
    """A client that sends a file pays for no pause in it."""
    room = Room(hurried=True)
    await room.hear(speech(10), silence(20), speech(10), silence(20))
    assert (await room.early.result()).text == "20 windows"
    assert room.transcribed == [20]
    assert room.count == SpeculationCount()


async def test_other_work_comes_first() -> None:
    """None begins while the engine is busy; one does as soon as it is not."""
    room = Room()
    room.idle = False
    await room.hear(speech(10), silence(20))
    assert room.early.task is None
    room.idle = True
    await room.hear(silence(2))
    assert room.transcribed == [10]


async def test_a_failure_is_made_good() -> None:
    """A failure costs nothing but time; if it fails again, that is told."""
    room = Room()
    room.failures = 1
    await room.hear(speech(10), silence(20))
    assert (await room.early.result()).text == "10 windows"
    assert room.count == SpeculationCount(begun=1)
    room.failures = 2
    await room.hear(speech(10), silence(20))
    with pytest.raises(SpeechToTextError):
        await room.early.result()


async def test_the_end_of_the_wake_word_is_no_command() -> None:
    """A recorder that drops what it has begins anew, and so does its transcript."""
    room = Room()
    await room.hear(speech(10), silence(_PAUSE))
    room.recorder.pcm.clear()
    room.recorder.speech.clear()
    await room.hear(silence(20))
    assert room.early.task is None
    await room.hear(speech(6), silence(_PAUSE))
    assert (await room.early.result()).text == "6 windows"


async def test_a_closed_one_leaves_nothing_behind() -> None:
    """Whoever hangs up ends the work."""
    room = Room()
    await room.hear(speech(10))
    await room.recorder.feed(silence(_PAUSE))
    room.early.update()
    task = room.early.task
    assert task is not None
    room.early.close()
    room.early.close()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()


@pytest.fixture(scope="module")
def ears(models_directory: Path) -> Iterator[Ears]:
    """The default model."""
    loaded = Ears(models_directory, SttSettings(threads=2))
    yield loaded
    loaded.worker.close()


@pytest.mark.models
@pytest.mark.parametrize("wav", COMMANDS, ids=lambda wav: wav.stem)
async def test_the_early_transcript_is_what_the_whole_recording_says(ears: Ears, wav: Path) -> None:
    """To the letter: silence behind the pause changes nothing, which is why it may be used."""
    pcm = read_wav(wav) + bytes(BYTES_PER_SECOND)
    recorder = Recording(ears.vad, max_seconds=60)
    early = SpeculativeTranscript(
        recorder,
        lambda: ears.whisper.transcribe(bytes(recorder.pcm), speech=recorder.speech),
        lambda: True,
        SpeculationCount(),
        clock=lambda: len(recorder.speech),
    )
    for at in range(0, len(pcm), _CHUNK_BYTES):
        await recorder.feed(pcm[at : at + _CHUNK_BYTES])
        early.update()
    assert early.task is not None
    heard = await early.result()
    assert heard == await ears.whisper.transcribe(bytes(recorder.pcm), speech=recorder.speech)
