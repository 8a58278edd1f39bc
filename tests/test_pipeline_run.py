"""A run ends once whatever its room does, at the pace of the room; on a virtual clock."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from wyoming.pipeline import PipelineStage, RunPipeline

from satellite.engines.protocols import Message
from satellite.errors import ProtocolError, Stage
from satellite.events import ChatEnd, ChatStart, RunBus, RunEnd, RunEvent, RunFailed, RunStart
from satellite.pipeline.audio_queue import AudioInbox
from satellite.pipeline.request import Emit, RunRequest, Speech
from satellite.pipeline.run import Run
from satellite.pipeline.stages import Stages
from satellite.wire.framing import encode
from tests.loudness import silence, speech
from tests.running_daemon import RunningDaemon, lonely
from tests.scripted_engine import TWO_SENTENCES, ScriptedEngine, assert_no_task_is_left, scripted_stages, unread
from tests.virtual_clock import run_virtually

MANY_SENTENCES = [f"This is sentence number {number}. " for number in range(50)]


def prepared(
    made: Stages, bus: RunBus, start: Stage, emit: Emit, audio: bytes = b"", **more: Any
) -> tuple[Run, AudioInbox]:
    """Return a run that has all that it needs, and its audio."""
    inbox = AudioInbox(600)
    inbox.unread(audio or speech(40) + silence(60))
    inbox.end()
    return Run(made, bus, RunRequest("kitchen", start=start, text="Tell me a story."), emit, **more), inbox


async def paced(step: RunEvent | Speech) -> None:
    """Take sound as fast as it is heard."""
    if isinstance(step, Speech):
        await asyncio.sleep(step.seconds)


async def cancelled(engine: ScriptedEngine, start: Stage, emit: Emit, seconds: float) -> list[type]:
    """Cancel a run after so many seconds, and return the events that the bus got of it; no task is left."""
    bus = RunBus()
    with bus.subscribe(4096) as events:
        run, inbox = prepared(scripted_stages(engine), bus, start, emit)
        task = asyncio.create_task(run.execute(inbox))
        await asyncio.wait([task], timeout=seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert_no_task_is_left()
        return [type(event) for event in unread(events)]


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


async def outcome(start: Stage, breaks: str, fault: Callable[[], Awaitable[None]], at: int) -> tuple[list[type], int]:
    """Return the events of a run whose room has a fault at step `at`, and how many steps the room got."""
    count = 0

    async def emit(step: RunEvent | Speech) -> None:
        nonlocal count
        count += 1
        if count - 1 == at:
            await fault()
        await asyncio.sleep(0)

    return await cancelled(ScriptedEngine(answer=TWO_SENTENCES, breaks=breaks), start, emit, 600), count


@pytest.mark.slow
@pytest.mark.parametrize("start", [Stage.STT, Stage.CHAT, Stage.TTS])
@pytest.mark.parametrize("breaks", ["", "stt", "chat", "tts"])
@pytest.mark.parametrize("fault", [hangs_up, does_not_read, is_mad, hangs])
def test_a_run_ends_once_whatever_its_room_does(
    start: Stage, breaks: str, fault: Callable[[], Awaitable[None]]
) -> None:
    whole, steps = run_virtually(outcome(start, breaks, fault, -1))
    assert (whole[0], whole[-1]) == (RunStart, RunEnd)
    assert steps >= len(whole)
    for at in range(steps):
        told, reached = run_virtually(outcome(start, breaks, fault, at))
        assert (told.count(RunStart), told.count(RunEnd), told[-1]) == (1, 1, RunEnd)
        assert fault is hangs or reached == at + 1


@pytest.mark.slow
@pytest.mark.parametrize("start", [Stage.STT, Stage.CHAT, Stage.TTS])
def test_a_run_that_is_cancelled_at_any_moment_ends_once(start: Stage) -> None:
    for hundredths in range(0, 200, 3):
        told = run_virtually(cancelled(ScriptedEngine(answer=TWO_SENTENCES), start, paced, hundredths / 100))
        assert told.count(RunStart) == told.count(RunEnd) <= 1
        assert not told or told[-1] is RunEnd


# Nothing but sound is paced by the room.


def test_an_answer_whose_speech_lasts_minutes_is_heard_to_its_end() -> None:
    engine = ScriptedEngine(answer=MANY_SENTENCES)

    async def scenario() -> tuple[bool, float, list[RunEvent]]:
        made = scripted_stages(engine, deadlines={"chat_seconds": 20})
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
    engine = ScriptedEngine(answer=MANY_SENTENCES)
    made = scripted_stages(engine)
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
    async def scenario() -> list[Message]:
        answer = [f"This is number {number}. " for number in range(30)]
        made = scripted_stages(ScriptedEngine(answer=answer))
        loop = asyncio.get_running_loop()
        began_at: list[float] = []

        async def emit(step: RunEvent | Speech) -> None:
            if isinstance(step, Speech) and not began_at:
                began_at.append(loop.time())
            await paced(step)

        def heard_seconds() -> float:
            return loop.time() - began_at[0] - 4 if began_at else 0.0

        more = {"heard_seconds": heard_seconds} if tells_what_was_heard else {}
        run, inbox = prepared(made, RunBus(), Stage.CHAT, emit, b"", **more)
        task = asyncio.create_task(run.execute(inbox))
        await asyncio.sleep(14)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return made.dialogue.beginning("room kitchen")

    heard = ["This is number 0.", "This is number 1.", "This is number 2."][: 2 if tells_what_was_heard else 3]
    assert run_virtually(scenario())[-1].content == " ".join(heard)


# Deadlines grow with what there is to do.


def code(start: Stage, *, audio: bytes = b"", answer: str = "", **more: Any) -> str | None:
    """Return the code of the error with which a run ends that has 2 s for each stage, None for a good end."""

    async def scenario() -> str | None:
        engine = ScriptedEngine(answer=[answer] if answer else TWO_SENTENCES, **more)
        codes: list[str] = []

        async def emit(step: RunEvent | Speech) -> None:
            await paced(step)
            if isinstance(step, RunFailed):
                codes.append(step.code)

        made = scripted_stages(engine, deadlines={"stt_seconds": 2, "tts_seconds": 2})
        run, inbox = prepared(made, RunBus(), start, emit, audio)
        async with asyncio.timeout(1000):
            await run.execute(inbox)
        return codes[0] if codes else None

    return run_virtually(scenario())


@pytest.mark.parametrize(
    ("windows", "seconds", "expected"), [(40, 2.5, "stt-timeout"), (400, 2.5, None), (400, 1e9, "stt-timeout")]
)
def test_speech_to_text_may_take_longer_for_more_audio(windows: int, seconds: float, expected: str | None) -> None:
    assert code(Stage.STT, audio=speech(windows) + silence(60), stt_seconds=seconds) == expected


PAUSES = (0.05, 0.05, 0.05, 0.05, 0.05)
STORY = "One two three four five six seven eight."


@pytest.mark.parametrize(
    ("answer", "seconds", "expected"),
    [
        ("Wait for it.", (3, 0.05), "tts-timeout"),
        (" ".join(["word"] * 40) + ".", (3, 0.05), None),  # the first sound of a long sentence comes later
        (" ".join(["word"] * 40) + ".", (1e9,), "tts-timeout"),
        (STORY, (*PAUSES, 4, 0.05), None),  # nobody misses sound while there is some left to hear
        (STORY, (0.05, 4), "tts-timeout"),
        (STORY, (*PAUSES, 1e9), "tts-timeout"),
    ],
)
def test_text_to_speech_may_take_longer_for_more_text_and_while_sound_is_left(
    answer: str, seconds: tuple[float, ...], expected: str | None
) -> None:
    assert code(Stage.CHAT, answer=answer, tts_seconds=seconds) == expected


@pytest.mark.models
async def test_a_client_that_stops_reading_leaves_no_run_under_way(models_directory: Path) -> None:
    config = lonely(models_directory, wyoming="host: 127.0.0.1, write_timeout_seconds: 0.5")
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
