"""Speech to text for a client: `transcribe`, its audio, and the transcript."""

import asyncio

from wyoming.asr import Transcribe, Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
from wyoming.event import Eventable

from satellite.audio.pcm import seconds_of
from satellite.config.settings import nearest
from satellite.engines.protocols import Transcription, VoiceActivityDetector
from satellite.errors import ProtocolError, SatelliteError, SpeechToTextError, shown
from satellite.pipeline.completeness import Completeness
from satellite.pipeline.long_recording import PART_SECONDS, LongRecording, RecordedPart
from satellite.pipeline.recording import CommandRecording, Recording
from satellite.pipeline.stages import Stages
from satellite.pipeline.transcripts import PartialTranscripts, SpeculativeTranscript, partials_allowed, rest
from satellite.pipeline.turn_detection import TurnDetector, TurnState, scaled
from satellite.services.info import PROGRAM, STT_ENGINE
from satellite.services.peer import Listener, Peer
from satellite.services.source_pace import Arrivals, SourcePace
from satellite.system.logs import log_words

_LATE_SECONDS = 0.1
"""Delay of a timer that shows that the event loop was blocked: audio that has arrived meanwhile is read first."""


class _ClientRecording:
    """One recording of a client: its transcripts while it grows, and its answer."""

    def __init__(
        self,
        peer: Peer,
        stages: Stages,
        request: Transcribe,
        vad: VoiceActivityDetector,
        turn: TurnDetector | None,
        arrivals: Arrivals,
    ) -> None:
        self.turn = turn
        self.loss_reported = False
        """Whether the client knows that the end of it is lost."""

        self.pace = SourcePace(arrivals.arrived_at)
        self._arrivals = arrivals
        self._peer = peer
        self._stages = stages
        self._request = request
        config = stages.config
        self._part: Recording
        if turn is None:
            self._part = Recording(vad, max_seconds=PART_SECONDS)
        else:
            self._part = CommandRecording(vad, turn, threshold=config.vad.threshold, max_seconds=PART_SECONDS)
        self._vocabulary = [*(request.transcript_names or ()), *(request.transcript_terms or ())]
        transcriber = stages.engines.transcriber.engine
        self._speculative = SpeculativeTranscript(
            self._part, self._transcribe, lambda: transcriber.idle, stages.speculative_transcripts
        )
        self._partials = PartialTranscripts(
            self._part, self._transcribe, lambda: partials_allowed(config.stt, transcriber)
        )
        self.whole = LongRecording(self._part, self._transcribe_part, config.wyoming.max_audio_seconds)
        self._sent = ""
        self._judged: asyncio.Task[Transcription] | None = None  # the transcript that the turn detector knows

    async def feed(self, pcm: bytes) -> None:
        """Record, and transcribe what can be transcribed already."""
        self.pace.add(seconds_of(pcm), self._arrivals.arrived_at)
        await self.whole.feed(pcm)
        self._speculative.update()
        if self.turn is not None:
            await self._judge_words(self.turn)
        if self.whole.several:
            # The recording holds only its last part, so that its words are no longer the beginning of the text.
            self._partials.close()
        elif not self._peer.answering:  # before an earlier answer, the words would be taken for part of it
            self._partials.update()
            await self._send_partial()

    async def _judge_words(self, turn: TurnDetector) -> None:
        """Let the turn detector know how complete the words so far are, once they are known.

        A sentence that may go on ends as if its words were unknown: the client waits for the text, there is no answer
        to prepare meanwhile.
        """
        task = self._speculative.task
        if task is None or task is self._judged or not task.done() or task.cancelled() or task.exception() is not None:
            return
        # Once for each transcript: the words do not change, but more speech makes them unknown again.
        self._judged, heard = task, task.result()
        if not heard.text:
            turn.restart()
            return
        completeness = await self._stages.completeness(heard.text, heard.language or self._request.language)
        if completeness in (Completeness.COMPLETE, Completeness.INCOMPLETE):
            turn.set_completeness(completeness)

    async def answer(self) -> None:
        """Send the text of the whole recording."""
        self._partials.close()  # first, so that the engine is free for the transcript that is needed
        result = await self.whole.joined(await self._speculative.result())
        log_words(self._peer.name, result.text)
        start, chunk, *end = _transcript_events(result, self._request)
        following = rest(self._sent, result.text) if self._sent else None
        if following is not None:
            await self._peer.send(TranscriptChunk(text=following), *end)
        else:  # nothing was sent so far, or the final transcript differs from the words that were
            await self._peer.send(start, chunk, *end)

    def close(self) -> None:
        """Drop all transcripts."""
        self.whole.close()
        self._partials.close()
        self._speculative.close()

    async def _send_partial(self) -> None:
        following = rest(self._sent, self._partials.text)
        if following:
            if not self._sent:
                await self._peer.send(TranscriptStart(language=self._request.language, context=self._request.context))
            self._sent += following
            await self._peer.send(TranscriptChunk(text=following))

    async def _transcribe(self) -> Transcription:
        return await self._transcribe_part(self._part)

    async def _transcribe_part(self, part: Recording | RecordedPart) -> Transcription:
        return await self._stages.transcribe(part, self._request.language, self._vocabulary)


def _transcript_events(result: Transcription, request: Transcribe) -> list[Eventable]:
    """Return the events of a transcript of which nothing was sent before."""
    language, context = result.language or None, request.context
    return [
        TranscriptStart(language=language, context=context),
        TranscriptChunk(text=result.text),
        Transcript(text=result.text, language=language, context=context),
        TranscriptStop(),
    ]


class TranscribeListener(Listener):
    """`transcribe`: collects audio and answers with its text, once, at `audio-stop` or at the end of the command.

    Only live audio is searched for the end of a command: a recording that is sent at once is transcribed whole. Audio
    between the end of a command and `audio-stop` is ignored.

    Speech is transcribed in pauses already, so that the answer is ready when the audio stops. Where the machine has
    time for it, words that are unlikely to change are sent as `transcript-chunk` while somebody speaks; the chunks
    since the last `transcript-start`, joined, are the text of the `transcript`.
    """

    def __init__(self, peer: Peer, stages: Stages, request: Transcribe, arrivals: Arrivals) -> None:
        self._peer = peer
        self._stages = stages
        self._request = request
        self._arrivals = arrivals
        self._recording: _ClientRecording | None = None
        self._owed = True
        """Whether neither an answer nor an error was sent yet."""

        self._check: asyncio.TimerHandle | None = None
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
        turn = None
        if config.stt.own_endpoint:
            # Not automatic: whether the audio is live is known only after it was recorded.
            turn = TurnDetector(scaled(config.endpoint, _text(self._request.vad_sensitivity)), automatic=False)
        self._stages.expect()
        self._recording = _ClientRecording(self._peer, self._stages, self._request, vad, turn, self._arrivals)
        self._owed = True

    async def feed(self, pcm: bytes, timestamp_ms: int | None) -> None:
        """Record; after the end of the command, or an error, audio is ignored."""
        if self._recording is None:
            return
        if not self._owed:
            self._report_loss(self._recording, pcm)
            return
        self._cancel_check()
        try:
            await self._recording.feed(pcm)
        except SatelliteError:
            # The rest would be transcribed without its beginning; closing makes the next chunks be ignored.
            await self.close()
            raise
        if self._recording.whole.full:
            self._answer(self._recording)
            self._report_loss(self._recording, b"")
        else:
            self._answer_if_over(self._recording)

    async def stop(self) -> None:
        """Answer, unless the end of the command was found before; without any audio, with no words."""
        self._cancel_check()
        if self._owed:
            self._answer(self._recording)
        self._recording = None

    async def close(self) -> None:
        """Drop a recording whose text was not requested; half a command is not answered."""
        self._cancel_check()
        if self._recording is not None and self._owed:
            self._recording.close()
        self._recording = None
        self._owed = False

    def _answer_if_over(self, recording: _ClientRecording) -> None:
        """Answer if the command is over; check again later while more events wait or the audio may not be live."""
        if recording.turn is None:
            return
        if self._arrivals.waiting:  # what waits may go on with the command: the pause is only that of a busy machine
            self._check_in(_LATE_SECONDS, recording)
        elif (doubt_seconds := recording.pace.doubt_seconds) > 0:
            self._check_in(doubt_seconds, recording)
        elif recording.turn.decide() in (TurnState.ENDED, TurnState.NO_SPEECH):
            self._answer(recording)

    def _check_in(self, seconds: float, recording: _ClientRecording) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds

        def check() -> None:
            # After a blocked loop, timers run before sockets are read: audio that shows more speech may be waiting.
            if loop.time() > due + _LATE_SECONDS:
                self._check_in(_LATE_SECONDS, recording)
                return
            try:
                self._answer_if_over(recording)
            except ProtocolError:  # too many requests are open; a client that sends `audio-stop` is told so
                self._owed = True

        self._check = loop.call_at(due, check)

    def _cancel_check(self) -> None:
        if self._check is not None:
            self._check.cancel()
            self._check = None

    def _report_loss(self, recording: _ClientRecording, more: bytes) -> None:
        """Report once, after the transcript, that audio after the recording was full is not in it."""
        if (recording.whole.overflowed or (recording.whole.full and more)) and not recording.loss_reported:
            recording.loss_reported = True
            self._peer.request(self._refuse_more)

    async def _refuse_more(self) -> None:
        longest = self._stages.config.wyoming.max_audio_seconds
        raise SpeechToTextError(
            f"the recording is longer than {longest:g} s (wyoming.max_audio_seconds); the rest is not transcribed",
            kind="too-long",
        )

    def _answer(self, recording: _ClientRecording | None) -> None:
        self._owed = False
        try:
            self._peer.request(self._answer_silence if recording is None else recording.answer)
        except ProtocolError:  # too many requests are open
            if recording is not None:
                recording.close()
            raise

    async def _answer_silence(self) -> None:
        silence = Transcription("", self._request.language or "")
        await self._peer.send(*_transcript_events(silence, self._request))


def _text(value: object) -> str | None:
    """Return the text of an enum or of a plain value."""
    return None if value is None else str(getattr(value, "value", value))
