"""One run, in reading order: wake word -> speech to text -> chat model -> text to speech.

A run's only output is `emit`: events for every step, `Speech` for the sound of the answer. Awaiting `emit` is the
back-pressure: while the listener does not take the sound, no more is synthesised. Cancelling `Run.execute` at any
point ends the run: every stage is a coroutine or a closed generator, nothing outlives it.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

from satellite.audio import seconds_of
from satellite.engines import ChatDelta, Message, Speaker, Transcription
from satellite.errors import (
    STAGE_ERRORS,
    ChatError,
    SatelliteError,
    SpeechToTextError,
    Stage,
    StageError,
    WakeWordError,
)
from satellite.events import EventBus, RunEvent, RunEventType
from satellite.turn.ahead import ahead
from satellite.turn.clauses import finished, is_finished
from satellite.turn.dialogue import Question
from satellite.turn.endpoint import Endpoint, EndpointSettings, EndpointState
from satellite.turn.inbox import AudioInbox
from satellite.turn.phrases import Phrase
from satellite.turn.recorder import Recorder
from satellite.turn.request import RunRequest, Speech
from satellite.turn.stages import Stages, once

_LOGGER = logging.getLogger(__name__)

_LEVELS = {
    "wake-not-detected": logging.DEBUG,
    "stt-no-speech": logging.INFO,
    "stt-no-text-recognized": logging.INFO,
}
"""How loud the log is where nothing is wrong: people speak who do not mean the daemon."""

Emit = Callable[[RunEvent | Speech], Awaitable[None]]


class Run:
    """One run of a room; `execute` once."""

    def __init__(
        self,
        stages: Stages,
        bus: EventBus,
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
        self._emit_to_room = emit
        self._stage = request.start
        self._leftover = b""
        self._whole = ""
        """The chat model's answer so far."""

        self._spoken: list[tuple[str, float]] = []
        """The pieces of it whose sound the room has got, and where in the sound each ends, seconds."""

        self._truncated = False
        self._sent_bytes = 0

    @property
    def answer(self) -> str:
        """What the chat model has answered so far."""
        return self._whole

    async def execute(self, audio: AudioInbox) -> bool:
        """Run to the end and return whether it succeeded.

        A failure of a stage is emitted as an `error` event, not raised. What passes: cancellation, and the
        errors of `emit` itself, when the room has gone.
        """
        request = self._request
        await self._emit(RunEventType.RUN_START, start=request.start, end=request.end)
        try:
            await self._stages_in_order(audio)
        except asyncio.CancelledError:
            self._publish(RunEventType.RUN_END, cancelled=True)
            raise
        except SatelliteError as error:
            return await self._fail(error)
        except ConnectionError:
            self._publish(RunEventType.RUN_END, cancelled=True)
            raise
        except Exception as error:  # the run boundary: whatever broke, the room is told
            _LOGGER.exception("run %s in %s: unexpected failure", request.run_id, request.room)
            return await self._fail(SatelliteError(f"{type(error).__name__}: {error}"))
        await self._emit(RunEventType.RUN_END)
        return True

    async def _stages_in_order(self, audio: AudioInbox) -> None:
        request = self._request
        text, language = request.text, request.language
        if request.includes(Stage.WAKE):
            await self._wake(audio)
        if request.includes(Stage.STT):
            transcription = await self._speech_to_text(audio)
            text, language = transcription.text, transcription.language or language
        if not request.includes(Stage.STT) and not text.strip():
            raise STAGE_ERRORS[request.start]("there is no text to begin with", kind="empty")
        if request.includes(Stage.CHAT):
            name = request.conversation or f"room {request.room}"
            await self._answer(Question(text, name, request.named_room, language, request.persona, place=request.room))
        elif request.start is Stage.TTS:
            await self._speak(once(text))

    async def _wake(self, audio: AudioInbox) -> None:
        self._stage = Stage.WAKE
        await self._emit(RunEventType.WAKE_WORD_START)
        engine = await self._stages.wake_engine()
        stream = await engine.stream(self._request.wake_words)
        audio.lossy = True
        heard_seconds = 0.0
        try:
            async with asyncio.timeout(self._stages.config.deadlines.wake_seconds or None):
                async for pcm in audio:
                    heard_seconds += seconds_of(pcm)
                    for detection in await stream.feed(pcm):
                        keep_from = len(pcm) - 2 * int(16_000 * max(0.0, heard_seconds - detection.seconds))
                        self._leftover = pcm[max(0, keep_from) :]
                        self._stages.expect(f"room {self._request.room}", self._request.persona)
                        await self._emit(RunEventType.WAKE_WORD_END, name=detection.name, seconds=detection.seconds)
                        return
        except TimeoutError as late:
            raise WakeWordError("no wake word was heard in time", kind="timeout") from late
        finally:
            audio.lossy = False
            stream.close()
        raise WakeWordError("the audio ended before a wake word was heard", kind="not-detected")

    async def _speech_to_text(self, audio: AudioInbox) -> Transcription:
        self._stage = Stage.STT
        await self._emit(RunEventType.STT_START)
        recorder = await self._record(audio)
        audio.lossy = True  # what comes from now on is not part of the command
        transcription = await self._stages.transcribe(recorder, self._request.language)
        await self._emit(RunEventType.STT_END, text=transcription.text, language=transcription.language)
        if not transcription.text:
            raise SpeechToTextError("no words were understood", kind="no-text-recognized")
        return transcription

    async def _record(self, audio: AudioInbox) -> Recorder:
        """Return the command's recording; it ends by silence, by its cap, or with the audio."""
        config = self._stages.config
        vad = await self._stages.engines.vad.get(config.deadlines.load_seconds)
        settings = EndpointSettings(
            config.endpoint.silence_seconds,
            config.endpoint.least_silence_seconds,
            self._request.no_speech_seconds or config.endpoint.no_speech_seconds,
            config.endpoint.max_command_seconds,
        ).scaled(self._request.vad_sensitivity)
        recorder = Recorder(
            vad,
            threshold=config.vad.threshold,
            max_seconds=config.endpoint.max_command_seconds,
            endpoint=Endpoint(settings),
            after_wake_word=self._request.start is Stage.WAKE or self._request.after_wake_word,
        )
        # Audio that stops coming must end the command as well: the clock is the second bound.
        limit_seconds = config.endpoint.max_command_seconds + config.endpoint.no_speech_seconds
        try:
            async with asyncio.timeout(limit_seconds), asyncio.timeout(config.endpoint.no_speech_seconds) as gap:
                await self._fill(recorder, audio, gap)
        except TimeoutError as late:
            raise SpeechToTextError("no more audio came", kind="stream-failed") from late
        return recorder

    async def _fill(self, recorder: Recorder, audio: AudioInbox, gap: asyncio.Timeout) -> None:
        speaking = False
        async for pcm in _preceded(self._leftover, audio):
            gap.reschedule(asyncio.get_running_loop().time() + self._stages.config.endpoint.no_speech_seconds)
            state = await recorder.feed(pcm)
            if state is EndpointState.NO_SPEECH:
                raise SpeechToTextError("nobody spoke", kind="no-speech")
            if not speaking and state in (EndpointState.SPEAKING, EndpointState.ENDED):
                speaking = True
                await self._emit(RunEventType.STT_VAD_START)
            if state is EndpointState.ENDED:
                break
        if speaking:
            await self._emit(RunEventType.STT_VAD_END, silence_seconds=round(recorder.silence_seconds, 3))

    async def _answer(self, question: Question) -> None:
        """Have the question answered; remember what the room has heard of the answer, however the run ends."""
        self._stage = Stage.CHAT
        await self._emit(RunEventType.CHAT_START, text=question.text)
        dialogue = self._stages.dialogue
        prompt = dialogue.prompt(question)
        speaks = self._request.includes(Stage.TTS)
        complete = False
        try:
            async with aclosing(self._deltas(question, prompt)) as deltas:
                if speaks:
                    await self._speak(deltas)
                else:
                    async for _ in deltas:
                        pass
            complete = True
        finally:
            dialogue.remember(question, prompt, self._whole if complete or not speaks else self._heard(), self._whole)

    def _heard(self) -> str:
        """Return what has been heard of an answer that was broken off."""
        heard_seconds = float("inf") if self._heard_seconds is None else self._heard_seconds()
        return " ".join(text for text, end_seconds in self._spoken if end_seconds <= heard_seconds)

    async def _deltas(self, question: Question, prompt: Sequence[Message]) -> AsyncGenerator[str, None]:
        """Yield the answer, with the run's events around it."""
        last: ChatDelta | None = None
        async with aclosing(self._stages.answer(question, prompt)) as deltas:
            async for delta in deltas:
                self._whole += delta.text
                last = delta
                self._truncated = delta.stats is not None and delta.stats.truncated
                if delta.text:
                    await self._emit(RunEventType.CHAT_DELTA, text=delta.text)
                    yield delta.text
        assert last is not None
        self._whole = finished(self._whole) if self._truncated else self._whole.strip()
        described = last.stats.described() if last.stats else {}
        await self._emit(RunEventType.CHAT_END, text=self._whole, provider=last.provider, **described)

    async def _speak(self, texts: AsyncGenerator[str, None]) -> None:
        """Speak `texts`; while one piece is on its way to the room, the next is synthesised.

        Text without a word that can be spoken is sound without length, so that the room knows that it is over. Where
        words are missing because the chat model failed, an apology takes their place.
        """
        speaker = await self._stages.speaker(self._request.voice)
        failure: ChatError | None = None
        pieces = self._stages.speak(texts, speaker, truncated=lambda: self._truncated)
        try:
            async with aclosing(ahead(pieces, size=1)) as sound:
                async for piece in sound:
                    await self._send(speaker, piece.pcm, piece.seconds)
                    self._spoken.append((piece.text, self._sent_seconds(speaker)))
        except ChatError as error:
            failure = error
            if apology := await self._apology(speaker):
                await self._send(speaker, apology)
        if not self._sent_bytes:
            await self._start_speaking(speaker)
        await self._emit(RunEventType.TTS_END, audio_seconds=self._sent_seconds(speaker))
        if failure is not None:
            raise failure

    def _sent_seconds(self, speaker: Speaker) -> float:
        return self._sent_bytes / (speaker.format.rate * speaker.format.frame_bytes)

    async def _send(self, speaker: Speaker, pcm: bytes, synthesis_seconds: float = 0.0) -> None:
        if not self._sent_bytes:
            await self._start_speaking(speaker, synthesis_seconds)
        await self._emit_to_room(Speech(speaker.format, pcm))
        self._sent_bytes += len(pcm)

    async def _apology(self, speaker: Speaker) -> bytes:
        """Return the sound of an apology, empty when no word is missing, or it cannot be spoken either."""
        if is_finished(self._whole):
            return b""
        occasion = Phrase.INTERRUPTED if self._spoken else Phrase.UNAVAILABLE
        try:
            return await self._stages.phrase(occasion, speaker)
        except StageError as error:
            _LOGGER.warning("run %s in %s: [%s] %s", self._request.run_id, self._request.room, error.code, error)
            return b""

    async def _start_speaking(self, speaker: Speaker, synthesis_seconds: float = 0.0) -> None:
        self._stage = Stage.TTS
        told = {"voice": speaker.voice.name, "rate": speaker.format.rate}
        await self._emit(RunEventType.TTS_START, **told, synthesis_seconds=round(synthesis_seconds, 3))

    async def _fail(self, error: SatelliteError) -> bool:
        request = self._request
        stage = error.stage if isinstance(error, StageError) else self._stage
        level = _LEVELS.get(error.code, logging.WARNING)
        fields = {"run": request.run_id, "room": request.room, "stage": stage.value, "code": error.code}
        _LOGGER.log(level, "run %s in %s: [%s] %s", request.run_id, request.room, error.code, error, extra=fields)
        await self._emit(RunEventType.ERROR, stage=stage, code=error.code, text=str(error))
        await self._emit(RunEventType.RUN_END)
        return False

    async def _emit(self, type_: RunEventType, **data: Any) -> None:
        await self._emit_to_room(self._publish(type_, **data))

    def _publish(self, type_: RunEventType, **data: Any) -> RunEvent:
        event = RunEvent(type_, self._request.run_id, self._request.room, data)
        self._bus.publish(event)
        return event


async def _preceded(first: bytes, audio: AudioInbox) -> AsyncIterator[bytes]:
    if first:
        yield first
    async for pcm in audio:
        yield pcm
