"""One run, in reading order: wake word -> speech to text -> chat model -> text to speech.

The end of a command costs most of the time, so the work does not wait for it: at each pause the rest of the run begins
behind a closed gate (`guess.py`), and leaves at once when the endpoint says that the command is over. Until there
is something to leave, the endpoint waits for more: whoever goes on is heard, and nobody else loses time.

A run's only output is `emit`: events for every step, `Speech` for the sound of the answer; it is called for one at a
time. Awaiting it is the back-pressure: between the chat model and the voice lies room for the longest answer, so that
the model writes at its own pace, and between the voice and `emit` room for some seconds of sound (`gate.py`). Past
these, no more is synthesised. Cancelling `Run.execute` at any point ends the run: nothing outlives it. However it
ends, the bus is told so.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial

from satellite.audio.pcm import audio_after, seconds_of
from satellite.engines.protocols import Detection
from satellite.errors import STAGE_ERRORS, SatelliteError, SpeechToTextError, Stage, StageError, WakeWordError, in_words
from satellite.events import (
    RunBus,
    RunEnd,
    RunEvent,
    RunFailed,
    RunStart,
    SttEnd,
    SttStart,
    SttVadEnd,
    SttVadStart,
    WakeWordEnd,
    WakeWordStart,
)
from satellite.pipeline.answer import Answer
from satellite.pipeline.audio_queue import AudioInbox
from satellite.pipeline.commit_gate import Gate
from satellite.pipeline.dialogue import Question
from satellite.pipeline.endpoint import Endpoint, EndpointState, scaled
from satellite.pipeline.partial_transcripts import Partials, allowed
from satellite.pipeline.recorder import Recorder
from satellite.pipeline.request import Emit, RunRequest, Speech
from satellite.pipeline.speculation import Guess
from satellite.pipeline.stages import Stages

_LOGGER = logging.getLogger(__name__)

_LEVELS = {
    "wake-not-detected": logging.DEBUG,
    "stt-no-speech": logging.INFO,
    "stt-no-text-recognized": logging.INFO,
}
"""How loud the log is where nothing is wrong: people speak who do not mean the daemon."""


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
        """Prepare a run; `heard_seconds` tells how much of its sound was heard, without it all that was sent."""
        self._heard_seconds = heard_seconds
        self._stages = stages
        self._bus = bus
        self._request = request
        self._identity = request.identity
        self._emit_to_room = emit
        self._stage = request.start
        self._refused: Exception | None = None
        """What the room has failed with."""

        self._ended = False
        """Whether the bus knows that it has ended."""

        self._leftover = b""
        self._guess: Guess | None = None
        self._dropped: list[Guess] = []
        self._answer: Answer | None = None

    @property
    def _conversation(self) -> str:
        """The name of the conversation that it goes on with."""
        return self._request.conversation or f"room {self._request.room}"

    @property
    def answer(self) -> str:
        """What the chat model has answered so far."""
        return "" if self._answer is None else self._answer.text

    async def execute(self, audio: AudioInbox) -> bool:
        """Run to the end and return whether it succeeded.

        A failure of a stage is emitted as an `error` event, not raised. What passes: cancellation, and the
        errors of `emit` itself, when the room has gone.
        """
        try:
            request = self._request
            text = request.text if request.start is Stage.TTS else ""  # no other event says what is spoken
            await self._emit(RunStart(self._identity, request.start, request.end, text))
            failure = await self._failure(audio)
            if failure is not None:
                await self._tell_failure(failure)
            await self._emit(RunEnd(self._identity))
        finally:
            if not self._ended:  # it was cancelled, or the room has gone
                self._publish(RunEnd(self._identity, cancelled=True))
        return failure is None

    async def _failure(self, audio: AudioInbox) -> SatelliteError | None:
        """Run the stages in order, and return why one has failed; raises what `emit` raises."""
        request = self._request
        try:
            await self._stages_in_order(audio)
        except Exception as error:  # the run boundary: whatever broke, the room is told
            if error is self._refused:
                raise
            if isinstance(error, SatelliteError):
                return error
            _LOGGER.exception(
                "run %s in %s: unexpected failure",
                request.run_id,
                request.room,
                extra={"run": request.run_id, "room": request.room},
            )
            return SatelliteError(in_words(error))
        return None

    async def _stages_in_order(self, audio: AudioInbox) -> None:
        try:
            if self._request.includes(Stage.WAKE):
                await self._wake(audio)
            if self._request.includes(Stage.STT):
                await self._command(audio)
            else:
                await self._text()
        finally:
            self._drop_guess()
            for dropped in self._dropped:
                await dropped.ended()

    async def _text(self) -> None:
        request = self._request
        if not request.text.strip():
            raise STAGE_ERRORS[request.start]("there is no text to begin with", kind="empty")

        async def work(guess: Guess) -> None:
            answer = self._new_answer(guess.gate)
            if request.start is Stage.TTS:
                await answer.say(request.text)
            else:
                await answer.to(self._question(request.text, request.language))

        self._guess = Guess(0.0, self._deliver, self._publish, work)
        await self._guess.commit()

    async def _wake(self, audio: AudioInbox) -> None:
        self._stage = Stage.WAKE
        await self._emit(WakeWordStart(self._identity))
        engine = await self._stages.wake_engine()
        stream = await engine.stream(self._request.wake_words)
        audio.lossy = True
        heard_seconds = 0.0
        try:
            limit = asyncio.timeout(self._stages.config.deadlines.wake_seconds or None)
            async with limit, aclosing(aiter(audio)) as chunks:
                async for pcm in chunks:
                    heard_seconds += seconds_of(pcm)
                    if detections := await stream.feed(pcm):
                        self._leftover = audio_after(pcm, heard_seconds, detections[0].seconds)
                        await self._called(detections[0])
                        return
                if detections := await stream.end():
                    await self._called(detections[0])
                    return
        except TimeoutError as late:
            raise WakeWordError("no wake word was heard in time", kind="timeout") from late
        finally:
            audio.lossy = False
            stream.close()
        raise WakeWordError("the audio ended before a wake word was heard", kind="not-detected")

    async def _called(self, detection: Detection) -> None:
        self._stages.expect(self._conversation, self._request.persona)
        await self._emit(WakeWordEnd(self._identity, detection.name, detection.seconds))

    async def _command(self, audio: AudioInbox) -> None:
        """Record a command, and answer it: what was guessed at the pause that proves to be its end, or anew."""
        self._stage = Stage.STT
        await self._emit(SttStart(self._identity))
        recorder = await self._recorder()
        partials = self._partials(recorder)
        try:
            await self._record(recorder, audio, partials)
            partials.close()
            audio.lossy = True  # what comes from now on is not part of the command
            self._drop_if_stale(recorder)
            guess = self._guess = self._guess or self._guessed(recorder, audio)
            await guess.commit()
        finally:
            partials.close()

    async def _recorder(self) -> Recorder:
        config = self._stages.config
        vad = await self._stages.engines.vad.get(config.deadlines.load_seconds)
        settings = scaled(config.endpoint, self._request.vad_sensitivity)
        if self._request.no_speech_seconds:
            settings = settings.model_copy(update={"no_speech_seconds": self._request.no_speech_seconds})
        return Recorder(
            vad,
            threshold=config.vad.threshold,
            max_seconds=config.endpoint.max_command_seconds,
            endpoint=Endpoint(settings),
            after_wake_word=self._request.start is Stage.WAKE or self._request.after_wake_word,
        )

    def _partials(self, recorder: Recorder) -> Partials:
        """Return what finds words while they are spoken, if there is time for it: the chat model reads them ahead."""
        stages, request = self._stages, self._request
        transcriber = stages.engines.transcriber.engine
        return Partials(
            recorder,
            stages.engines.vad.engine.window_seconds,
            lambda: stages.transcribe(recorder, request.language),
            lambda: request.includes(Stage.CHAT) and allowed(stages.config.stt, transcriber),
            lambda words: stages.expect(self._conversation, request.persona, words),
        )

    async def _record(self, recorder: Recorder, audio: AudioInbox, partials: Partials) -> None:
        """Record the command; it ends by silence, by its cap, or with the audio."""
        endpoint = self._stages.config.endpoint
        # Audio that stops coming must end the command as well: the clock is the second bound.
        limit_seconds = endpoint.max_command_seconds + endpoint.no_speech_seconds
        try:
            async with asyncio.timeout(limit_seconds), asyncio.timeout(endpoint.no_speech_seconds) as gap:
                await self._fill(recorder, audio, partials, gap)
        except TimeoutError as late:
            raise SpeechToTextError("no more audio came", kind="stream-failed") from late

    async def _fill(self, recorder: Recorder, audio: AudioInbox, partials: Partials, gap: asyncio.Timeout) -> None:
        speaking = False
        async with aclosing(_preceded(self._leftover, audio)) as chunks:
            async for pcm in chunks:
                gap.reschedule(asyncio.get_running_loop().time() + self._stages.config.endpoint.no_speech_seconds)
                state = await recorder.feed(pcm)
                if state is EndpointState.NO_SPEECH:
                    raise SpeechToTextError("nobody spoke", kind="no-speech")
                if not speaking and state in (EndpointState.SPEAKING, EndpointState.ENDED):
                    speaking = True
                    await self._emit(SttVadStart(self._identity))
                if state is EndpointState.ENDED:
                    break
                partials.look()
                self._drop_if_stale(recorder)
                if self._guess is None and recorder.pauses:
                    self._guess = self._guessed(recorder, audio)
        if speaking:
            silence_seconds = round(recorder.silence_seconds, 3)
            await self._emit(SttVadEnd(self._identity, silence_seconds, self._guesses))

    # What the command may have been.

    @property
    def _guesses(self) -> int:
        """How many pauses were taken for the end."""
        return len(self._dropped) + (self._guess is not None)

    def _guessed(self, recorder: Recorder, audio: AudioInbox) -> Guess:
        """Begin to answer what is recorded so far; until there is an answer to hear, there is time to wait for more."""

        def on_ready(guess: Guess) -> None:
            if guess is self._guess:
                recorder.release()
                audio.nudge()

        recorder.hold()
        work = partial(self._understand, recorder, audio)
        return Guess(recorder.last_speech_at, self._deliver, self._publish, work, on_ready)

    def _drop_if_stale(self, recorder: Recorder) -> None:
        if self._guess is not None and self._guess.last_speech_at != recorder.last_speech_at:
            self._drop_guess()

    def _drop_guess(self) -> None:
        guess, self._guess = self._guess, None
        if guess is not None:
            guess.drop()
            self._dropped.append(guess)

    async def _understand(self, recorder: Recorder, audio: AudioInbox, guess: Guess) -> None:
        """Transcribe what is recorded, tell the endpoint what the words say of the end, and answer them."""
        began = time.monotonic()
        heard = await self._stages.transcribe(recorder, self._request.language)
        text, language = heard.text, heard.language or self._request.language
        seconds = round(time.monotonic() - began, 3)
        await guess.gate.emit(SttEnd(self._identity, text, heard.language, seconds))
        words = await self._stages.completeness(text, language)
        if guess is self._guess and not guess.gate.is_open:
            recorder.note(words)
            audio.nudge()
        if not text:
            raise SpeechToTextError("no words were understood", kind="no-text-recognized")
        if self._request.includes(Stage.CHAT):
            await guess.worth_going_on(words)
            await self._new_answer(guess.gate).to(self._question(text, language))

    def _new_answer(self, gate: Gate) -> Answer:
        self._answer = Answer(self._stages, self._request, gate, heard_seconds=self._heard_seconds)
        return self._answer

    def _question(self, text: str, language: str | None) -> Question:
        request = self._request
        return Question(text, self._conversation, request.named_room, language, request.persona, place=request.room)

    # What is told.

    async def _tell_failure(self, error: SatelliteError) -> None:
        request = self._request
        stage = error.stage if isinstance(error, StageError) else self._answer.stage if self._answer else self._stage
        level = _LEVELS.get(error.code, logging.WARNING)
        fields = {"run": request.run_id, "room": request.room, "stage": stage.value, "code": error.code}
        _LOGGER.log(level, "run %s in %s: [%s] %s", request.run_id, request.room, error.code, error, extra=fields)
        await self._emit(RunFailed(self._identity, stage, error.code, str(error)))

    async def _emit(self, step: RunEvent) -> None:
        self._publish(step)
        await self._deliver(step)

    async def _deliver(self, step: RunEvent | Speech) -> None:
        try:
            await self._emit_to_room(step)
        except Exception as error:
            self._refused = error
            raise

    def _publish(self, step: RunEvent) -> None:
        self._ended = self._ended or isinstance(step, RunEnd)
        self._bus.publish(step)


async def _preceded(first: bytes, audio: AudioInbox) -> AsyncGenerator[bytes, None]:
    if first:
        yield first
    async with aclosing(aiter(audio)) as rest:
        async for pcm in rest:
            yield pcm
