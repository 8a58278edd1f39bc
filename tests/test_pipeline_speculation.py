"""Speculation on a virtual clock: what it saves, and that nothing of a wrong one is delivered."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satellite.audio.pcm import RATE
from satellite.engines.protocols import Transcription
from satellite.errors import Stage
from satellite.events import RunBus, RunEnd, RunEvent, RunFailed, SttVadEnd
from satellite.pipeline.audio_queue import AudioInbox
from satellite.pipeline.dialogue import Question
from satellite.pipeline.request import RunRequest, Speech
from satellite.pipeline.responder import Reply, ResponderStatus
from satellite.pipeline.run import Run
from satellite.pipeline.speculation import CommitBuffer
from satellite.pipeline.stages import Stages
from tests.loudness import WINDOW_SAMPLES, silence, speech
from tests.scripted_engine import FORMAT, ScriptedEngine, assert_no_task_is_left, scripted_stages, unread

pytestmark = pytest.mark.virtual_clock

WINDOW_SECONDS = WINDOW_SAMPLES / RATE
CHAT_SECONDS, TTS_SECONDS = 0.05, 0.04
ORCHESTRATION_SECONDS = 0.005


class Home:
    """Answers some questions, and remembers when it was asked."""

    name = "home"

    def __init__(self, *understood: str, knows: bool = True) -> None:
        self.understood = understood
        self.knows = knows
        self.asked_at: list[float] = []
        self.status = ResponderStatus(self.name, "ready", True, "")

    def deadline_seconds(self, question: Question) -> float:
        """Say that it takes a while."""
        return 5.0

    async def concerns(self, question: Question) -> bool:
        """Tell, if that can be known without asking."""
        return not self.knows or question.text in self.understood

    async def respond(self, question: Question) -> Reply | None:
        """Do something that cannot be undone."""
        self.asked_at.append(asyncio.get_running_loop().time())
        return Reply("Done.", self.name) if question.text in self.understood else None

    async def watch(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""


@dataclass
class Told:
    """What left a run, and when."""

    stages: Stages

    steps: list[tuple[float, RunEvent | Speech]] = field(default_factory=list)
    watched: list[RunEvent] = field(default_factory=list)
    speech_ended_at: float = 0.0

    def at(self, wanted: type[RunEvent | Speech]) -> float:
        """Return when the first step of a kind left."""
        return next(at for at, step in self.steps if isinstance(step, wanted))

    @property
    def texts(self) -> str:
        """Every word that was told to anybody."""
        steps = [step for _, step in self.steps if isinstance(step, RunEvent)]
        return " ".join(str(getattr(step, "text", "")) for step in [*steps, *self.watched])

    @property
    def types(self) -> list[str]:
        """Return the kinds of steps in their order, each once."""
        return list(dict.fromkeys("speech" if isinstance(step, Speech) else str(step.type) for _, step in self.steps))


def engine(texts: dict[int, str], stt_seconds: float = 0.06, **more: Any) -> ScriptedEngine:
    """Return an engine that understands `texts`, each of at least so many windows of speech."""
    return ScriptedEngine(texts, None, stt_seconds, CHAT_SECONDS, (TTS_SECONDS,), **more)


async def converse(engine: ScriptedEngine, *said: bytes, responders: Sequence[Home] = ()) -> Told:
    """Say something at the pace of a microphone, and return what came of it."""
    stages = scripted_stages(engine, *responders)
    loop = asyncio.get_running_loop()
    told, bus, inbox = Told(stages), RunBus(), AudioInbox(20)

    async def emit(step: RunEvent | Speech) -> None:
        told.steps.append((loop.time(), step))

    async def microphone() -> None:
        pcm = b"".join(said) + silence(200)
        for at in range(0, len(pcm), 2 * WINDOW_SAMPLES):
            await asyncio.sleep(WINDOW_SECONDS)
            window = pcm[at : at + 2 * WINDOW_SAMPLES]
            if any(window):
                told.speech_ended_at = loop.time()
            await inbox.put(window)

    run = Run(stages, bus, RunRequest("kitchen", start=Stage.STT), emit)
    with bus.subscribe(4096) as events:
        hearing = asyncio.create_task(microphone())
        await run.execute(inbox)
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)
        assert_no_task_is_left()
        told.watched = unread(events)
    return told


LIGHTS = "Turn on the lights in the kitchen."


async def test_what_is_complete_is_answered_as_soon_as_the_silence_is_long_enough() -> None:
    heard = engine({0: LIGHTS})
    told = await converse(heard, speech(40))
    waited = told.at(SttVadEnd) - told.speech_ended_at
    assert 0.3 <= waited <= 0.3 + WINDOW_SECONDS
    assert told.at(Speech) - told.at(SttVadEnd) <= ORCHESTRATION_SECONDS
    assert told.types == [
        "run-start",
        "stt-start",
        "stt-vad-start",
        "stt-vad-end",
        "stt-end",
        "chat-start",
        "chat-delta",
        "chat-end",
        "tts-start",
        "speech",
        "tts-end",
        "run-end",
    ]
    assert len(heard.asked) == len(heard.transcribed) == 1
    assert [m.content for m in told.stages.dialogue.beginning("room kitchen")][-2:] == [LIGHTS, f"You said {LIGHTS}"]


async def test_what_takes_longer_than_the_silence_adds_nothing_but_itself() -> None:
    heard = engine({0: LIGHTS}, stt_seconds=0.5)
    told = await converse(heard, speech(40))
    began_at = told.speech_ended_at + 2 * WINDOW_SECONDS  # the shortest pause that may be the end
    assert told.at(Speech) - began_at <= 0.5 + CHAT_SECONDS + TTS_SECONDS + ORCHESTRATION_SECONDS


async def test_the_answer_ends_the_command_between_two_windows() -> None:
    heard = engine({0: LIGHTS}, stt_seconds=0.3)
    told = await converse(heard, speech(40))
    began_at = told.speech_ended_at + 2 * WINDOW_SECONDS
    work_seconds = 0.3 + CHAT_SECONDS + TTS_SECONDS
    assert told.at(SttVadEnd) - began_at == pytest.approx(work_seconds, abs=ORCHESTRATION_SECONDS)


async def test_whoever_goes_on_before_there_is_an_answer_is_heard() -> None:
    whole = "Turn on the lights in the kitchen and in the hall."
    heard = engine({0: LIGHTS, 30: whole}, stt_seconds=0.4)
    told = await converse(heard, speech(20), silence(14), speech(20))
    assert heard.asked[-1] == whole
    assert LIGHTS not in told.texts
    assert told.types[-1] == "run-end"


async def test_an_answer_that_takes_long_does_not_keep_the_microphone_open() -> None:
    told = await converse(engine({0: LIGHTS}, stt_seconds=2.0), speech(40))
    waited = told.at(SttVadEnd) - told.speech_ended_at
    assert 0.9 <= waited <= 0.9 + WINDOW_SECONDS + ORCHESTRATION_SECONDS
    assert Speech in {type(step) for _, step in told.steps}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (LIGHTS, 0.3),
        ("Turn on the lights.", 0.9),
        ("Turn on the", 0.9),
        ("Turn on the lights and", 0.9),
        ("Turn on...", 0.9),
        ("Ota valot päälle.", 0.9),  # the model says that this is English
    ],
)
async def test_how_long_the_silence_is_depends_on_the_words(text: str, seconds: float) -> None:
    told = await converse(engine({0: text}), speech(60))
    waited = told.at(SttVadEnd) - told.speech_ended_at
    assert seconds <= waited <= seconds + WINDOW_SECONDS + ORCHESTRATION_SECONDS


async def test_a_sentence_that_goes_on_leaks_nothing_of_the_speculation() -> None:
    heard = engine({0: "Set a timer.", 30: "What is the weather in Paris?"})
    told = await converse(heard, speech(20), silence(12), speech(20))
    assert heard.transcribed == ["Set a timer.", "What is the weather in Paris?"]
    assert "timer" not in told.texts
    assert sum(isinstance(step, Speech) for _, step in told.steps) == len(
        ["You", "said", "What", "is", "the", "weather", "in", "Paris?"]
    )
    assert all("timer" not in message.content for message in told.stages.dialogue.beginning("room kitchen"))
    end = next(step for _, step in told.steps if isinstance(step, SttVadEnd))
    assert end.speculations == 2


async def test_the_chat_model_reads_ahead_what_two_transcripts_agree_on() -> None:
    heard = engine({0: "What", 10: "What is the weather", 40: "What is the weather in", 60: LIGHTS}, stt_seconds=0.02)
    await converse(heard, speech(70))
    assert heard.expected == ["What is the"]
    assert heard.asked == [LIGHTS]


async def test_words_that_lack_something_cost_no_question() -> None:
    heard = engine({0: "Turn on the", 30: LIGHTS})
    await converse(heard, speech(20), silence(9), speech(20))
    assert heard.asked == [LIGHTS]


async def test_nothing_that_has_an_effect_is_done_before_the_end_is_known() -> None:
    for home in (Home(LIGHTS), Home(LIGHTS, knows=False), Home(knows=False)):
        heard = engine({0: LIGHTS})
        told = await converse(heard, speech(40), responders=[home])
        (asked_at,) = home.asked_at
        assert asked_at >= told.at(SttVadEnd)
        assert asked_at - told.speech_ended_at <= 0.3 + WINDOW_SECONDS + ORCHESTRATION_SECONDS
        assert heard.asked == ([] if home.understood else [LIGHTS])


async def test_whom_a_question_does_not_concern_holds_nobody_up() -> None:
    home = Home("What time is it?")
    told = await converse(engine({0: LIGHTS}), speech(40), responders=[home])
    assert home.asked_at == []
    assert told.at(Speech) - told.at(SttVadEnd) <= ORCHESTRATION_SECONDS


async def test_a_speculation_that_fails_fails_the_run_once_it_is_committed() -> None:
    told = await converse(engine({0: LIGHTS}, breaks="stt"), speech(40))
    assert told.types[-3:] == ["stt-vad-end", "error", "run-end"]
    assert told.at(RunFailed) - told.speech_ended_at >= 0.5


async def test_a_dropped_speculation_may_fail() -> None:
    class Moody(ScriptedEngine):
        async def transcribe(self, pcm: bytes, *, speech: Sequence[float], **more: Any) -> Transcription:
            self.breaks = "stt" if sum(speech) < 30 else ""
            return await super().transcribe(pcm, speech=speech, **more)

    told = await converse(Moody({0: LIGHTS}), speech(20), silence(12), speech(20))
    assert "error" not in told.types


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(5, 30), st.integers(1, 22)), min_size=1, max_size=6))
async def test_whatever_pauses_somebody_makes_only_the_whole_is_answered(parts: list[tuple[int, int]]) -> None:
    spoken = sum(windows for windows, _ in parts)
    heard = engine({count: f"Sentence {count}." for count in range(spoken + 1)})
    told = await converse(heard, *(part for said, paused in parts for part in (speech(said), silence(paused))))
    assert set(told.texts.split()) - {"You", "said"} == {"Sentence", f"{spoken}."}
    assert isinstance([step for _, step in told.steps if isinstance(step, RunEvent)][-1], RunEnd)


async def test_an_uncommitted_buffer_holds_some_seconds_of_sound_and_then_the_work() -> None:
    came: list[int] = []

    async def emit(step: RunEvent | Speech) -> None:
        await asyncio.sleep(0.1)
        assert isinstance(step, Speech)
        came.append(len(step.pcm))

    buffer = CommitBuffer(emit, lambda event: None)
    done: list[int] = []

    async def work() -> None:
        for number in range(1, 11):
            await buffer.emit(Speech(FORMAT, bytes(2 * RATE + 2 * number)))
            done.append(number)

    working = asyncio.create_task(work())
    await asyncio.sleep(1)
    assert (done, came) == ([1, 2, 3, 4], [])
    await buffer.deliver_until(working)
    assert came == [2 * RATE + 2 * number for number in range(1, 11)]


async def test_whoever_is_cancelled_leaves_nothing_behind() -> None:
    heard = engine({0: LIGHTS}, stt_seconds=10)
    running = asyncio.create_task(converse(heard, speech(20), silence(8), speech(20)))
    await asyncio.sleep(2)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert "speculation" not in {task.get_name() for task in asyncio.all_tasks()}
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
