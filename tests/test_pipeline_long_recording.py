"""Recordings of any length: nothing of them is lost, and little of them is kept."""

import pytest

from satellite.audio.pcm import BYTES_PER_SECOND, RATE
from satellite.engines.protocols import Transcription
from satellite.errors import SpeechToTextError
from satellite.pipeline.long_recording import PART_SECONDS, LongRecording, RecordedPart
from satellite.pipeline.recording import Recording
from tests.loudness import WINDOW_SAMPLES, LoudnessVad, silence, speech

PART_WINDOWS = int(PART_SECONDS * RATE / WINDOW_SAMPLES)


async def transcribe(part: RecordedPart) -> Transcription:
    return Transcription(str(len(part.speech)), "")


def recorder() -> Recording:
    return Recording(LoudnessVad(), max_seconds=PART_SECONDS)


async def test_a_long_recording_is_cut_in_its_pauses() -> None:
    heard: list[RecordedPart] = []

    async def noted(part: RecordedPart) -> Transcription:
        heard.append(part)
        return Transcription(f"part {len(heard)}", "fr")

    kept = recorder()
    parts = LongRecording(kept, noted, 600)
    whole = b"".join(speech(400) + silence(20) for _ in range(20))
    for at in range(0, len(whole), 2 * WINDOW_SAMPLES * 100):
        await parts.feed(whole[at : at + 2 * WINDOW_SAMPLES * 100])
        assert len(kept.pcm) <= PART_SECONDS * BYTES_PER_SECOND
    result = await parts.joined(Transcription("the end", ""))
    assert result == Transcription(" ".join([*(f"part {number}" for number in range(1, 5)), "the end"]), "fr")
    assert b"".join([*(part.pcm for part in heard), bytes(kept.pcm)]) == whole
    for part in heard:
        assert len(part.speech) == len(part.pcm) / WINDOW_SAMPLES / 2
        assert part.speech[-1] < 0.5
    assert (parts.full, parts.overflowed) == (False, False)


async def test_speech_without_a_pause_is_cut_all_the_same() -> None:
    parts = LongRecording(recorder(), transcribe, 600)
    await parts.feed(speech(PART_WINDOWS + 1))
    assert (await parts.joined(Transcription("1", ""))).text == f"{PART_WINDOWS} 1"


async def test_what_is_too_much_is_known() -> None:
    kept = recorder()
    parts = LongRecording(kept, transcribe, 100)
    await parts.feed(silence(100 * RATE // WINDOW_SAMPLES))
    assert (parts.full, parts.overflowed) == (True, False)
    await parts.feed(silence(1))
    assert parts.overflowed
    assert kept.room_bytes > 0


async def test_a_part_that_fails_fails_the_recording() -> None:
    async def fails(part: RecordedPart) -> Transcription:
        raise SpeechToTextError("out of order")

    parts = LongRecording(recorder(), fails, 600)
    await parts.feed(silence(PART_WINDOWS + 1))
    with pytest.raises(SpeechToTextError):
        await parts.joined(Transcription("", ""))
    parts.close()
