"""Audio in: `transcribe` and `detect`."""

import asyncio
import time
from collections.abc import Sequence

from wyoming.asr import Transcribe, Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
from wyoming.event import Eventable
from wyoming.wake import Detect, Detection, NotDetected

from satellite.audio.pcm import seconds_of
from satellite.config.settings import nearest
from satellite.engines.protocols import Detection as HeardWord
from satellite.engines.protocols import Transcription, WakeStream
from satellite.errors import ProtocolError, SatelliteError, SpeechToTextError, WakeWordError, in_words, shown
from satellite.pipeline.completeness import Completeness
from satellite.pipeline.endpoint import Endpoint, EndpointState, scaled
from satellite.pipeline.long_recordings import PART_SECONDS, Part, Parts
from satellite.pipeline.partial_transcripts import Partials, allowed, rest
from satellite.pipeline.recorder import Recorder
from satellite.pipeline.source_pace import Pace
from satellite.pipeline.speculative_transcript import EarlyTranscript
from satellite.pipeline.stages import Stages
from satellite.services.info import PROGRAM, STT_ENGINE
from satellite.services.peer import Peer
from satellite.system.logs import log_words

_LATE_SECONDS = 0.1
"""The loop has stood still for so long: sound that has come meanwhile is read first."""


class _Recording:
    """One recording: what is done with it while it grows, and its answer."""

    def __init__(
        self,
        peer: Peer,
        stages: Stages,
        request: Transcribe,
        recorder: Recorder,
        endpoint: Endpoint | None,
        window_seconds: float,
    ) -> None:
        self.endpoint = endpoint
        self.told = False
        """Whether the client knows that the rest of it is lost."""

        self.pace = Pace()
        self._peer = peer
        self._stages = stages
        self._request = request
        self._recorder = recorder
        self._vocabulary = [*(request.transcript_names or ()), *(request.transcript_terms or ())]
        transcriber = stages.engines.transcriber.engine
        self._early = EarlyTranscript(
            recorder, window_seconds, self._transcribe, lambda: transcriber.idle, stages.early_transcripts
        )
        self._partials = Partials(
            recorder, window_seconds, self._transcribe, lambda: allowed(stages.config.stt, transcriber)
        )
        self._parts = Parts(recorder, self._transcribe_part, stages.config.wyoming.max_audio_seconds)
        self._sent = ""
        self._told: asyncio.Task[Transcription] | None = None

    @property
    def full(self) -> bool:
        """Whether no more audio is taken."""
        return self._parts.full

    @property
    def lost(self) -> bool:
        """Whether there was more than could be taken."""
        return self._parts.lost

    async def feed(self, pcm: bytes) -> None:
        """Record, and work ahead."""
        self.pace.take(seconds_of(pcm))
        await self._parts.feed(pcm)
        self._early.look()
        if self.endpoint is not None:
            await self._tell_words(self.endpoint)
        if self._parts.several:
            self._partials.close()
        elif not self._peer.answering:  # what comes before an earlier answer would be taken for part of it
            self._partials.look()
            await self._send_words()

    async def _tell_words(self, endpoint: Endpoint) -> None:
        """Let the endpoint know what the words so far say of the end, once they are known.

        A sentence that may go on ends as if they were not: the text is wanted at once, there is no answer to hear yet.
        """
        task = self._early.task
        if task is None or task is self._told or not task.done() or task.cancelled() or task.exception() is not None:
            return
        self._told, heard = task, task.result()
        if not heard.text:
            endpoint.restart()
            return
        words = await self._stages.completeness(heard.text, heard.language or self._request.language)
        if words in (Completeness.COMPLETE, Completeness.INCOMPLETE):
            endpoint.note(words)

    async def answer(self) -> None:
        """Send the text of all of it."""
        self._partials.close()
        result = await self._parts.joined(await self._early.result())
        log_words(self._peer.name, result.text)
        start, chunk, *end = _whole(result, self._request)
        following = rest(self._sent, result.text) if self._sent else None
        if following is not None:
            await self._peer.send(TranscriptChunk(text=following), *end)
        else:  # nothing was sent so far, or the model has thought better of a word that was
            await self._peer.send(start, chunk, *end)

    def close(self) -> None:
        """Drop the work ahead."""
        self._parts.close()
        self._partials.close()
        self._early.close()

    async def _send_words(self) -> None:
        following = rest(self._sent, self._partials.text)
        if following:
            if not self._sent:
                await self._peer.send(TranscriptStart(language=self._request.language, context=self._request.context))
            self._sent += following
            await self._peer.send(TranscriptChunk(text=following))

    async def _transcribe(self) -> Transcription:
        return await self._transcribe_part(self._recorder)

    async def _transcribe_part(self, part: Recorder | Part) -> Transcription:
        return await self._stages.transcribe(part, self._request.language, self._vocabulary)


def _whole(result: Transcription, request: Transcribe) -> list[Eventable]:
    """Return the events of a transcript of which nothing was sent before."""
    language, context = result.language or None, request.context
    return [
        TranscriptStart(language=language, context=context),
        TranscriptChunk(text=result.text),
        Transcript(text=result.text, language=language, context=context),
        TranscriptStop(),
    ]


class CommandListener:
    """`transcribe`: collects audio and answers with its text, once, at `audio-stop` or where the command ends.

    A command ends only in sound that comes as it is spoken: a recording that is sent at once is heard to its end. What
    comes behind the end of a command, up to `audio-stop`, is ignored.

    What was said is transcribed in pauses already, so that the answer is there when the audio stops. Where the machine
    has time for it, words that will hardly change are sent as `transcript-chunk` while somebody speaks; the chunks
    behind the last `transcript-start`, put together, are the text of the `transcript`.
    """

    def __init__(self, peer: Peer, stages: Stages, request: Transcribe) -> None:
        self._peer = peer
        self._stages = stages
        self._request = request
        self._recording: _Recording | None = None
        self._owed = True
        """Whether an answer has still to be given, or an error."""

        self._looking: asyncio.TimerHandle | None = None
        known = {stages.engines.transcriber.engine.model, PROGRAM, STT_ENGINE}
        if request.name is not None and request.name not in known:
            raise SpeechToTextError(
                f"unknown model '{shown(request.name)}'; {nearest(request.name, known)}", kind="unknown-model"
            )

    async def start(self) -> None:
        """Begin a new recording."""
        await self.close()
        config = self._stages.config
        vad = await self._stages.engines.vad.get(config.deadlines.load_seconds)
        endpoint = None
        if config.stt.own_endpoint:
            settings = scaled(config.endpoint, _text(self._request.vad_sensitivity))
            endpoint = Endpoint(settings, decides=False)
        self._stages.expect()
        recorder = Recorder(vad, threshold=config.vad.threshold, max_seconds=PART_SECONDS, endpoint=endpoint)
        self._recording = _Recording(self._peer, self._stages, self._request, recorder, endpoint, vad.window_seconds)
        self._owed = True

    async def feed(self, pcm: bytes, timestamp_ms: int | None) -> None:
        """Record; past the end of the command, and behind an error, audio is ignored."""
        if self._recording is None:
            return
        if not self._owed:
            self._note_loss(self._recording, pcm)
            return
        self._look_no_more()
        try:
            await self._recording.feed(pcm)
        except SatelliteError:
            await self.close()
            raise
        if self._recording.full:
            self._answer(self._recording)
            self._note_loss(self._recording, b"")
        else:
            self._look(self._recording)

    async def stop(self) -> None:
        """Answer, unless the end of the command was found before; without any audio, with no words."""
        self._look_no_more()
        if self._owed:
            self._answer(self._recording)
        self._recording = None

    async def finish(self) -> None:
        """Half a command is not answered."""
        await self.close()

    async def close(self) -> None:
        """Drop a recording that nobody has asked the text of."""
        self._look_no_more()
        if self._recording is not None and self._owed:
            self._recording.close()
        self._recording = None
        self._owed = False

    def _look(self, recording: _Recording) -> None:
        """Answer if the command is over; while more may come at any moment, look again when that is not so any more."""
        if recording.endpoint is None:
            return
        if (doubt_seconds := recording.pace.doubt_seconds) > 0:
            self._look_in(doubt_seconds, recording)
        elif recording.endpoint.decide() in (EndpointState.ENDED, EndpointState.NO_SPEECH):
            self._answer(recording)

    def _look_in(self, seconds: float, recording: _Recording) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds

        def look() -> None:
            if loop.time() > due + _LATE_SECONDS:
                self._look_in(_LATE_SECONDS, recording)
                return
            try:
                self._look(recording)
            except ProtocolError:  # too many requests are open; who sends `audio-stop` is told of it
                self._owed = True

        self._looking = loop.call_at(due, look)

    def _look_no_more(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None

    def _note_loss(self, recording: _Recording, more: bytes) -> None:
        """Tell once, behind the transcript, that what came when the recording was full is not in it."""
        if (recording.lost or (recording.full and more)) and not recording.told:
            recording.told = True
            self._peer.request(self._refuse_more)

    async def _refuse_more(self) -> None:
        longest = self._stages.config.wyoming.max_audio_seconds
        raise SpeechToTextError(
            f"the recording is longer than {longest:g} s (wyoming.max_audio_seconds); the rest is not transcribed",
            kind="too-long",
        )

    def _answer(self, recording: _Recording | None) -> None:
        self._owed = False
        try:
            self._peer.request(self._answer_silence if recording is None else recording.answer)
        except ProtocolError:  # too many requests are open
            if recording is not None:
                recording.close()
            raise

    async def _answer_silence(self) -> None:
        await self._peer.send(*_whole(Transcription("", self._request.language or ""), self._request))


class WakeListener:
    """`detect`: answers every wake word heard with `detection`, and silence about them with `not-detected`.

    An engine that fails is told once, and asked anew a little later: whoever listens must not go deaf with it.
    """

    def __init__(self, peer: Peer, stages: Stages, request: Detect, program: str | None) -> None:
        self._peer = peer
        self._stages = stages
        self._request = request
        self._program = program
        self._stream: WakeStream | None = None
        self._owed = True
        """Whether nothing was told yet, neither a detection nor an error."""

        self._first_ms = 0
        self._fed_seconds = 0.0
        self._again_at: float | None = None

    async def start(self) -> None:
        """Listen from the beginning of a new stream."""
        await self.close()
        await self._open()
        self._owed = True
        self._first_ms, self._fed_seconds = -1, 0.0

    async def _open(self) -> None:
        engine = await self._stages.wake_engine(self._program)
        self._stream = await engine.stream(self._request.names or None)
        self._again_at = None

    async def feed(self, pcm: bytes, timestamp_ms: int | None) -> None:
        """Listen on, and report what is heard; behind an error, audio is ignored for a while."""
        if self._first_ms < 0:
            self._first_ms = timestamp_ms or 0
        try:
            if self._again_at is not None and time.monotonic() >= self._again_at:
                await self._open()
                self._first_ms += round(1000 * self._fed_seconds)
                self._fed_seconds = 0.0
            self._fed_seconds += seconds_of(pcm)
            detections = await self._stream.feed(pcm) if self._stream is not None else []
        except Exception as error:  # the engine seam: whatever it is, the next try may go well
            self._drop()
            self._owed = False
            seconds = self._stages.background.note("wake word of clients", error)
            self._again_at = time.monotonic() + seconds
            if isinstance(error, SatelliteError):
                raise
            raise WakeWordError(in_words(error), kind="failed") from error
        await self._report(detections)

    async def stop(self) -> None:
        """The audio is over, or there was none."""
        try:
            if self._stream is not None:
                await self._report(await self._stream.end())
            if self._owed:
                await self._peer.send(NotDetected(context=self._request.context))
        finally:
            await self.close()

    async def finish(self) -> None:
        """Nobody says anything any more."""
        await self.close()

    async def close(self) -> None:
        """Forget the stream."""
        self._owed = False
        self._again_at = None
        self._drop()

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    async def _report(self, detections: Sequence[HeardWord]) -> None:
        for detection in detections:
            self._owed = False
            self._stages.expect()
            at_ms = self._first_ms + round(detection.seconds * 1000)
            await self._peer.send(Detection(name=detection.name, timestamp=at_ms, context=self._request.context))


def _text(value: object) -> str | None:
    """Return an enum's or a plain value's text."""
    return None if value is None else str(getattr(value, "value", value))
