"""Transcripts of a recording that is not over yet: in the speaker's pauses, and while somebody speaks."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from satellite.clock import monotonic
from satellite.config.settings import SttSettings
from satellite.engines.protocols import AFTER_SPEECH_SECONDS, SPEECH_PROBABILITY, Transcriber, Transcription
from satellite.errors import SatelliteError
from satellite.pipeline.recording import Recording
from satellite.tasks import begin_task, failure_of

_LOGGER = logging.getLogger(__name__)

_LEAST_PACE = 0.5
"""Part of the silence that must have passed on the clock: audio that comes all at once is transcribed once, whole."""

_INTERVAL_SECONDS = 0.5
"""Audio from one partial transcript to the next."""

_LONGEST_SECONDS = 20.0
"""Audio after which none is begun: each takes as long as all of the audio does, and a command is shorter."""

_CPU_SHARE = 0.1
"""Part of the interval that a partial transcript may take on a CPU under `auto`: it leaves nine tenths of it idle."""


@dataclass(slots=True)
class SpeculationCount:
    """How many transcripts of pauses were begun, and how many of them proved to be of the whole recording."""

    begun: int = 0
    used: int = 0


class SpeculativeTranscript:
    """Transcribes one recording in its pauses, and at its end.

    Whatever ends a recording, turn detection here or a client with its `audio-stop`, waits for silence first: a
    transcription that begins in this silence is ready when the wait is over. It is begun once after every stretch of
    speech that a pause of `AFTER_SPEECH_SECONDS` follows, one at a time, and only while the engine is `idle`, since
    finished commands come first. If more speech follows it is dropped, otherwise it is the transcript of the whole
    recording, because a transcriber ignores later silence.
    """

    def __init__(
        self,
        recording: Recording,
        transcribe: Callable[[], Coroutine[Any, Any, Transcription]],
        idle: Callable[[], bool],
        count: SpeculationCount,
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`transcribe` is called to transcribe the recording as it is at that moment."""
        self._recording = recording
        self._transcribe = transcribe
        self._idle = idle
        self._count = count
        self._clock = clock
        self._task: asyncio.Task[Transcription] | None = None
        self._seen = 0  # windows of the recording that were examined
        self._speech_end = 0  # the window after the last speech
        self._speech_at = 0.0  # when that speech came

    @property
    def task(self) -> asyncio.Task[Transcription] | None:
        """The transcription of all speech so far, under way or done; None without one. Not to be cancelled."""
        return self._task

    def update(self) -> None:
        """Drop a transcript that speech has followed, begin one in a pause; call it when audio was added."""
        self._find_speech()
        if self._task is None and self._paused() and self._idle():
            self._count.begun += 1
            self._task = begin_task(self._transcribe(), "speculative transcript")
            self._task.add_done_callback(_log_failure)

    async def result(self) -> Transcription:
        """Return what was said in all of the recording, which must have ended. Raises as `transcribe` does."""
        self._find_speech()
        if self._task is not None:
            try:
                transcription = await self._task
            except SatelliteError:
                return await self._transcribe()
            self._count.used += 1
            return transcription
        return await self._transcribe()

    def close(self) -> None:
        """Drop the transcript; may be called twice."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def _find_speech(self) -> None:
        speech = self._recording.speech
        if len(speech) < self._seen:  # the recording has dropped the end of the wake word
            self.close()
            self._seen = self._speech_end = 0
        for index in range(self._seen, len(speech)):
            if speech[index] >= SPEECH_PROBABILITY:
                self.close()
                self._speech_end, self._speech_at = index + 1, self._clock()
        self._seen = len(speech)

    def _paused(self) -> bool:
        silence_seconds = (self._seen - self._speech_end) * self._recording.window_seconds
        if not self._speech_end or silence_seconds < AFTER_SPEECH_SECONDS:
            return False
        return self._clock() - self._speech_at >= _LEAST_PACE * silence_seconds


def _log_failure(task: asyncio.Task[Transcription]) -> None:
    # At debug level only: when the transcript is needed, it is made again, and that failure is reported.
    if (error := failure_of(task)) is not None:
        _LOGGER.debug("a speculative transcript failed: %s", error)


class PartialTranscripts:
    """The words of one recording while somebody still speaks, as far as they are unlikely to change.

    LocalAgreement-2 of D. Macháček et al., “Turning Whisper into Real-Time Transcription System” (2023): the audio so
    far is transcribed again and again, and the common beginning of two transcripts in a row counts as said.
    """

    def __init__(
        self,
        recording: Recording,
        transcribe: Callable[[], Coroutine[Any, Any, Transcription]],
        allowed: Callable[[], bool],
        on_agreed: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`transcribe` is called for the recording as it is at that moment; `on_agreed` with each longer text."""
        self._recording = recording
        self._transcribe = transcribe
        self._allowed = allowed
        self._on_agreed = on_agreed
        self._task: asyncio.Task[None] | None = None
        self._due = 0  # windows of the recording at which the next transcript begins
        self._agreed: list[str] = []
        self._latest: list[str] = []

    @property
    def text(self) -> str:
        """The agreed words."""
        return " ".join(self._agreed)

    def update(self) -> None:
        """Begin a transcript when one is due; call it when audio was added.

        None begins in a pause: so the engine is idle when the speculative transcript of the pause begins.
        """
        speech = self._recording.speech
        window_seconds = self._recording.window_seconds
        if not speech or speech[-1] < SPEECH_PROBABILITY or self._recording.pauses:
            return
        interval = round(_INTERVAL_SECONDS / window_seconds)
        self._due = self._due or len(speech) + interval  # the first, an interval after the beginning of the speech
        under_way = self._task is not None and not self._task.done()
        is_too_long = len(speech) * window_seconds > _LONGEST_SECONDS
        if len(speech) >= self._due and not under_way and not is_too_long and self._allowed():
            self._due = len(speech) + interval
            self._task = begin_task(self._run(), "partial transcript")

    def close(self) -> None:
        """Begin no more, and drop the current one; may be called twice."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            words = (await self._transcribe()).text.split()
        except SatelliteError:
            return  # the transcription of the whole recording fails too, and reports why
        before = len(self._agreed)
        self._agreed = agreed(self._agreed, self._latest, words)
        self._latest = words
        if len(self._agreed) > before:
            self._on_agreed(self.text)


def agreed(words: Sequence[str], earlier: Sequence[str], later: Sequence[str]) -> list[str]:
    """Return `words`, which are agreed already, with the following ones in which `earlier` and `later` agree.

    The last word of either does not count: it may be cut, or carry the full stop of a sentence that goes on. Where
    one of them does not begin with `words`, nothing is added; nothing is ever taken back.
    """
    said = list(words)
    if list(earlier[: len(said)]) != said or list(later[: len(said)]) != said:
        return said
    for one, other in zip(earlier[len(said) : -1], later[len(said) : -1], strict=False):
        if one != other:
            break
        said.append(one)
    return said


def rest(said: str, transcript: str) -> str | None:
    """Return what follows `said` in the `transcript`; None where it does not begin with that, as whole words."""
    if not transcript.startswith(said) or (said and transcript[len(said) :][:1].strip()):
        return None
    return transcript[len(said) :]


def partials_allowed(settings: SttSettings, transcriber: Transcriber) -> bool:
    """Return whether a partial transcript may begin now.

    It must not delay a transcript that is needed: the engine is idle, and usually faster than the pause before the
    next one. With `auto` it also needs a GPU, or a CPU that is hardly kept busy by it.
    """
    seconds = transcriber.usual_seconds
    if not settings.partials or seconds is None or seconds > AFTER_SPEECH_SECONDS or not transcriber.idle:
        return False
    on_gpu = transcriber.device.startswith("cuda")
    return settings.partials is True or on_gpu or seconds <= _CPU_SHARE * _INTERVAL_SECONDS
