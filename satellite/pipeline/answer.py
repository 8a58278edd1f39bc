"""The second half of a run: a question in, its answer out, in words and in sound."""

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing

from satellite.engines.protocols import ChatDelta, Message, Speaker
from satellite.errors import ChatError, SatelliteError, Stage, StageError
from satellite.events import ChatChunk, ChatEnd, ChatStart, TtsEnd, TtsStart
from satellite.pipeline.clauses import finished, is_finished
from satellite.pipeline.commit_gate import Gate
from satellite.pipeline.dialogue import Question
from satellite.pipeline.phrases import Phrase
from satellite.pipeline.request import RunRequest, Speech
from satellite.pipeline.stages import Stages, once

_LOGGER = logging.getLogger(__name__)


class Answer:
    """One answer; everything that it says goes through its gate. `to` or `speak` once."""

    def __init__(
        self,
        stages: Stages,
        request: RunRequest,
        gate: Gate,
        *,
        heard_seconds: Callable[[], float] | None = None,
    ) -> None:
        """Prepare to answer; `heard_seconds` tells how much of its sound was heard, without it all that was sent."""
        self.stage = request.start
        """What is under way, for an error that does not say it."""

        self.text = ""
        """What has been answered so far."""

        self._stages = stages
        self._request = request
        self._gate = gate
        self._identity = request.identity
        self._heard_seconds = heard_seconds
        self._spoken: list[tuple[str, float]] = []
        """The pieces of it whose sound is made, and where in the sound each ends, seconds."""

        self._truncated = False
        self._made_seconds = 0.0

    async def to(self, question: Question) -> None:
        """Have the question answered; remember what the room has heard of the answer, however the run ends.

        What nobody was to hear, since the gate stayed closed, is not remembered.
        """
        self.stage = Stage.CHAT
        await self._gate.emit(ChatStart(self._identity, question.text))
        dialogue = self._stages.dialogue
        prompt = dialogue.prompt(question)
        speaks = self._request.includes(Stage.TTS)
        complete = False
        try:
            try:
                async with aclosing(self._stages.read_ahead(self._deltas(question, prompt))) as deltas:
                    if speaks:
                        await self.speak(deltas)
                    else:
                        async for _ in deltas:
                            pass
            except SatelliteError:
                await self._gate.passed()
                raise
            await self._gate.passed()
            complete = True
        finally:
            if self._gate.is_open:
                heard = self.text if complete or not speaks else self._heard()
                self._stages.remember(question, prompt, heard, self.text)

    def _heard(self) -> str:
        """Return what has been heard of an answer that was broken off."""
        heard_seconds = self._gate.passed_seconds
        if self._heard_seconds is not None:
            heard_seconds = min(heard_seconds, self._heard_seconds())
        return " ".join(text for text, end_seconds in self._spoken if end_seconds <= heard_seconds)

    async def _deltas(self, question: Question, prompt: Sequence[Message]) -> AsyncGenerator[str, None]:
        """Yield the answer, with the run's events around it."""
        last: ChatDelta | None = None
        async with aclosing(self._stages.answer(question, prompt, self._gate)) as deltas:
            async for delta in deltas:
                self.text += delta.text
                last = delta
                self._truncated = delta.stats is not None and delta.stats.truncated
                if delta.text:
                    await self._gate.emit(ChatChunk(self._identity, delta.text))
                    yield delta.text
        assert last is not None
        self.text = finished(self.text) if self._truncated else self.text.strip()
        figures = last.stats.described() if last.stats else {}
        await self._gate.emit(ChatEnd(self._identity, self.text, last.provider, figures))

    async def say(self, text: str) -> None:
        """Speak a text as it is."""
        await self.speak(once(text))

    async def speak(self, texts: AsyncIterator[str]) -> None:
        """Speak `texts`; while the room hears one piece, the next are synthesised, as far as the gate holds them.

        Text without a word that can be spoken is sound without length, so that the room knows that it is over. Where
        words are missing because the chat model failed, an apology takes their place.
        """
        speaker = await self._stages.speaker(self._request.voice)
        failure: ChatError | None = None
        pieces = self._stages.speak(texts, speaker, truncated=lambda: self._truncated)
        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    if piece.pcm:
                        await self._send(speaker, piece.pcm, piece.seconds)
                    if piece.text:
                        self._spoken.append((piece.text, self._made_seconds))
        except ChatError as error:
            failure = error
            if apology := await self._apology(speaker):
                await self._send(speaker, apology)
        if not self._made_seconds:
            await self._start_speaking(speaker)
        await self._gate.emit(TtsEnd(self._identity, self._made_seconds))
        if failure is not None:
            raise failure

    async def _send(self, speaker: Speaker, pcm: bytes, synthesis_seconds: float = 0.0) -> None:
        if not self._made_seconds:
            await self._start_speaking(speaker, synthesis_seconds)
        speech = Speech(speaker.format, pcm)
        self._made_seconds += speech.seconds
        await self._gate.emit(speech)

    async def _apology(self, speaker: Speaker) -> bytes:
        """Return the sound of an apology, empty when no word is missing, or it cannot be spoken either."""
        if is_finished(self.text):
            return b""
        occasion = Phrase.INTERRUPTED if self._spoken else Phrase.UNAVAILABLE
        try:
            return await self._stages.phrase(occasion, speaker)
        except StageError as error:
            request = self._request
            _LOGGER.warning(
                "run %s in %s: [%s] %s",
                request.run_id,
                request.room,
                error.code,
                error,
                extra={"run": request.run_id, "room": request.room, "code": error.code},
            )
            return b""

    async def _start_speaking(self, speaker: Speaker, synthesis_seconds: float = 0.0) -> None:
        self.stage = Stage.TTS
        seconds = round(synthesis_seconds, 3)
        await self._gate.emit(TtsStart(self._identity, speaker.voice.name, speaker.format.rate, seconds))
