"""Every engine in one object, each at its own pace, for runs on a virtual clock."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from satellite.audio.pcm import RATE, AudioFormat, seconds_of
from satellite.config.settings import Config
from satellite.engines.protocols import (
    AS_CONFIGURED,
    ChatDelta,
    ChatStats,
    Detection,
    Message,
    Sampling,
    Transcription,
    Voice,
    VoiceChoice,
)
from satellite.engines.slot import Engines, Slot
from satellite.errors import ChatError, SpeechToTextError, Stage
from satellite.events import RunEvent, Subscription
from satellite.pipeline.dialogue import Question
from satellite.pipeline.responder import Reply, Responder, ResponderStatus
from satellite.pipeline.stages import RunConfig, Stages
from tests.loudness import LoudnessVad, sound

FORMAT = AudioFormat(RATE, 2, 1)
TWO_SENTENCES = ("The first sentence is told. ", "The second one follows.")


@dataclass
class ScriptedEngine:
    """Speech to text, chat model and voice; every word of an answer is a second of sound."""

    texts: dict[int, str] = field(default_factory=lambda: {0: "Tell me a story."})  # by windows of speech, at least
    answer: Sequence[str] | None = None  # pieces; None repeats the question
    usual_seconds: float = 0.05  # for a transcript
    chat_seconds: float = 0.05  # for each piece of the answer
    tts_seconds: Sequence[float] = (0.05,)  # for each second of sound, in order; the last goes on
    language: str = "en"  # of what is heard
    chosen: VoiceChoice | None = None  # the voice of the answer
    breaks: str = ""  # the stage that fails
    answered_at: float | None = None  # when the model was no longer needed
    transcribed: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    asides: list[str] = field(default_factory=list)
    prepared: list[Sequence[Message]] = field(default_factory=list)
    spoken: list[str] = field(default_factory=list)
    leads: list[float] = field(default_factory=list)  # seconds left to be heard when a clause was begun
    made: int = 0
    provider = "model"
    program = "deaf"
    context_tokens = None
    voice = Voice("joe", ("en",), (), "")
    format = FORMAT
    device = "cpu"
    idle = True
    identity = "joe"

    async def transcribe(self, pcm: bytes, *, speech: Sequence[float], **_: Any) -> Transcription:
        await asyncio.sleep(self.usual_seconds)
        if self.breaks == "stt":
            raise SpeechToTextError("out of order")
        heard = sum(probability >= 0.5 for probability in speech)
        text = self.texts[max(windows for windows in self.texts if windows <= heard)]
        self.transcribed.append(text)
        return Transcription(text, self.language)

    async def stream(self, conversation: Any, sampling: Sampling = AS_CONFIGURED) -> AsyncGenerator[ChatDelta, None]:
        question = conversation[-1].content
        self.asked.append(question)
        self.asides.append(conversation[-1].aside)
        try:
            for text in self.answer or [f"You said {question}"]:
                await asyncio.sleep(self.chat_seconds)
                yield ChatDelta(text, self.provider)
            if self.breaks == "chat":
                raise ChatError("out of order")
            yield ChatDelta("", self.provider, ChatStats())
        finally:
            self.answered_at = asyncio.get_running_loop().time()

    async def speaker(self, choice: VoiceChoice) -> "ScriptedEngine":
        self.chosen = choice
        return self

    async def speak(self, text: str, lead_seconds: float = 0.0) -> AsyncGenerator[bytes, None]:
        self.leads.append(round(lead_seconds, 3))
        for _ in text.split():
            self.made += 1
            await asyncio.sleep(self.tts_seconds[min(self.made, len(self.tts_seconds)) - 1])
            if self.breaks == "tts":
                raise KeyError("out of order")
            yield bytes(2 * RATE)
        self.spoken.append(text)

    def prepare(self, messages: Sequence[Message] = ()) -> None:
        self.prepared.append(messages)


WAKE_WORD = sound(1, 7001)


class OneSound:
    """Hears a wake word in `WAKE_WORD` alone."""

    program = "deaf"

    def __init__(self) -> None:
        self._seconds = 0.0

    async def stream(self, names: Sequence[str] | None) -> "OneSound":
        return OneSound()

    async def feed(self, pcm: bytes) -> list[Detection]:
        self._seconds += seconds_of(pcm)
        return [Detection("okay_nabu", self._seconds)] if WAKE_WORD in pcm else []

    def close(self) -> None: ...


@dataclass
class ScriptedResponder:
    name: str
    does: Callable[[Question], Awaitable[str | None]]  # returns None for a question that is left to others
    concerned: Callable[[Question], bool] = lambda question: True
    acting: bool = True
    asked_at: list[float] = field(default_factory=list)
    status = ResponderStatus("scripted", "ready", True, "")

    def deadline_seconds(self, question: Question) -> float:
        return 10.0

    async def concerns(self, question: Question) -> bool:
        return self.concerned(question)

    async def acts(self, question: Question) -> bool:
        return self.acting

    async def respond(self, question: Question) -> Reply | None:
        self.asked_at.append(asyncio.get_running_loop().time())
        text = await self.does(question)
        return None if text is None else Reply(text, self.name)

    async def watch(self) -> None: ...

    async def close(self) -> None: ...


class StopCommand:
    """Knows one command."""

    async def means_stop(self, text: str, language: str | None) -> bool:
        return (text, language) == ("Stop.", "en")

    async def is_command(self, text: str, language: str | None) -> bool:
        return False


def scripted_stages(engine: ScriptedEngine, *responders: Responder, **sections: Any) -> Stages:
    """Return stages with nothing but `engine` and `responders`, and these sections of the configuration."""

    def settled(stage: Stage, engine: Any) -> Slot[Any]:
        slot: Slot[Any] = Slot(stage, engine)
        slot.settle()
        return slot

    slot = settled(Stage.CHAT, engine)
    vad, wake = settled(Stage.STT, LoudnessVad()), settled(Stage.WAKE, OneSound())
    engines = Engines(chat=slot, wake=(wake,), vad=vad, transcriber=slot, synthesizer=slot)
    return Stages(engines, RunConfig.of(Config.model_validate(sections)), responders=responders, commands=StopCommand())


def unread(events: Subscription[RunEvent]) -> list[RunEvent]:
    queue = events._queue
    return [event for _ in range(queue.qsize()) if (event := queue.get_nowait()) is not None]


def assert_no_task_is_left() -> None:
    assert asyncio.all_tasks() == {asyncio.current_task()}
