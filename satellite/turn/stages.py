"""The stages of a run, each with its deadline; the services offer them one by one, the pipeline joins them."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, contextmanager

from satellite.config import Config
from satellite.engines import ChatDelta, Message, Speaker, Transcription, VoiceChoice, WakeWordEngine
from satellite.engines.slot import Engines
from satellite.errors import STAGE_ERRORS, ChatError, Stage
from satellite.turn.clauses import ClauseSplitter
from satellite.turn.recorder import Recorder


@contextmanager
def _translate_timeout(stage: Stage, seconds: float) -> Iterator[None]:
    """Turn a `TimeoutError` inside into the stage's error of the kind `timeout`."""
    try:
        yield
    except TimeoutError as late:
        raise STAGE_ERRORS[stage](f"{stage} took longer than {seconds:g} s", kind="timeout") from late


class Stages:
    """Wake, speech to text, chat and text to speech over the daemon's engines and deadlines."""

    def __init__(self, engines: Engines, config: Config) -> None:
        self.engines = engines
        self.config = config

    async def wake_engine(self, program: str | None = None) -> WakeWordEngine:
        """Return the loaded engine called `program`, or the default one."""
        slots = [slot for slot in self.engines.wake if program in (None, slot.engine.program)]
        return await (slots or self.engines.wake)[0].get(self.config.deadlines.load_seconds)

    async def transcribe(
        self, recorder: Recorder, language: str | None = None, vocabulary: Sequence[str] = ()
    ) -> Transcription:
        """Return what was said in the recording."""
        transcriber = await self.engines.transcriber.get(self.config.deadlines.load_seconds)
        seconds = self.config.deadlines.stt_seconds
        with _translate_timeout(Stage.STT, seconds):
            async with asyncio.timeout(seconds):
                return await transcriber.transcribe(
                    bytes(recorder.pcm), speech=recorder.speech, language=language, vocabulary=vocabulary
                )

    async def chat(self, text: str) -> AsyncGenerator[ChatDelta, None]:
        """Yield the answer to `text`. Raises `ChatError`, also for an answer without a word."""
        model = await self.engines.chat.get(self.config.deadlines.load_seconds)
        deadlines = self.config.deadlines
        answered = False
        end = asyncio.get_running_loop().time() + deadlines.chat_seconds
        async with aclosing(model.stream(self._messages(text))) as deltas:
            while True:
                first = deadlines.chat_first_token_seconds if not answered else deadlines.chat_seconds
                with _translate_timeout(Stage.CHAT, first):
                    async with asyncio.timeout_at(min(end, asyncio.get_running_loop().time() + first)):
                        delta = await anext(deltas, None)
                if delta is None:
                    break
                answered = answered or bool(delta.text.strip())
                yield delta
        if not answered:
            raise ChatError("the chat model gave an empty answer", kind="empty")

    def _messages(self, text: str) -> list[Message]:
        return [Message("system", self.config.chat.system_prompt), Message("user", text)]

    async def speaker(self, choice: VoiceChoice) -> Speaker:
        """Return the voice that `choice` means, loaded."""
        synthesizer = await self.engines.synthesizer.get(self.config.deadlines.load_seconds)
        seconds = self.config.deadlines.load_seconds
        with _translate_timeout(Stage.TTS, seconds):
            async with asyncio.timeout(seconds):
                return await synthesizer.speaker(choice)

    async def speak(self, texts: AsyncIterator[str], speaker: Speaker) -> AsyncGenerator[bytes, None]:
        """Yield `texts` as PCM in the speaker's format, a clause at first, then sentence by sentence."""
        splitter = ClauseSplitter()
        async for text in texts:
            for piece in splitter.feed(text):
                yield await self._piece(speaker, piece)
        for piece in splitter.flush():
            yield await self._piece(speaker, piece)

    async def _piece(self, speaker: Speaker, piece: str) -> bytes:
        seconds = self.config.deadlines.tts_seconds
        with _translate_timeout(Stage.TTS, seconds):
            async with asyncio.timeout(seconds):
                return await speaker.speak(piece)


async def once(text: str) -> AsyncGenerator[str, None]:
    """Yield a whole text as the stream that `Stages.speak` takes."""
    yield text
