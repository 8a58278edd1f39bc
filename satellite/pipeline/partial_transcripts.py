"""The words of a command while it is still spoken, as far as they will hardly change.

LocalAgreement-2 of D. Macháček et al., “Turning Whisper into Real-Time Transcription System” (2023): the audio so far
is transcribed again and again, and what two transcripts in a row have in common at their beginning counts as said.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from satellite.config.settings import SttSettings
from satellite.engines.protocols import AFTER_SPEECH_SECONDS, SPEECH_PROBABILITY, Transcriber, Transcription
from satellite.errors import SatelliteError
from satellite.pipeline.recorder import Recorder
from satellite.tasks import begin_task

_INTERVAL_SECONDS = 0.5
"""Audio from one partial to the next."""

_LONGEST_SECONDS = 20.0
"""Audio behind which no partial begins: each takes as long as all of the audio does, and a command is shorter."""

_COST = 0.1
"""Part of the interval that a partial may take on a CPU under `auto`: then the cores are idle for nine tenths of it."""


def agreed(words: Sequence[str], earlier: Sequence[str], later: Sequence[str]) -> list[str]:
    """Return `words`, which counted as said, with those behind them in which `earlier` and `later` agree.

    The last word of either does not count: it may be cut, and carries the full stop of a sentence that goes on. Where
    one of them no longer begins with `words`, nothing is added, and nothing is ever taken back.
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


class Partials:
    """Agreed words of one recording. `transcribe` is called to transcribe the recording as it is at that moment."""

    def __init__(
        self,
        recorder: Recorder,
        window_seconds: float,
        transcribe: Callable[[], Awaitable[Transcription]],
        allowed: Callable[[], bool],
        on_agreed: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`on_agreed` is told of all agreed words whenever there are more."""
        self._recorder = recorder
        self._window_seconds = window_seconds
        self._transcribe = transcribe
        self._allowed = allowed
        self._on_agreed = on_agreed
        self._task: asyncio.Task[None] | None = None
        self._due = 0  # windows of the recording at which the next partial begins
        self._said: list[str] = []
        self._latest: list[str] = []

    @property
    def text(self) -> str:
        """The agreed words."""
        return " ".join(self._said)

    def look(self) -> None:
        """Begin a partial when it is time; to be called whenever audio was added.

        It begins while somebody speaks and at no other time: thus it is over when a transcription begins in a pause.
        """
        speech = self._recorder.speech
        seconds = len(speech) * self._window_seconds
        if not speech or speech[-1] < SPEECH_PROBABILITY or self._recorder.pauses or seconds > _LONGEST_SECONDS:
            return
        interval = round(_INTERVAL_SECONDS / self._window_seconds)
        self._due = self._due or len(speech) + interval  # the first, an interval behind the beginning of the speech
        under_way = self._task is not None and not self._task.done()
        if len(speech) >= self._due and not under_way and self._allowed():
            self._due = len(speech) + interval
            self._task = begin_task(self._run(), "partial")

    def close(self) -> None:
        """Begin no more, and drop what is under way; may be called twice."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            words = (await self._transcribe()).text.split()
        except SatelliteError:
            return  # the transcription of the whole fails too, and tells why
        before = len(self._said)
        self._said = agreed(self._said, self._latest, words)
        self._latest = words
        if len(self._said) > before:
            self._on_agreed(self.text)


def allowed(settings: SttSettings, transcriber: Transcriber) -> bool:
    """Return whether a partial may begin now.

    It never delays what counts: the engine is idle, and a partial takes no longer than the pause behind which a command
    is transcribed. With `auto` it also needs a GPU, or a CPU that is hardly kept busy by it.
    """
    seconds = transcriber.usual_seconds
    if not settings.partials or seconds is None or seconds > AFTER_SPEECH_SECONDS or not transcriber.idle:
        return False
    on_gpu = transcriber.device.startswith("cuda")
    return settings.partials is True or on_gpu or seconds <= _COST * _INTERVAL_SECONDS
