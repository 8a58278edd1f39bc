"""A recording that is longer than what is kept of it: full parts are transcribed while the rest comes."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from satellite.audio.pcm import BYTES_PER_SECOND
from satellite.engines.protocols import SPEECH_PROBABILITY, Transcription
from satellite.pipeline.recording import Recording
from satellite.tasks import begin_task, failure_of

PART_SECONDS = 60.0
"""Audio that is kept at a time, and once more while it is transcribed."""

_CUT_SECONDS = 15.0
"""How far from the end of a full part its last pause is searched, at which it is cut."""


@dataclass(frozen=True, slots=True)
class RecordedPart:
    """Audio with the VAD's probability for each window of it."""

    pcm: bytes
    speech: Sequence[float]


class LongRecording:
    """One recording of up to `max_seconds`, of which `recording` holds the part that is not transcribed yet.

    One part is transcribed at a time: a client that sends faster has to wait.
    """

    def __init__(
        self,
        recording: Recording,
        transcribe: Callable[[RecordedPart], Coroutine[Any, Any, Transcription]],
        max_seconds: float,
    ) -> None:
        """`recording` has room for `PART_SECONDS`; `transcribe` is called for each full part."""
        self.overflowed = False
        """Whether there was more audio than `max_seconds`."""

        self._recording = recording
        self._transcribe = transcribe
        self._left_bytes = int(max_seconds * BYTES_PER_SECOND)
        self._done: list[Transcription] = []
        self._task: asyncio.Task[Transcription] | None = None

    @property
    def full(self) -> bool:
        """Whether no more audio is taken."""
        return self._left_bytes <= 0

    @property
    def several(self) -> bool:
        """Whether `recording` holds only the last of several parts."""
        return bool(self._done) or self._task is not None

    async def feed(self, pcm: bytes) -> None:
        """Add as much of `pcm` as there is room for. Raises as `transcribe` does."""
        self.overflowed = self.overflowed or len(pcm) > self._left_bytes
        pcm = pcm[: self._left_bytes]
        self._left_bytes -= len(pcm)
        while pcm:
            room = self._recording.room_bytes
            await self._recording.feed(pcm[:room])
            pcm = pcm[room:]
            # A full recording that is over stays whole: its end is transcribed by its owner.
            if self._recording.full and (pcm or not self.full):
                await self._finish_part()
                self._task = begin_task(self._transcribe(self._cut()), "transcribe a part")
                # Its failure is raised where the result is needed, which a client that leaves never asks for.
                self._task.add_done_callback(failure_of)

    async def joined(self, last: Transcription) -> Transcription:
        """Return the text of all parts, `last` being that of the last one. Raises as `transcribe` does."""
        await self._finish_part()
        done = [*self._done, last]
        text = " ".join(part.text for part in done if part.text)
        return Transcription(text, next((part.language for part in done if part.text), last.language))

    def close(self) -> None:
        """Drop the part that is being transcribed; may be called twice."""
        if self._task is not None:
            self._task.cancel()

    async def _finish_part(self) -> None:
        if self._task is not None:
            self._done.append(await self._task)
            self._task = None

    def _cut(self) -> RecordedPart:
        """Take a part out of the recording, up to the middle of the longest pause near its end."""
        speech = self._recording.speech
        first = max(1, len(speech) - int(_CUT_SECONDS / self._recording.window_seconds))
        best = begin = length = 0
        for index in range(first, len(speech)):
            length = length + 1 if speech[index] < SPEECH_PROBABILITY else 0
            if length > best:
                best, begin = length, index - length + 1
        return RecordedPart(*self._recording.take(begin + best // 2 if best else len(speech)))
