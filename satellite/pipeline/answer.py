"""The second half of a run: a question in, its answer out, in words and in sound."""

from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

from satellite.engines.protocols import ChatDelta, Message, Speaker
from satellite.errors import ChatError, SatelliteError, Stage, StageError
from satellite.events import ChatChunk, ChatEnd, ChatStart, TtsEnd, TtsStart
from satellite.pipeline.clauses import finished, is_finished
from satellite.pipeline.dialogue import Question
from satellite.pipeline.phrases import Phrase
from satellite.pipeline.request import RunRequest, Speech
from satellite.pipeline.speculation import CommitBuffer
from satellite.pipeline.stages import Stages
from satellite.pipeline.text_buffer import TextBuffer
from satellite.tasks import begin_task, end_tasks, failure_of


class RunAnswer:
    """The answer of one run, emitted to `output`. Call `reply_to` or `speak` once."""

    def __init__(
        self,
        stages: Stages,
        request: RunRequest,
        output: CommitBuffer,
        *,
        heard_seconds: Callable[[], float] | None = None,
    ) -> None:
        """Prepare; `heard_seconds` returns how much of the sound was heard, without it all that was delivered."""
        self.stage = request.start
        """The current stage, for an error that does not name one."""

        self.text = ""
        """The answer so far."""

        self._stages = stages
        self._request = request
        self._output = output
        self._identity = request.identity
        self._heard_seconds = heard_seconds
        self._voice = request.voice
        self._spoken: list[tuple[str, float]] = []
        """The clauses whose sound is made, and where in the sound each ends, seconds."""

        self._truncated = False
        self._made_seconds = 0.0

    async def reply_to(self, question: Question) -> None:
        """Answer the question, and remember what the room has heard of the answer, however the run ends.

        An answer that was never committed, or was withdrawn, is not remembered.
        """
        self.stage = Stage.CHAT
        if len(self._stages.config.spoken_languages) > 1:
            self._voice = replace(self._voice, spoken=question.language)
        await self._output.emit(ChatStart(self._identity, question.text))
        prompt = self._stages.dialogue.prompt(question)
        speaks = self._request.includes(Stage.TTS)
        complete = False
        try:
            try:
                if speaks:
                    await self._read_and_speak(question, prompt)
                else:
                    await self._read(question, prompt)
            except SatelliteError:
                # What was said before the failure is delivered first: the room hears it before the error.
                await self._output.wait_delivered()
                raise
            await self._output.wait_delivered()
            await self._output.wait_settled()
            complete = True
        finally:
            # Also after a cancellation: barge-in is one, and the model has to know what the room has heard.
            if self._output.committed and not self._output.withdrawn:
                heard = self.text if complete or not speaks else self._heard()
                self._stages.remember(question, prompt, heard, self.text)

    async def _read_and_speak(self, question: Question, prompt: Sequence[Message]) -> None:
        # The model is read by a task of its own and at its own pace: the voice waits for the room, the model never
        # does. The longest answer fits into the buffer.
        text = TextBuffer(self._stages.config.chat.max_characters)
        reader = begin_task(self._read(question, prompt, text), "read the answer")
        reader.add_done_callback(lambda task: text.end(failure_of(task)))
        try:
            await self.speak(text)
        finally:
            await end_tasks(reader)

    async def _read(self, question: Question, prompt: Sequence[Message], text: TextBuffer | None = None) -> None:
        """Read the answer, emit its events, and add its words to `text`."""
        last: ChatDelta | None = None
        async with aclosing(self._stages.answer(question, prompt, self._output)) as deltas:
            async for last in deltas:
                self.text += last.text
                self._truncated = last.stats is not None and last.stats.truncated
                if last.text:
                    await self._output.emit(ChatChunk(self._identity, last.text))
                    if text is not None:
                        text.add(last.text)
        assert last is not None
        self.text = finished(self.text) if self._truncated else self.text.strip()
        figures = last.stats.described() if last.stats else {}
        await self._output.emit(ChatEnd(self._identity, self.text, last.provider, figures))

    async def speak(self, text: str | TextBuffer) -> None:
        """Speak `text`; while the room hears one piece, the next are synthesised, as far as `output` holds them.

        Text without a word is sound without length, so that the room knows that it is over. Where the chat model
        failed, an apology takes the place of the missing words.
        """
        speaker = await self._stages.speaker(self._voice)
        failure: ChatError | None = None
        try:
            async with aclosing(self._stages.speak(text, speaker, truncated=lambda: self._truncated)) as pieces:
                async for piece in pieces:
                    if piece.pcm:
                        await self._emit_sound(speaker, piece.pcm, piece.seconds)
                    if piece.text:
                        self._spoken.append((piece.text, self._made_seconds))
        except ChatError as error:
            failure = error
            if apology := await self._apology(speaker):
                await self._emit_sound(speaker, apology)
        if not self._made_seconds:  # nothing was spoken, but an end needs a beginning
            await self._start_speaking(speaker)
        await self._output.emit(TtsEnd(self._identity, self._made_seconds))
        if failure is not None:
            raise failure

    async def _emit_sound(self, speaker: Speaker, pcm: bytes, synthesis_seconds: float = 0.0) -> None:
        if not self._made_seconds:
            await self._start_speaking(speaker, synthesis_seconds)
        speech = Speech(speaker.format, pcm)
        self._made_seconds += speech.seconds
        await self._output.emit(speech)

    async def _start_speaking(self, speaker: Speaker, synthesis_seconds: float = 0.0) -> None:
        self.stage = Stage.TTS
        seconds = round(synthesis_seconds, 3)
        await self._output.emit(TtsStart(self._identity, speaker.voice.name, speaker.format.rate, seconds))

    async def _apology(self, speaker: Speaker) -> bytes:
        """Return the sound of an apology, empty when no word is missing, or it cannot be spoken either."""
        if is_finished(self.text):
            return b""
        occasion = Phrase.INTERRUPTED if self._spoken else Phrase.UNAVAILABLE
        try:
            return await self._stages.phrase(occasion, speaker)
        except StageError as error:
            self._request.log(error, error.stage)
            return b""

    def _heard(self) -> str:
        """Return what has been heard of an answer that was interrupted, in whole clauses."""
        heard_seconds = self._output.delivered_seconds
        if self._heard_seconds is not None:
            heard_seconds = min(heard_seconds, self._heard_seconds())
        return " ".join(text for text, end_seconds in self._spoken if end_seconds <= heard_seconds)
