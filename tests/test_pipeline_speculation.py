"""Speculation on a virtual clock: what it saves, and that nothing of a wrong one is delivered."""

import asyncio
from collections.abc import Mapping, Sequence
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
from satellite.pipeline.run import Run
from satellite.pipeline.speculation import CommitBuffer
from satellite.pipeline.stages import Stages
from tests.loudness import WINDOW_SAMPLES, silence, speech
from tests.scripted_engine import (
    FORMAT,
    ScriptedEngine,
    ScriptedResponder,
    assert_no_task_is_left,
    scripted_stages,
    unread,
)

pytestmark = pytest.mark.virtual_clock

WINDOW_SECONDS = WINDOW_SAMPLES / RATE
CHAT_SECONDS, TTS_SECONDS = 0.05, 0.04
ORCHESTRATION_SECONDS = 0.005
LIGHTS = "Turn on the lights in the kitchen."


@dataclass
class Heard:
    """What left a run, and when."""

    steps: list[tuple[float, RunEvent | Speech]] = field(default_factory=list)
    watched: list[RunEvent] = field(default_factory=list)
    remembered: list[str] = field(default_factory=list)
    speech_ended_at: float = 0.0

    def at(self, wanted: type[RunEvent | Speech]) -> float:
        return next(at for at, step in self.steps if isinstance(step, wanted))

    @property
    def waited_seconds(self) -> float:
        return self.at(SttVadEnd) - self.speech_ended_at

    @property
    def texts(self) -> str:
        steps = [step for _, step in self.steps if isinstance(step, RunEvent)]
        return " ".join(str(getattr(step, "text", "")) for step in [*steps, *self.watched])

    @property
    def types(self) -> list[str]:
        return list(dict.fromkeys("speech" if isinstance(step, Speech) else str(step.type) for _, step in self.steps))


def engine(texts: dict[int, str], stt_seconds: float = 0.06, **more: Any) -> ScriptedEngine:
    """Return an engine that understands `texts`, each of at least so many windows of speech."""
    return ScriptedEngine(texts, None, stt_seconds, CHAT_SECONDS, (TTS_SECONDS,), **more)


async def converse(
    engine: ScriptedEngine,
    *said: bytes,
    responders: Sequence[ScriptedResponder] = (),
    endpoint: Mapping[str, float] | None = None,
    **request: Any,
) -> Heard:
    """Say something at the pace of a microphone to parts that are new, and return what came of it."""
    stages = scripted_stages(engine, *responders, endpoint=endpoint or {})
    return await converse_with(stages, *said, **request)


async def converse_with(stages: Stages, *said: bytes, late: range = range(0), **request: Any) -> Heard:
    """Say something at the pace of a microphone, and return what came of it.

    The windows of sound in `late` come together with the next one, as from a network that has stalled.
    """
    loop = asyncio.get_running_loop()
    heard, bus, inbox = Heard(), RunBus(), AudioInbox(20)

    async def emit(step: RunEvent | Speech) -> None:
        heard.steps.append((loop.time(), step))

    async def microphone() -> None:
        pcm = b"".join(said) + silence(200)
        held = b""
        for number, at in enumerate(range(0, len(pcm), 2 * WINDOW_SAMPLES)):
            await asyncio.sleep(WINDOW_SECONDS)
            window = pcm[at : at + 2 * WINDOW_SAMPLES]
            if any(window):
                heard.speech_ended_at = loop.time()
            held += window
            if number not in late:
                await inbox.put(held)
                held = b""

    run = Run(stages, bus, RunRequest("kitchen", **{"start": Stage.STT} | request), emit)
    with bus.subscribe(4096) as events:
        hearing = asyncio.create_task(microphone())
        await run.execute(inbox)
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)
        assert_no_task_is_left()
        heard.watched = unread(events)
    heard.remembered = [message.content for message in stages.dialogue.beginning("room kitchen")]
    return heard


async def test_what_is_complete_is_answered_as_soon_as_the_silence_is_long_enough() -> None:
    model = engine({0: LIGHTS})
    heard = await converse(model, speech(40))
    assert heard.at(Speech) - heard.at(SttVadEnd) <= ORCHESTRATION_SECONDS
    assert " ".join(heard.types) == (
        "run-start stt-start stt-vad-start stt-vad-end stt-end chat-start chat-delta chat-end tts-start speech "
        "tts-end run-end"
    )
    assert len(model.asked) == len(model.transcribed) == 1
    assert heard.remembered[-2:] == [LIGHTS, f"You said {LIGHTS}"]


@pytest.mark.parametrize("stt_seconds", [0.3, 0.5])
async def test_what_takes_longer_than_the_silence_ends_the_command_between_two_windows(stt_seconds: float) -> None:
    heard = await converse(engine({0: LIGHTS}, stt_seconds), speech(40))
    began_at = heard.speech_ended_at + 2 * WINDOW_SECONDS  # the shortest pause that may be the end
    work_seconds = stt_seconds + CHAT_SECONDS + TTS_SECONDS
    assert heard.at(SttVadEnd) - began_at == pytest.approx(work_seconds, abs=ORCHESTRATION_SECONDS)
    assert heard.at(Speech) - began_at == pytest.approx(work_seconds, abs=ORCHESTRATION_SECONDS)


@pytest.mark.parametrize(
    ("text", "stt_seconds", "seconds"),
    [
        (LIGHTS, 0.06, 0.3),
        (LIGHTS, 2.0, 1.1),  # an answer that takes long does not keep the microphone open
        ("Turn on the lights.", 0.06, 0.6),
        ("What's the weather?", 0.06, 0.6),
        ("Next.", 0.06, 0.3),
        ("Turn on the", 0.06, 1.1),
        ("Turn on the lights and", 0.06, 1.1),
        ("Turn on...", 0.06, 1.1),
        ("Ota valot päälle.", 0.06, 0.6),  # the model says that this is English
    ],
)
async def test_how_long_the_silence_is_depends_on_the_words(text: str, stt_seconds: float, seconds: float) -> None:
    heard = await converse(engine({0: text}, stt_seconds), speech(60))
    assert seconds <= heard.waited_seconds <= seconds + WINDOW_SECONDS + ORCHESTRATION_SECONDS
    assert "speech" in heard.types


@pytest.mark.parametrize(
    ("first", "whole", "stt_seconds", "pause"),
    [
        ("Set a timer.", "What is the weather in Paris?", 0.06, 12),
        (LIGHTS, "Turn on the lamps and the radio.", 0.4, 14),  # goes on before there is an answer
    ],
)
async def test_a_sentence_that_goes_on_leaks_nothing_of_the_speculation(
    first: str, whole: str, stt_seconds: float, pause: int
) -> None:
    model = engine({0: first, 30: whole}, stt_seconds)
    heard = await converse(model, speech(20), silence(pause), speech(20))
    assert (model.transcribed[-1], model.asked[-1], heard.types[-1]) == (whole, whole, "run-end")
    assert first not in heard.texts
    assert sum(isinstance(step, Speech) for _, step in heard.steps) == len(f"You said {whole}".split())
    assert heard.remembered[-2:] == [whole, f"You said {whole}"]
    assert first not in heard.remembered
    [end] = [step for _, step in heard.steps if isinstance(step, SttVadEnd)]
    assert end.speculations == 2


@pytest.mark.parametrize("breath", [1, 3])
async def test_a_breath_after_the_words_does_not_restart_their_answer(breath: int) -> None:
    model = ScriptedEngine({0: LIGHTS}, None, 0.06, 0.5, (TTS_SECONDS,))
    heard = await converse(model, speech(40), silence(4), speech(breath))
    (end,) = (step for _, step in heard.steps if isinstance(step, SttVadEnd))
    assert (len(model.transcribed), end.speculations, model.asked) == (2, 2, [LIGHTS])
    begun_at = heard.speech_ended_at - (breath + 2) * WINDOW_SECONDS
    assert heard.at(Speech) - begun_at == pytest.approx(0.06 + 0.5 + TTS_SECONDS, abs=ORCHESTRATION_SECONDS)
    assert heard.remembered[-2:] == [LIGHTS, f"You said {LIGHTS}"]


async def test_an_answer_that_was_ready_before_a_breath_ends_the_command_after_it() -> None:
    heard = await converse(engine({0: LIGHTS}), speech(40), silence(7), speech(1))
    assert heard.waited_seconds <= 0.3 + WINDOW_SECONDS + ORCHESTRATION_SECONDS


@pytest.mark.parametrize(("spoken", "asked"), [(3, [LIGHTS, "No."]), (20, [LIGHTS, "No."])])
async def test_other_words_after_a_pause_end_the_answer_to_those_before_it(spoken: int, asked: list[str]) -> None:
    model = ScriptedEngine({0: LIGHTS, 42: "No."}, None, 0.06, 0.5, (TTS_SECONDS,))
    heard = await converse(model, speech(40), silence(4), speech(spoken))
    assert model.asked == asked
    assert LIGHTS not in heard.texts


async def test_an_answer_that_failed_before_a_breath_is_tried_again() -> None:
    class Moody(ScriptedEngine):
        async def transcribe(self, pcm: bytes, *, speech: Sequence[float], **more: Any) -> Transcription:
            heard = await super().transcribe(pcm, speech=speech, **more)
            self.breaks = "" if self.breaks else "tts"
            return heard

    model = Moody({0: LIGHTS}, None, 0.06, 0.01, (TTS_SECONDS,))
    heard = await converse(model, speech(40), silence(7), speech(1))
    assert model.asked == [LIGHTS, LIGHTS]
    assert "error" not in heard.types


async def test_the_chat_model_reads_before_the_words_what_is_known_then_and_then_what_two_transcripts_agree_on() -> (
    None
):
    texts = {0: "What", 10: "What is the weather", 40: "What is the weather in", 60: LIGHTS}
    model = engine(texts, stt_seconds=0.02)
    await converse(model, speech(70))
    read = [message for known in model.prepared for message in known if message.role == "user"]
    assert [message.content for message in read] == ["", "What is the"]
    assert all(message.aside.startswith("It is ") for message in read)
    assert model.asked == [LIGHTS]


async def test_words_that_lack_something_cost_no_question() -> None:
    model = engine({0: "Turn on the", 30: LIGHTS})
    await converse(model, speech(20), silence(9), speech(20))
    assert model.asked == [LIGHTS]


@pytest.mark.parametrize(
    ("understood", "concerned", "asked"), [(LIGHTS, False, []), (LIGHTS, True, []), ("", True, [LIGHTS])]
)
async def test_nothing_that_has_an_effect_is_done_before_the_end_is_known(
    understood: str, concerned: bool, asked: list[str]
) -> None:
    async def done(question: Question) -> str | None:
        return "Done." if question.text == understood else None

    home = ScriptedResponder("home", done, concerned=lambda question: concerned or question.text == understood)
    model = engine({0: LIGHTS})
    heard = await converse(model, speech(40), responders=[home])
    (asked_at,) = home.asked_at
    assert asked_at >= heard.at(SttVadEnd)
    assert asked_at - heard.speech_ended_at <= 0.3 + WINDOW_SECONDS + ORCHESTRATION_SECONDS
    assert model.asked == asked


async def test_whom_a_question_does_not_concern_holds_nobody_up() -> None:
    async def done(_: Question) -> str | None:
        return "Done."

    home = ScriptedResponder("home", done, concerned=lambda question: False)
    heard = await converse(engine({0: LIGHTS}), speech(40), responders=[home])
    assert home.asked_at == []
    assert heard.at(Speech) - heard.at(SttVadEnd) <= ORCHESTRATION_SECONDS


async def test_a_speculation_that_fails_fails_the_run_once_it_is_committed() -> None:
    heard = await converse(engine({0: LIGHTS}, breaks="stt"), speech(40))
    assert heard.types[-3:] == ["stt-vad-end", "error", "run-end"]
    assert heard.at(RunFailed) - heard.speech_ended_at >= 0.5


async def test_a_dropped_speculation_may_fail() -> None:
    class Moody(ScriptedEngine):
        async def transcribe(self, pcm: bytes, *, speech: Sequence[float], **more: Any) -> Transcription:
            self.breaks = "stt" if sum(speech) < 30 else ""
            return await super().transcribe(pcm, speech=speech, **more)

    heard = await converse(Moody({0: LIGHTS}), speech(20), silence(12), speech(20))
    assert "error" not in heard.types


@pytest.mark.slow
@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(5, 30), st.integers(1, 11)), min_size=1, max_size=6))
async def test_whatever_pauses_somebody_makes_only_the_whole_is_answered(parts: list[tuple[int, int]]) -> None:
    spoken = sum(windows for windows, _ in parts)
    model = engine({count: f"Sentence {count}." for count in range(spoken + 1)})
    heard = await converse(model, *(part for said, paused in parts for part in (speech(said), silence(paused))))
    assert set(heard.texts.split()) - {"You", "said"} == {"Sentence", f"{spoken}."}
    assert isinstance([step for _, step in heard.steps if isinstance(step, RunEvent)][-1], RunEnd)


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
    running = asyncio.create_task(converse(engine({0: LIGHTS}, stt_seconds=10), speech(20), silence(8), speech(20)))
    await asyncio.sleep(2)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert "speculation" not in {task.get_name() for task in asyncio.all_tasks()}
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
