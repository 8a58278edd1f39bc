"""Every engine in one object, each at its own pace, for runs on a virtual clock."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

from satellite.audio.pcm import RATE, AudioFormat
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
from satellite.pipeline.responder import Responder
from satellite.pipeline.stages import RunConfig, Stages
from tests.loudness import LoudnessVad

FORMAT = AudioFormat(RATE, 2, 1)
TWO_SENTENCES = ("The first sentence is told. ", "The second one follows.")


@dataclass
class ScriptedEngine:
    """Speech to text, chat model and voice; every word of an answer is a second of sound."""

    texts: dict[int, str] = field(default_factory=lambda: {0: "Tell me a story."})
    """What is understood of at least so many windows of speech."""

    answer: Sequence[str] | None = None
    """The pieces of the answer; None repeats the question."""

    stt_seconds: float = 0.05
    chat_seconds: float = 0.05
    """Time for each piece of the answer."""

    tts_seconds: Sequence[float] = (0.05,)
    """Time for each second of sound, in order; the last goes on."""

    breaks: str = ""
    """The stage that fails."""

    answered_at: float | None = None
    """When the model was no longer needed."""

    transcribed: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)
    prepared: list[Sequence[Message]] = field(default_factory=list)
    spoken: list[str] = field(default_factory=list)
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
        """Understand what was said by its length."""
        await asyncio.sleep(self.stt_seconds)
        if self.breaks == "stt":
            raise SpeechToTextError("out of order")
        heard = sum(probability >= 0.5 for probability in speech)
        text = self.texts[max(windows for windows in self.texts if windows <= heard)]
        self.transcribed.append(text)
        return Transcription(text, "en")

    async def stream(self, conversation: Any, sampling: Sampling = AS_CONFIGURED) -> AsyncGenerator[ChatDelta, None]:
        """Answer."""
        question = conversation[-1].content
        self.asked.append(question)
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
        """Have one voice."""
        return self

    async def speak(self, text: str) -> AsyncGenerator[bytes, None]:
        """Make a second of sound a word."""
        for _ in text.split():
            self.made += 1
            await asyncio.sleep(self.tts_seconds[min(self.made, len(self.tts_seconds)) - 1])
            if self.breaks == "tts":
                raise KeyError("out of order")
            yield bytes(2 * RATE)
        self.spoken.append(text)

    def prepare(self, messages: Sequence[Message] = ()) -> None:
        """Note what a question is expected to begin with."""
        self.prepared.append(messages)
        self.expected += [message.content for message in messages if message.role == "user"]

    @property
    def usual_seconds(self) -> float:
        """How long it takes to understand something."""
        return self.stt_seconds


class DeafStream:
    """Hears no wake word."""

    program = "deaf"

    async def stream(self, names: Sequence[str] | None) -> "DeafStream":
        """Listen."""
        return self

    async def feed(self, pcm: bytes) -> list[Detection]:
        """Hear nothing."""
        return []

    def close(self) -> None:
        """Nothing to do."""


def settled(stage: Stage, engine: Any) -> Slot[Any]:
    """Return the slot of an engine that is loaded."""
    slot: Slot[Any] = Slot(stage, engine)
    slot.settle()
    return slot


def scripted_stages(engine: ScriptedEngine, *responders: Responder, **sections: Any) -> Stages:
    """Return stages with nothing but `engine` and `responders`, and these sections of the configuration."""
    slot = settled(Stage.CHAT, engine)
    vad, wake = settled(Stage.STT, LoudnessVad()), settled(Stage.WAKE, DeafStream())
    engines = Engines(chat=slot, wake=(wake,), vad=vad, transcriber=slot, synthesizer=slot)
    return Stages(engines, RunConfig.of(Config.model_validate(sections)), responders=responders)


def unread(events: Subscription[RunEvent]) -> list[RunEvent]:
    """Return the events that a subscriber has not read yet."""
    found = []
    while not events._queue.empty():
        event = events._queue.get_nowait()
        assert event is not None
        found.append(event)
    return found


def assert_no_task_is_left() -> None:
    """Fail if any task but the current one goes on."""
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
