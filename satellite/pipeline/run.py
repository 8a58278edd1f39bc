"""One run, in reading order: wake word -> speech to text -> chat model -> text to speech.

Waiting for the end of a command takes most of the time, so the work does not wait: at each pause the rest of the run
begins speculatively (`speculation.py`), and is committed when the turn detector decides that the command is over.
Until there is an answer to deliver, the detector waits for more speech, which costs nothing.

A run's only output is `emit`: an event for every step, `Speech` for the sound of the answer, one call at a time.
Awaiting it is the back-pressure: up to 5 s of sound are synthesised before the room has taken them, then synthesis
waits. The chat model never waits: the text buffer has room for the longest answer. Cancelling `Run.execute` at any
point ends the run, and nothing outlives it. However it ends, its end is published on the bus.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import aclosing, suppress
from functools import partial

from satellite.engines.protocols import Detection
from satellite.errors import STAGE_ERRORS, SatelliteError, SpeechToTextError, Stage, StageError, in_words
from satellite.events import (
    RunBus,
    RunEnd,
    RunEvent,
    RunFailed,
    RunStart,
    SttEnd,
    SttResumed,
    SttStart,
    SttVadEnd,
    SttVadStart,
    WakeWordEnd,
    WakeWordStart,
)
from satellite.pipeline.answer import RunAnswer
from satellite.pipeline.audio_queue import AudioInbox
from satellite.pipeline.dialogue import Question
from satellite.pipeline.recording import CommandRecording
from satellite.pipeline.request import Emit, RunRequest, Speech
from satellite.pipeline.speculation import CommitBuffer, Speculation, Speculations
from satellite.pipeline.stages import Stages
from satellite.pipeline.transcripts import PartialTranscripts, partials_allowed
from satellite.pipeline.turn_detection import TurnDetector, TurnState, repairable, scaled
from satellite.pipeline.wake_listener import LaterWakeWord, wait_for_wake_word
from satellite.tasks import begin_task, end_tasks

_LOGGER = logging.getLogger(__name__)


class Run:
    """One run of a room; `execute` once."""

    def __init__(
        self,
        stages: Stages,
        bus: RunBus,
        request: RunRequest,
        emit: Emit,
        *,
        heard_seconds: Callable[[], float] | None = None,
    ) -> None:
        """Prepare a run; `heard_seconds` returns how much of its sound was heard, without it all that was delivered."""
        self._heard_seconds = heard_seconds
        self._stages = stages
        self._bus = bus
        self._request = request
        self._identity = request.identity
        self._emit_to_room = emit
        self._stage = request.start
        self._refused = False
        """Whether the room failed to take a step: it has gone."""

        self._ended = False
        """Whether its end was published."""

        self.command_over = asyncio.Event()
        """Set once the run takes no more audio: there is no command, or the speaker cannot go on with it any more."""

        self._hears_itself = request.hears_itself
        self._speculations = Speculations()
        self._answer: RunAnswer | None = None
        self._later_wake_word = LaterWakeWord(stages, request.wake_words)
        """During a command, and after its end while it may go on."""

    @property
    def _conversation(self) -> str:
        """The name of the conversation that it continues."""
        return self._request.conversation or f"room {self._request.room}"

    @property
    def _repairs(self) -> bool:
        """Whether a speaker who goes on after the end is heard."""
        request = self._request
        return request.listens_on and request.includes(Stage.CHAT) and self._stages.config.endpoint.repair_seconds > 0

    @property
    def answer(self) -> str:
        """The answer so far."""
        return self._answer.text if self._answer else ""

    async def execute(self, audio: AudioInbox) -> bool:
        """Run to the end and return whether it succeeded.

        A failure of a stage is emitted as an `error` event, not raised. Raises only what `emit` raises when the room
        has gone.
        """
        try:
            request = self._request
            text = request.text if request.start is Stage.TTS else ""  # no other event says what is spoken
            await self._emit(RunStart(self._identity, request.start, request.end, text))
            failure = await self._failure(audio)
            if failure is not None:
                await self._emit_failure(failure)
            await self._emit(RunEnd(self._identity))
        finally:
            if not self._ended:  # it was cancelled, or the room has gone
                self._publish(RunEnd(self._identity, cancelled=True))
        return failure is None

    async def _failure(self, audio: AudioInbox) -> SatelliteError | None:
        """Run the stages in order, and return why one has failed; raises what `emit` raises."""
        try:
            await self._stages_in_order(audio)
        except Exception as error:  # the boundary of a run: whatever fails, the room gets an error and an end
            if self._refused:
                raise
            if isinstance(error, SatelliteError):
                return error
            fields = {"run": self._request.run_id, "room": self._request.room}
            _LOGGER.exception("run %(run)s in %(room)s: unexpected failure", fields, extra=fields)
            return SatelliteError(in_words(error))
        return None

    async def _stages_in_order(self, audio: AudioInbox) -> None:
        try:
            if self._request.includes(Stage.WAKE):
                await self._wake(audio)
            if self._request.includes(Stage.STT):
                await self._command(audio)
            else:
                self.command_over.set()
                await self._text()
        finally:
            # Awaited only here: while the command goes on, nothing may wait for work that is no longer needed.
            self._speculations.drop()
            await self._speculations.wait_ended()

    async def _text(self) -> None:
        request = self._request
        if not request.text.strip():
            raise STAGE_ERRORS[request.start]("there is no text to begin with", kind="empty")

        async def work(speculation: Speculation) -> None:
            answer = self._new_answer(speculation.output)
            if request.start is Stage.TTS:
                await answer.speak(request.text)
            else:
                await answer.reply_to(self._question(request.text, request.language))

        speculation = self._speculations.current = Speculation(0.0, self._deliver, self._publish, work)
        speculation.output.settle()
        await speculation.commit()

    async def _wake(self, audio: AudioInbox) -> None:
        self._stage = Stage.WAKE
        await self._emit(WakeWordStart(self._identity))
        detection = await wait_for_wake_word(self._stages, audio, self._request.wake_words)
        await self._emit(WakeWordEnd(self._identity, detection.name, detection.seconds))

    async def _command(self, audio: AudioInbox) -> None:
        """Record a command and answer it; a wake word in it, or after it while it may go on, begins another."""
        self._stage = Stage.STT
        after_wake_word = self._request.start is Stage.WAKE or self._request.after_wake_word
        try:
            while (detection := await self._one_command(audio, after_wake_word=after_wake_word)) is not None:
                audio.unread(self._later_wake_word.take())
                self._speculations.drop()
                await self._emit(WakeWordEnd(self._identity, detection.name, detection.seconds))
                after_wake_word = True
        finally:
            self._later_wake_word.take()

    async def _one_command(self, audio: AudioInbox, *, after_wake_word: bool) -> Detection | None:
        """Answer a command by the speculation of its last pause where there is one; return a wake word that ends it.

        A speaker who goes on after the end is recorded further, and all that was said is answered as one.
        """
        asks = self._request.includes(Stage.CHAT)
        self._stages.expect(self._question("", self._request.language) if asks else None)
        await self._emit(SttStart(self._identity))
        recording = await self._new_recording(after_wake_word=after_wake_word)
        if self._repairs:
            await self._later_wake_word.begin()
        partials = self._partial_transcripts(recording)
        try:
            answered = False
            while not answered:
                await self._record(recording, audio, partials)
                if (detection := self._later_wake_word.detection) is not None:
                    return detection
                partials.close()
                # Speech that came with the end of the audio makes the last speculation stale.
                self._speculations.outdate(recording.turn.last_speech_at)
                speculation = self._speculations.current or self._speculate(recording, audio)
                answered = await self._answered(speculation, recording, audio)
        finally:
            partials.close()
        return None

    async def _answered(self, speculation: Speculation, recording: CommandRecording, audio: AudioInbox) -> bool:
        """Deliver an answer; return False where the speaker has gone on, and it was withdrawn."""
        delivery = begin_task(speculation.commit(), "deliver an answer")
        delivery.add_done_callback(lambda _: audio.nudge())  # an answer that has failed is not listened through
        acts_in = max(0.0, self._stages.config.endpoint.act_seconds - recording.turn.silence_seconds)
        allowing = asyncio.get_running_loop().call_later(acts_in, speculation.output.allow_acts)
        try:
            if await self._goes_on(speculation.output, recording, audio, delivery):
                speculation.output.withdrawn = True
                # It may have been the answer that was heard: then the next one must not be silenced as well.
                if self._hears_itself is None and speculation.output.sounds:
                    self._hears_itself = True
                await end_tasks(delivery)  # before the room is asked to stop sounding, it must have been given all
                self._speculations.drop()
                await self._emit(SttResumed(self._identity))
                return False
            audio.lossy = True  # later audio is not part of the command
            self.command_over.set()
            speculation.output.settle()
            self._stages.pause_habits.add(self._request.room, recording.turn.longest_pause_seconds)
            await delivery
        finally:
            allowing.cancel()
            await end_tasks(delivery)
        return True

    async def _goes_on(
        self, output: CommitBuffer, recording: CommandRecording, audio: AudioInbox, delivery: asyncio.Task[None]
    ) -> bool:
        """Listen as long as the speaker may go on, and return whether they do."""
        seconds = self._stages.config.endpoint.repair_seconds - recording.turn.silence_seconds
        if not self._repairs or audio.ended or recording.full or seconds <= 0:
            return False
        recording.turn.listen_on()
        recorded = len(recording.pcm)
        # The clock as well as the audio: a microphone that is closed sends none.
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), aclosing(aiter(audio)) as chunks:
                async for pcm in chunks:
                    await self._hear(pcm, recording)
                    if output.settled or delivery.done() or (self._hears_itself and output.sounds):
                        break
                    if not recording.turn.listens_on or self._later_wake_word.detection:
                        audio.nudge()  # it may have ended again, which `_fill` sees only when it is given audio
                        return True
        audio.unread(bytes(recording.pcm[recorded:]))  # for what listens next, such as for the wake word
        return False

    async def _hear(self, pcm: bytes, recording: CommandRecording) -> None:
        await recording.feed(pcm)
        await self._later_wake_word.feed(pcm)

    async def _new_recording(self, *, after_wake_word: bool) -> CommandRecording:
        config = self._stages.config
        vad = await self._stages.engines.vad.get(config.deadlines.load_seconds)
        settings = scaled(config.endpoint, self._request.vad_sensitivity)
        if self._repairs and not self._hears_itself:
            settings = repairable(settings)
        settings = self._stages.pause_habits.adapted(self._request.room, settings)
        if self._request.no_speech_seconds:
            settings = settings.model_copy(update={"no_speech_seconds": self._request.no_speech_seconds})
        return CommandRecording(
            vad,
            TurnDetector(settings),
            threshold=config.vad.threshold,
            max_seconds=config.endpoint.max_command_seconds,
            after_wake_word=after_wake_word,
        )

    def _partial_transcripts(self, recording: CommandRecording) -> PartialTranscripts:
        """Return the partial transcripts, which the chat model reads ahead, where there is time for them."""
        stages, request = self._stages, self._request
        transcriber = stages.engines.transcriber.engine
        return PartialTranscripts(
            recording,
            lambda: stages.transcribe(recording, request.language),
            lambda: request.includes(Stage.CHAT) and partials_allowed(stages.config.stt, transcriber),
            lambda words: stages.expect(self._question(words, request.language)),
        )

    async def _record(self, recording: CommandRecording, audio: AudioInbox, partials: PartialTranscripts) -> None:
        """Record the command; it ends by silence, at its longest duration, or with the audio."""
        endpoint = self._stages.config.endpoint
        # The turn detector counts audio; where none comes any more, the clock ends a command.
        limit_seconds = endpoint.max_command_seconds + endpoint.no_speech_seconds
        try:
            async with asyncio.timeout(limit_seconds), asyncio.timeout(endpoint.no_speech_seconds) as gap:
                await self._fill(recording, audio, partials, gap)
        except TimeoutError as error:
            raise SpeechToTextError("no more audio came", kind="stream-failed") from error

    async def _fill(
        self, recording: CommandRecording, audio: AudioInbox, partials: PartialTranscripts, gap: asyncio.Timeout
    ) -> None:
        speaking = recording.state is TurnState.SPEAKING  # after a pause that was taken for the end
        async with aclosing(aiter(audio)) as chunks:
            async for pcm in chunks:
                # `nudge` counts as audio, too: the speculation that calls it has a deadline of its own.
                gap.reschedule(asyncio.get_running_loop().time() + self._stages.config.endpoint.no_speech_seconds)
                await self._hear(pcm, recording)
                if self._later_wake_word.detection is not None:
                    return
                if recording.state is TurnState.NO_SPEECH:
                    raise SpeechToTextError("nobody spoke", kind="no-speech")
                if not speaking and recording.state in (TurnState.SPEAKING, TurnState.ENDED):
                    speaking = True
                    await self._emit(SttVadStart(self._identity))
                if recording.state is TurnState.ENDED:
                    break
                partials.update()
                self._speculations.outdate(recording.turn.last_speech_at)
                if self._speculations.current is None and recording.pauses:
                    self._speculate(recording, audio)
        if speaking:
            silence, begun = round(recording.turn.silence_seconds, 3), self._speculations.begun
            await self._emit(SttVadEnd(self._identity, silence, begun))

    def _speculate(self, recording: CommandRecording, audio: AudioInbox) -> Speculation:
        """Begin to answer the recording so far; while there is nothing to deliver, the turn waits for more speech."""

        def on_ready(speculation: Speculation) -> None:
            if speculation is self._speculations.current:
                recording.turn.release()
                audio.nudge()  # the turn may be over now, which `_fill` sees only when it is given audio

        recording.turn.hold()
        work = partial(self._understand, recording, audio)
        begun = Speculation(recording.turn.last_speech_at, self._deliver, self._publish, work, on_ready)
        self._speculations.current = begun
        return begun

    async def _understand(self, recording: CommandRecording, audio: AudioInbox, speculation: Speculation) -> None:
        """Transcribe the recording, let the turn detector know how complete the words are, and answer them."""
        began = time.monotonic()
        heard = await self._stages.transcribe(recording, self._request.language)
        text, language = heard.text, heard.language or self._request.language
        speculation.heard = heard
        if speculation is self._speculations.current and self._speculations.replace_by_earlier():
            self._inform_turn(recording, audio)
            return
        await speculation.output.emit(SttEnd(self._identity, text, heard.language, round(time.monotonic() - began, 3)))
        speculation.output.completeness = await self._stages.completeness(text, language)
        # Words that were said since then, which another speculation will know, may continue these.
        if speculation is self._speculations.current:
            self._inform_turn(recording, audio)
        if not text:
            await speculation.output.wait_settled()  # until then the speaker may go on
            raise SpeechToTextError("no words were understood", kind="no-text-recognized")
        if self._request.includes(Stage.CHAT):
            await speculation.wait_if_incomplete()
            await self._new_answer(speculation.output).reply_to(self._question(text, language, recording))

    def _inform_turn(self, recording: CommandRecording, audio: AudioInbox) -> None:
        """Let the turn detector know what the current speculation has found out; the turn may be over now."""
        if (current := self._speculations.current) is not None and not current.output.committed:
            recording.turn.set_completeness(current.output.completeness)
            if current.ready:
                recording.turn.release()
            audio.nudge()

    def _new_answer(self, output: CommitBuffer) -> RunAnswer:
        self._answer = RunAnswer(self._stages, self._request, output, heard_seconds=self._heard_seconds)
        return self._answer

    def _question(self, text: str, language: str | None, recording: CommandRecording | None = None) -> Question:
        request, said = self._request, None if recording is None else (lambda: bytes(recording.pcm))
        about = (request.named_room, language, request.persona, request.room)
        return Question(text, self._conversation, *about, recording=said)

    async def _emit_failure(self, error: SatelliteError) -> None:
        stage = error.stage if isinstance(error, StageError) else self._answer.stage if self._answer else self._stage
        self._request.log(error, stage)
        await self._emit(RunFailed(self._identity, stage, error.code, str(error)))

    async def _emit(self, step: RunEvent) -> None:
        self._publish(step)
        await self._deliver(step)

    async def _deliver(self, step: RunEvent | Speech) -> None:
        self._refused = True  # until the room has taken the step; whatever it raises, nothing more is emitted
        try:
            await self._emit_to_room(step)
        except asyncio.CancelledError:  # of this run, which is not the room's fault
            self._refused = False
            raise
        self._refused = False

    def _publish(self, step: RunEvent) -> None:
        self._ended = self._ended or isinstance(step, RunEnd)
        self._bus.publish(step)
