"""The transcript of a command before the command is known to be over: it is made in the speaker's pause.

Whoever ends a command, an endpoint here or a client with its `audio-stop`, waits for silence first. A transcription
that begins in this silence is there when the wait is over. If the speaker goes on instead, it is dropped.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from satellite.engines.protocols import AFTER_SPEECH_SECONDS, SPEECH_PROBABILITY, Transcription
from satellite.errors import SatelliteError
from satellite.pipeline.recorder import Recorder
from satellite.tasks import begin_task, failure_of

_LOGGER = logging.getLogger(__name__)

_LEAST_PACE = 0.5
"""Part of the silence that must have passed on the clock: audio that comes all at once is transcribed once, whole."""


@dataclass(slots=True)
class EarlyCount:
    """What became of all early transcripts of a daemon."""

    begun: int = 0
    used: int = 0


class EarlyTranscript:
    """Transcribes one recording in its pauses, and at its end.

    `transcribe` is called to transcribe the recording as it is at that moment. It is called once behind every stretch
    of speech that a pause of `AFTER_SPEECH_SECONDS` follows, one at a time, and not while the engine is not `idle`:
    whoever has spoken to the end comes first. An early transcript that no speech followed is that of the whole
    recording, since a transcriber ignores what comes later; it is never used otherwise.
    """

    def __init__(
        self,
        recorder: Recorder,
        window_seconds: float,
        transcribe: Callable[[], Awaitable[Transcription]],
        idle: Callable[[], bool],
        count: EarlyCount,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._recorder = recorder
        self._window_seconds = window_seconds
        self._transcribe = transcribe
        self._idle = idle
        self._count = count
        self._clock = clock
        self._task: asyncio.Task[Transcription] | None = None
        self._seen = 0  # windows of the recording that were looked at
        self._speech_end = 0  # the window behind the last speech
        self._speech_at = 0.0  # when that speech came

    @property
    def task(self) -> asyncio.Task[Transcription] | None:
        """That of all that was said so far, under way or done; None while there is none. Not to be cancelled."""
        return self._task

    def look(self) -> None:
        """Drop the transcript where speech has followed, begin one in a pause; to be called when audio was added."""
        self._note_speech()
        if self._task is None and self._paused() and self._idle():
            self._count.begun += 1
            self._task = begin_task(self._run(), "early transcript")
            self._task.add_done_callback(_note_failure)

    async def result(self) -> Transcription:
        """Return what was said in all of the recording; to be called once it has ended. Raises as `transcribe` does."""
        self._note_speech()
        if self._task is not None:
            try:
                text = await self._task
            except SatelliteError:
                return await self._transcribe()
            self._count.used += 1
            return text
        return await self._transcribe()

    def close(self) -> None:
        """Drop the transcript; may be called twice."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> Transcription:
        return await self._transcribe()

    def _note_speech(self) -> None:
        speech = self._recorder.speech
        if len(speech) < self._seen:  # the recorder has dropped the end of the wake word
            self.close()
            self._seen = self._speech_end = 0
        for index in range(self._seen, len(speech)):
            if speech[index] >= SPEECH_PROBABILITY:
                self.close()
                self._speech_end, self._speech_at = index + 1, self._clock()
        self._seen = len(speech)

    def _paused(self) -> bool:
        silence_seconds = (self._seen - self._speech_end) * self._window_seconds
        if not self._speech_end or silence_seconds < AFTER_SPEECH_SECONDS:
            return False
        return self._clock() - self._speech_at >= _LEAST_PACE * silence_seconds


def _note_failure(task: asyncio.Task[Transcription]) -> None:
    """Log why it failed: if it is needed, the same is tried again, and told."""
    if (error := failure_of(task)) is not None:
        _LOGGER.debug("an early transcript failed: %s", error)
