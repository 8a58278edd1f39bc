"""A recording that is longer than what is kept of it: full parts are transcribed while the rest comes."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from satellite.audio.pcm import BYTES_PER_SECOND
from satellite.engines.protocols import SPEECH_PROBABILITY, Transcription
from satellite.pipeline.recorder import Recorder
from satellite.tasks import begin_task, failure_of

PART_SECONDS = 60.0
"""Audio that is kept at a time, so much once more while it is transcribed."""

_CUT_SECONDS = 15.0
"""How far back the pause is looked for at which a part ends."""


@dataclass(frozen=True, slots=True)
class Part:
    """Audio with the VAD's probability for each window of it."""

    pcm: bytes
    speech: Sequence[float]


class Parts:
    """One recording, kept in a recorder that has room for `PART_SECONDS`; `transcribe` is called for each full part.

    One part is transcribed at a time: whoever sends faster waits.
    """

    def __init__(
        self, recorder: Recorder, transcribe: Callable[[Part], Awaitable[Transcription]], max_seconds: float
    ) -> None:
        """Take up to `max_seconds`."""
        self.lost = False
        """Whether there was more than could be taken."""

        self._recorder = recorder
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
        """Whether the recorder holds the last part only."""
        return bool(self._done) or self._task is not None

    async def feed(self, pcm: bytes) -> None:
        """Take audio, as much as there is room for. Raises as `transcribe` does."""
        self.lost = self.lost or len(pcm) > self._left_bytes
        pcm = pcm[: self._left_bytes]
        self._left_bytes -= len(pcm)
        while pcm:
            room = self._recorder.room_bytes
            await self._recorder.feed(pcm[:room])
            pcm = pcm[room:]
            if self._recorder.full and (pcm or not self.full):
                await self._finished()
                self._task = begin_task(self._transcribed(self._cut()), "transcribe a part")
                self._task.add_done_callback(failure_of)  # it is raised where the words are asked for, if anybody does

    async def joined(self, last: Transcription) -> Transcription:
        """Return the words of the whole recording, `last` being those of its last part. Raises as `transcribe` does."""
        await self._finished()
        done = [*self._done, last]
        text = " ".join(part.text for part in done if part.text)
        return Transcription(text, next((part.language for part in done if part.text), last.language))

    def close(self) -> None:
        """Drop what is under way; may be called twice."""
        if self._task is not None:
            self._task.cancel()

    async def _finished(self) -> None:
        if self._task is not None:
            self._done.append(await self._task)
            self._task = None

    async def _transcribed(self, part: Part) -> Transcription:
        return await self._transcribe(part)

    def _cut(self) -> Part:
        """Take out of the recorder what stands before the middle of the longest pause near its end."""
        speech = self._recorder.speech
        first = max(1, len(speech) - int(_CUT_SECONDS / self._recorder.window_seconds))
        best = begin = length = 0
        for index in range(first, len(speech)):
            length = length + 1 if speech[index] < SPEECH_PROBABILITY else 0
            if length > best:
                best, begin = length, index - length + 1
        return Part(*self._recorder.take(begin + best // 2 if best else len(speech)))
