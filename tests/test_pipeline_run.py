"""A run ends once whatever its room does, at the pace of the room; on a virtual clock."""

import asyncio
from typing import Any

import pytest

from satellite.errors import ProtocolError, Stage
from satellite.events import RunBus, RunEnd, RunEvent, RunFailed, RunStart
from satellite.pipeline.audio_queue import AudioInbox
from satellite.pipeline.request import Emit, RunRequest, Speech
from satellite.pipeline.run import Run
from satellite.pipeline.stages import Stages
from tests.loudness import silence, speech
from tests.scripted_engine import TWO_SENTENCES, ScriptedEngine, assert_no_task_is_left, scripted_stages, unread
from tests.virtual_clock import run_virtually


def prepared(
    made: Stages, bus: RunBus, start: Stage, emit: Emit, audio: bytes = b"", **more: Any
) -> tuple[Run, AudioInbox]:
    inbox = AudioInbox(600)
    inbox.unread(audio or speech(40) + silence(60))
    inbox.end()
    return Run(made, bus, RunRequest("kitchen", start=start, text="Tell me a story."), emit, **more), inbox


async def paced(step: RunEvent | Speech) -> None:
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


async def outcome(start: Stage, breaks: str, fault: Exception | None, at: int) -> tuple[list[type], int]:
    """Return the events of a run whose room fails at step `at`, or hangs there, and how many steps the room got."""
    count = 0

    async def emit(step: RunEvent | Speech) -> None:
        nonlocal count
        count += 1
        if count - 1 == at:
            if fault is None:
                await asyncio.Event().wait()
            else:
                raise fault
        await asyncio.sleep(0)

    return await cancelled(ScriptedEngine(answer=TWO_SENTENCES, breaks=breaks), start, emit, 600), count


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start", "breaks"),
    [
        *((Stage.STT, breaks) for breaks in ("", "stt", "chat", "tts")),
        *((Stage.CHAT, breaks) for breaks in ("", "chat", "tts")),
        *((Stage.TTS, breaks) for breaks in ("", "tts")),
    ],
)
@pytest.mark.parametrize(
    "fault", [ConnectionResetError("gone"), ProtocolError("it does not read"), KeyError("unexpected"), None]
)
def test_a_run_ends_once_whatever_its_room_does(start: Stage, breaks: str, fault: Exception | None) -> None:
    whole, steps = run_virtually(outcome(start, breaks, fault, -1))
    assert (whole[0], whole[-1]) == (RunStart, RunEnd)
    assert steps >= len(whole)
    for at in range(steps):
        published, reached = run_virtually(outcome(start, breaks, fault, at))
        assert (published.count(RunStart), published.count(RunEnd), published[-1]) == (1, 1, RunEnd)
        assert fault is None or reached == at + 1


@pytest.mark.slow
@pytest.mark.parametrize("start", [Stage.STT, Stage.CHAT, Stage.TTS])
def test_a_run_that_is_cancelled_at_any_moment_ends_once(start: Stage) -> None:
    for hundredths in range(0, 200, 3):
        told = run_virtually(cancelled(ScriptedEngine(answer=TWO_SENTENCES), start, paced, hundredths / 100))
        assert told.count(RunStart) == told.count(RunEnd) <= 1
        assert not told or told[-1] is RunEnd


# Nothing but sound is paced by the room.


@pytest.mark.virtual_clock
async def test_an_answer_of_minutes_is_heard_to_its_end_and_made_hardly_before_the_room_takes_it() -> None:
    engine = ScriptedEngine(answer=[f"This is sentence number {number}. " for number in range(50)])
    heard_seconds = 0.0

    async def emit(step: RunEvent | Speech) -> None:
        nonlocal heard_seconds
        await paced(step)
        if isinstance(step, Speech):
            heard_seconds += step.seconds
            assert engine.made <= heard_seconds + 7

    run, inbox = prepared(scripted_stages(engine, deadlines={"chat_seconds": 20}), RunBus(), Stage.CHAT, emit)
    assert await run.execute(inbox)
    assert (heard_seconds, len(engine.spoken)) == (250, 50)
    assert engine.answered_at is not None
    assert engine.answered_at < 4


@pytest.mark.virtual_clock
@pytest.mark.parametrize(("reports_what_was_heard", "sentences"), [(False, 3), (True, 2)])
async def test_what_was_heard_of_a_long_answer_is_remembered(reports_what_was_heard: bool, sentences: int) -> None:
    made = scripted_stages(ScriptedEngine(answer=[f"This is number {number}. " for number in range(30)]))
    loop = asyncio.get_running_loop()
    began_at: list[float] = []

    async def emit(step: RunEvent | Speech) -> None:
        if isinstance(step, Speech) and not began_at:
            began_at.append(loop.time())
        await paced(step)

    def heard_seconds() -> float:
        return loop.time() - began_at[0] - 4 if began_at else 0.0

    more: dict[str, Any] = {"heard_seconds": heard_seconds} if reports_what_was_heard else {}
    run, inbox = prepared(made, RunBus(), Stage.CHAT, emit, **more)
    task = asyncio.create_task(run.execute(inbox))
    await asyncio.sleep(14)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    heard = " ".join(f"This is number {number}." for number in range(sentences))
    assert made.dialogue.beginning("room kitchen")[-1].content == heard


# Deadlines grow with what there is to do.

SPOKEN, LONG = speech(40) + silence(60), speech(400) + silence(60)
PAUSES = (0.05, 0.05, 0.05, 0.05, 0.05)
STORY = "One two three four five six seven eight."
TWO = "Wait for it. One two three four five six."
LONG_STORY = " ".join(["word"] * 40) + "."


@pytest.mark.virtual_clock
@pytest.mark.parametrize(
    ("audio", "engine", "expected"),
    [
        (SPOKEN, {"usual_seconds": 2.5}, "stt-timeout"),
        (LONG, {"usual_seconds": 2.5}, None),
        (LONG, {"usual_seconds": 1e9}, "stt-timeout"),
        (b"", {"answer": ["Wait for it."], "tts_seconds": (3, 0.05)}, "tts-timeout"),
        (b"", {"answer": [LONG_STORY], "tts_seconds": (3, 0.05)}, None),  # the first sound comes later
        (b"", {"answer": [LONG_STORY], "tts_seconds": (1e9,)}, "tts-timeout"),
        (b"", {"answer": [STORY], "tts_seconds": (*PAUSES, 4, 0.05)}, None),  # there is sound left to hear
        (b"", {"answer": [STORY], "tts_seconds": (0.05, 4)}, "tts-timeout"),
        (b"", {"answer": [STORY], "tts_seconds": (*PAUSES, 1e9)}, "tts-timeout"),
        (b"", {"answer": [TWO], "tts_seconds": (1.5, 0.05, 0.05, 9, 0.05)}, None),  # the voice is as slow as before
        (b"", {"answer": [TWO], "tts_seconds": (0.05, 0.05, 0.05, 9, 0.05)}, "tts-timeout"),
        (b"", {"answer": [TWO], "tts_seconds": (1.5, 0.05, 0.05, 1e9)}, "tts-timeout"),
    ],
)
async def test_a_stage_may_take_longer_for_more_audio_or_text_and_while_sound_is_left(
    audio: bytes, engine: dict[str, Any], expected: str | None
) -> None:
    codes: list[str] = []

    async def emit(step: RunEvent | Speech) -> None:
        await paced(step)
        if isinstance(step, RunFailed):
            codes.append(step.code)

    made = scripted_stages(
        ScriptedEngine(**{"answer": TWO_SENTENCES} | engine), deadlines={"stt_seconds": 2, "tts_seconds": 2}
    )
    run, inbox = prepared(made, RunBus(), Stage.STT if audio else Stage.CHAT, emit, audio)
    async with asyncio.timeout(1000):
        await run.execute(inbox)
    assert codes == ([expected] if expected else [])


# An answer is in the language of the question.


@pytest.mark.parametrize(
    ("languages", "spoken", "told"),
    [(["fr", "en"], "fr", "fr"), (["en-GB", "fr-CA"], "fr-CA", "fr-CA"), (["fr"], None, "fr"), ([], None, "fr")],
    ids=["two", "two regions", "one", "none named"],
)
def test_an_answer_is_spoken_in_the_language_of_the_question_where_there_are_several(
    languages: list[str], spoken: str | None, told: str
) -> None:
    async def answer() -> None:
        engine, bus = ScriptedEngine(language="fr"), RunBus()
        stages = scripted_stages(engine, languages=languages, stt={"model": "base"})
        run, inbox = prepared(stages, bus, Stage.STT, paced)
        assert await run.execute(inbox)
        assert engine.chosen is not None
        assert engine.chosen.spoken == spoken
        assert engine.asides[0].endswith(f"language: {told}")

    run_virtually(answer())
