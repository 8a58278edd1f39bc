"""A run ends once whatever its room does, at the pace of the room and nobody else's; on a virtual clock."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from wyoming.pipeline import PipelineStage, RunPipeline

from satellite.audio.pcm import RATE, AudioFormat
from satellite.config.loader import parse
from satellite.config.settings import Config
from satellite.engines.protocols import (
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
from satellite.errors import ChatError, ProtocolError, SpeechToTextError, Stage
from satellite.events import ChatEnd, ChatStart, RunBus, RunEnd, RunEvent, RunFailed, RunStart
from satellite.pipeline.audio_queue import AudioInbox
from satellite.pipeline.request import Emit, RunRequest, Speech
from satellite.pipeline.run import Run
from satellite.pipeline.stages import RunConfig, Stages
from satellite.wire.framing import encode
from tests.loudness import LoudnessVad, silence, speech
from tests.running_daemon import RunningDaemon
from tests.virtual_clock import run_virtually

FORMAT = AudioFormat(RATE, 2, 1)


@dataclass
class Engine:
    """Everything that thinks; every sentence is heard for as many seconds as it has words."""

    answer: Sequence[str] = ("The first sentence is told. ", "The second one follows.")
    stt_seconds: float = 0.05
    chat_seconds: float = 0.05
    """What each piece of the answer takes."""

    tts_seconds: Sequence[float] = (0.05,)
    """What a second of sound takes, one after the other; the last goes on."""

    breaks: str = ""
    """The stage that fails."""

    answered_at: float | None = None
    """When the model was no longer needed."""

    spoken: list[str] = field(default_factory=list)
    made: int = 0
    provider = "model"
    context_tokens = None
    voice = Voice("joe", ("en",), (), "")
    format = FORMAT
    device = "cpu"
    idle = True
    identity = "joe"
    usual_seconds = None

    async def transcribe(self, pcm: bytes, **_: Any) -> Transcription:
        """Understand the same of everything."""
        await asyncio.sleep(self.stt_seconds)
        if self.breaks == "stt":
            raise SpeechToTextError("out of order")
        return Transcription("Tell me a story.", "en")

    async def stream(self, conversation: Sequence[Message], sampling: Sampling) -> AsyncGenerator[ChatDelta, None]:
        """Answer."""
        try:
            for text in self.answer:
                await asyncio.sleep(self.chat_seconds)
                yield ChatDelta(text, self.provider)
            if self.breaks == "chat":
                raise ChatError("out of order")
            yield ChatDelta("", self.provider, ChatStats())
        finally:
            self.answered_at = asyncio.get_running_loop().time()

    async def speaker(self, choice: VoiceChoice) -> "Engine":
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
        """Nothing to do."""


class Deaf:
    """Listens for wake words, and hears none."""

    program = "deaf"

    async def stream(self, names: Sequence[str] | None) -> "Deaf":
        """Listen."""
        return self

    async def feed(self, pcm: bytes) -> list[Detection]:
        """Hear nothing."""
        return []

    def close(self) -> None:
        """Nothing to do."""


async def stages(engine: Engine, **deadlines: float) -> Stages:
    """Return stages that have nothing but `engine`."""
    slot: Slot[Any] = Slot(Stage.CHAT, engine)
    slot.settle()
    vad: Slot[Any] = Slot(Stage.STT, LoudnessVad())
    vad.settle()
    wake: Slot[Any] = Slot(Stage.WAKE, Deaf())
    wake.settle()
    engines = Engines(chat=slot, wake=(wake,), vad=vad, transcriber=slot, synthesizer=slot)
    return Stages(engines, RunConfig.of(Config.model_validate({"deadlines": deadlines})))


def prepared(made: Stages, bus: RunBus, start: Stage, emit: Emit, **more: Any) -> tuple[Run, AudioInbox]:
    """Return a run that has all that it needs, and its audio."""
    inbox = AudioInbox(60)
    inbox.unread(speech(40) + silence(60))
    inbox.end()
    return Run(made, bus, RunRequest("kitchen", start=start, text="Tell me a story."), emit, **more), inbox


async def paced(step: RunEvent | Speech) -> None:
    """Take sound as fast as it is heard."""
    if isinstance(step, Speech):
        await asyncio.sleep(step.seconds)


# Every run ends.


async def hangs_up() -> None:
    """Leave."""
    raise ConnectionResetError("gone")


async def does_not_read() -> None:
    """Be cut off as too slow."""
    raise ProtocolError("it does not read")


async def is_mad() -> None:
    """Fail as nobody expects."""
    raise KeyError("oh")


async def hangs() -> None:
    """Never return."""
    await asyncio.Event().wait()


async def outcome(start: Stage, breaks: str, fault: Callable[[], Awaitable[None]], at: int) -> tuple[list[str], int]:
    """Return what the bus was told of a run whose room has a fault at step `at`, and how many steps it was told."""
    made = await stages(Engine(breaks=breaks))
    bus, count = RunBus(), 0

    async def emit(step: RunEvent | Speech) -> None:
        nonlocal count
        count += 1
        if count - 1 == at:
            await fault()
        await asyncio.sleep(0)

    with bus.subscribe(4096) as events:
        run, inbox = prepared(made, bus, start, emit)
        task = asyncio.create_task(run.execute(inbox))
        await asyncio.wait([task], timeout=600)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert left == []
        told = []
        while not events._queue.empty():
            event = events._queue.get_nowait()
            assert event is not None
            told.append(str(event.type))
    return told, count


@pytest.mark.slow
@pytest.mark.parametrize("start", [Stage.STT, Stage.CHAT, Stage.TTS])
@pytest.mark.parametrize("breaks", ["", "stt", "chat", "tts"])
@pytest.mark.parametrize("fault", [hangs_up, does_not_read, is_mad, hangs])
def test_a_run_ends_once_whatever_its_room_does(
    start: Stage, breaks: str, fault: Callable[[], Awaitable[None]]
) -> None:
    """At whichever step the room fails, or hangs until the run is cancelled."""
    whole, steps = run_virtually(outcome(start, breaks, fault, -1))
    assert (whole[0], whole[-1]) == ("run-start", "run-end")
    assert steps >= len(whole)
    for at in range(steps):
        told, reached = run_virtually(outcome(start, breaks, fault, at))
        assert (told.count("run-start"), told.count("run-end"), told[-1]) == (1, 1, "run-end")
        assert fault is hangs or reached == at + 1


@pytest.mark.slow
@pytest.mark.parametrize("start", [Stage.STT, Stage.CHAT, Stage.TTS])
def test_a_run_that_is_cancelled_at_any_moment_ends_once(start: Stage) -> None:
    """Wherever its work is."""

    async def cancelled(seconds: float) -> list[type]:
        made = await stages(Engine())
        bus = RunBus()
        with bus.subscribe(4096) as events:
            run, inbox = prepared(made, bus, start, paced)
            task = asyncio.create_task(run.execute(inbox))
            await asyncio.wait([task], timeout=seconds)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
            told = []
            while not events._queue.empty():
                told.append(type(events._queue.get_nowait()))
        return told

    for hundredths in range(0, 200, 3):
        told = run_virtually(cancelled(hundredths / 100))
        assert told.count(RunStart) == told.count(RunEnd) <= 1
        assert not told or told[-1] is RunEnd


# Nothing but sound is paced by the room.


def test_an_answer_whose_speech_lasts_minutes_is_heard_to_its_end() -> None:
    """The model has finished long ago, and is held by nobody who listens."""
    engine = Engine([f"This is sentence number {number}. " for number in range(50)])

    async def scenario() -> tuple[bool, float, list[RunEvent]]:
        made = await stages(engine, chat_seconds=20)
        told: list[RunEvent] = []
        heard_seconds = 0.0

        async def emit(step: RunEvent | Speech) -> None:
            nonlocal heard_seconds
            await paced(step)
            if isinstance(step, Speech):
                heard_seconds += step.seconds
            else:
                told.append(step)

        run, inbox = prepared(made, RunBus(), Stage.CHAT, emit)
        return await run.execute(inbox), heard_seconds, told

    succeeded, heard_seconds, told = run_virtually(scenario())
    assert succeeded
    assert heard_seconds == 250
    assert len(engine.spoken) == 50
    assert engine.answered_at is not None
    assert engine.answered_at < 4
    at = {type(step): step.at for step in told}
    assert at[ChatEnd] - at[ChatStart] < 60


@pytest.mark.virtual_clock
async def test_no_more_sound_is_made_than_the_room_will_soon_take() -> None:
    """Memory and work are bounded, however long the answer."""
    engine = Engine([f"This is sentence number {number}. " for number in range(50)])
    made = await stages(engine)
    heard_seconds = 0.0

    async def emit(step: RunEvent | Speech) -> None:
        nonlocal heard_seconds
        await paced(step)
        if isinstance(step, Speech):
            heard_seconds += step.seconds
            assert engine.made <= heard_seconds + 7

    run, inbox = prepared(made, RunBus(), Stage.CHAT, emit)
    assert await run.execute(inbox)


@pytest.mark.parametrize("tells_what_was_heard", [False, True])
def test_what_was_heard_of_a_long_answer_is_remembered(tells_what_was_heard: bool) -> None:
    """However much of it was written, and made into sound, by the time somebody interrupted it."""

    async def scenario() -> list[Message]:
        made = await stages(Engine([f"This is number {number}. " for number in range(30)]))
        loop = asyncio.get_running_loop()
        began_at: list[float] = []

        async def emit(step: RunEvent | Speech) -> None:
            if isinstance(step, Speech) and not began_at:
                began_at.append(loop.time())
            await paced(step)

        more = {"heard_seconds": lambda: loop.time() - began_at[0] - 4 if began_at else 0.0}
        run, inbox = prepared(made, RunBus(), Stage.CHAT, emit, **(more if tells_what_was_heard else {}))
        task = asyncio.create_task(run.execute(inbox))
        await asyncio.sleep(14)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return made.dialogue.beginning("room kitchen")

    heard = ["This is number 0.", "This is number 1.", "This is number 2."][: 2 if tells_what_was_heard else 3]
    assert run_virtually(scenario())[-1].content == " ".join(heard)


# Deadlines grow with what there is to do.


def code(engine: Engine, start: Stage, *, audio: bytes = b"", **deadlines: float) -> str | None:
    """Return the code of the error with which a run ends, None for a good end."""

    async def scenario() -> str | None:
        made = await stages(engine, **deadlines)
        codes: list[str] = []

        async def emit(step: RunEvent | Speech) -> None:
            await paced(step)
            if isinstance(step, RunFailed):
                codes.append(step.code)

        run, inbox = prepared(made, RunBus(), start, emit)
        if audio:
            inbox = AudioInbox(600)
            inbox.unread(audio)
            inbox.end()
        async with asyncio.timeout(1000):
            await run.execute(inbox)
        return codes[0] if codes else None

    return run_virtually(scenario())


def test_speech_to_text_may_take_longer_for_more_audio() -> None:
    """An engine that takes as long as it listens is in time; one that hangs ends the run all the same."""
    short, long = speech(40) + silence(60), speech(400) + silence(60)
    assert code(Engine(stt_seconds=2.5), Stage.STT, audio=short, stt_seconds=2) == "stt-timeout"
    assert code(Engine(stt_seconds=2.5), Stage.STT, audio=long, stt_seconds=2) is None
    assert code(Engine(stt_seconds=1e9), Stage.STT, audio=long, stt_seconds=2) == "stt-timeout"


def test_text_to_speech_may_take_longer_for_a_longer_sentence() -> None:
    """Its first sound comes later."""
    short, long = "Wait for it.", " ".join(["word"] * 40) + "."
    assert code(Engine([short], tts_seconds=(3, 0.05)), Stage.CHAT, tts_seconds=2) == "tts-timeout"
    assert code(Engine([long], tts_seconds=(3, 0.05)), Stage.CHAT, tts_seconds=2) is None
    assert code(Engine([long], tts_seconds=(1e9,)), Stage.CHAT, tts_seconds=2) == "tts-timeout"


def test_text_to_speech_may_take_as_long_as_there_is_something_to_hear() -> None:
    """Nobody misses the sound that comes while there is some left."""
    pauses = (0.05, 0.05, 0.05, 0.05, 0.05, 4, 0.05)
    story = ["One two three four five six seven eight."]
    assert code(Engine(story, tts_seconds=pauses), Stage.CHAT, tts_seconds=2) is None
    assert code(Engine(story, tts_seconds=(0.05, 4)), Stage.CHAT, tts_seconds=2) == "tts-timeout"
    assert code(Engine(story, tts_seconds=(*pauses[:5], 1e9)), Stage.CHAT, tts_seconds=2) == "tts-timeout"


@pytest.mark.models
async def test_a_client_that_stops_reading_leaves_no_run_under_way(models_directory: Path) -> None:
    """Amid the sound: the run is over for the dashboard and the metrics too, soon after the client is cut off."""
    config = parse(
        f"models: {{directory: {models_directory}}}\nzeroconf: {{enabled: false}}\n"
        "wyoming: {host: 127.0.0.1, write_timeout_seconds: 0.5}\nhttp: {enabled: false}"
    )
    story = "This sentence is one of very many. " * 200
    with RunningDaemon(config) as running:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", running.port()))
            request = RunPipeline(start_stage=PipelineStage.TTS, end_stage=PipelineStage.TTS, announce_text=story)
            client.sendall(encode(request.event()))
            async with asyncio.timeout(240):
                while not (runs := running.daemon.runs.latest(1)) or runs[0].outcome == "running":
                    await asyncio.sleep(0.05)
            assert runs[0].outcome == "cancelled"
            assert "first_audio" in runs[0].marks
        await running.settled()
