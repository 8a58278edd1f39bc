"""A command that was cut is taken up again, and answered as one; on a virtual clock."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satellite.errors import Stage
from satellite.events import RunEnd, RunEvent, RunFailed, SttResumed, SttVadEnd
from satellite.pipeline.dialogue import Question
from satellite.pipeline.request import Speech
from tests.loudness import silence, sound, speech
from tests.scripted_engine import ScriptedResponder, scripted_stages
from tests.test_pipeline_speculation import (
    LIGHTS,
    ORCHESTRATION_SECONDS,
    WINDOW_SECONDS,
    Heard,
    converse,
    converse_with,
    engine,
)

pytestmark = pytest.mark.virtual_clock

FIRST, WHOLE = "Turn on the lights.", "Turn on the lights in the garden house."
SPOKEN = 20
LONGEST_PAUSE = int(1.3 / WINDOW_SECONDS)


async def paused(windows: int, first: str = FIRST, **more: Any) -> Heard:
    """Return what comes of `FIRST`, such a pause, and the rest of `WHOLE`."""
    model = engine({0: first, SPOKEN + 5: WHOLE})
    return await converse(model, speech(SPOKEN), silence(windows), speech(SPOKEN), listens_on=True, **more)


def steps_after_resuming(heard: Heard) -> list[RunEvent | Speech]:
    steps = [step for _, step in heard.steps]
    at = next((number for number, step in enumerate(steps) if isinstance(step, SttResumed)), -1)
    return steps[at + 1 :]


@pytest.mark.parametrize("windows", [20, 25, 31, LONGEST_PAUSE])
async def test_who_goes_on_after_the_end_is_answered_as_one(windows: int) -> None:
    heard = await paused(windows)
    assert heard.types.count("stt-resumed") == 1
    after = steps_after_resuming(heard)
    assert FIRST not in " ".join(str(getattr(step, "text", "")) for step in after)
    assert [step.text for step in after if step.__class__.__name__ == "SttEnd"] == [WHOLE]  # type: ignore[union-attr]
    assert sum(isinstance(step, Speech) for step in after) == len(f"You said {WHOLE}".split())
    assert heard.remembered[-2:] == [WHOLE, f"You said {WHOLE}"]
    assert not any(FIRST in text for text in heard.remembered)
    assert isinstance(after[-1], RunEnd)


async def test_who_has_gone_on_and_ended_again_in_one_piece_of_sound_is_answered_as_one() -> None:
    model = engine({0: FIRST, SPOKEN + 5: WHOLE})
    late = range(SPOKEN + 14, SPOKEN + 44)
    heard = await converse(model, speech(SPOKEN), silence(14), speech(6), listens_on=True, late=late)
    assert heard.types.count("stt-resumed") == 1
    assert heard.remembered[-2:] == [WHOLE, f"You said {WHOLE}"]


async def test_the_answer_is_silent_as_soon_as_the_speaker_goes_on() -> None:
    heard = await paused(25)
    went_on_at = (SPOKEN + 25) * WINDOW_SECONDS
    assert 0 < heard.at(SttResumed) - went_on_at <= 0.2
    began = [at for at, step in heard.steps if isinstance(step, Speech)]
    assert any(at < went_on_at for at in began)
    resumed_at = heard.at(SttResumed)
    [_, end_again] = [at for at, step in heard.steps if isinstance(step, SttVadEnd)]
    assert not any(resumed_at <= at < end_again for at in began)


@pytest.mark.parametrize(
    ("windows", "more"),
    [
        (25, {"listens_on": False}),  # the microphone is closed with the end
        (25, {"endpoint": {"repair_seconds": 0}}),
        (25, {"hears_itself": True}),  # it might be the answer
        (50, {}),  # too late
    ],
)
async def test_where_nothing_is_repaired_the_first_half_is_answered_as_before(
    windows: int, more: dict[str, Any]
) -> None:
    heard = await converse(
        engine({0: FIRST, SPOKEN + 5: WHOLE}),
        speech(SPOKEN),
        silence(windows),
        speech(SPOKEN),
        **{"listens_on": True} | more,
    )
    assert "stt-resumed" not in heard.types
    assert heard.remembered[-2:] == [FIRST, f"You said {FIRST}"]


@pytest.mark.parametrize(
    ("seconds", "more"),
    [
        (0.4, {}),
        (0.4, {"hears_itself": None}),
        (0.6, {"hears_itself": True}),
        (0.6, {"listens_on": False}),
        (0.6, {"end": Stage.STT}),
        (0.6, {"endpoint": {"repair_seconds": 0}}),
        (0.6, {"endpoint": {"repairable_silence_seconds": 0.7}}),
        (0.3, {"endpoint": {"repairable_silence_seconds": 0.3}}),
    ],
)
async def test_what_can_be_repaired_ends_sooner(seconds: float, more: dict[str, Any]) -> None:
    heard = await converse(engine({0: FIRST}), speech(60), **{"listens_on": True} | more)
    assert seconds <= heard.waited_seconds <= seconds + WINDOW_SECONDS + ORCHESTRATION_SECONDS


@pytest.mark.parametrize("noise", [speech(3), sound(40, 900), sound(40, 1100)])
async def test_noise_after_the_end_withdraws_nothing(noise: bytes) -> None:
    heard = await converse(engine({0: FIRST}), speech(SPOKEN), silence(25), noise, listens_on=True)
    assert "stt-resumed" not in heard.types
    assert heard.remembered[-2:] == [FIRST, f"You said {FIRST}"]


def acting(done: list[str], *, acts: bool = True) -> ScriptedResponder:
    async def do(question: Question) -> str | None:
        done.append(question.text)
        return "Done."

    return ScriptedResponder("home", do, acting=acts)


@pytest.mark.parametrize(
    ("text", "acts", "repair_seconds", "seconds"),
    [
        (FIRST, True, 1.5, 0.9),  # it may go on
        ("Turn on the", True, 1.5, 1.5),
        (FIRST, True, 0.7, 0.7),
        (FIRST, True, 0, 0.6),
        (FIRST, False, 1.5, 0.4),  # only answers
        (LIGHTS, True, 1.5, 0.3),  # nothing can follow
    ],
)
async def test_what_acts_waits_until_the_words_cannot_go_on(
    text: str, acts: bool, repair_seconds: float, seconds: float
) -> None:
    done: list[str] = []
    home = acting(done, acts=acts)
    heard = await converse(
        engine({0: text}),
        speech(40),
        responders=[home],
        endpoint={"repair_seconds": repair_seconds},
        listens_on=True,
    )
    assert done == [text]
    assert home.asked_at[0] - heard.speech_ended_at == pytest.approx(
        seconds, abs=2 * WINDOW_SECONDS + ORCHESTRATION_SECONDS
    )


async def test_only_the_whole_is_acted_on() -> None:
    done: list[str] = []
    heard = await paused(22, responders=[acting(done)], hears_itself=True)
    assert done == [WHOLE]
    assert "stt-resumed" in heard.types
    assert heard.remembered[-2:] == [WHOLE, "Done."]


@pytest.mark.parametrize("windows", [31, LONGEST_PAUSE])
async def test_who_goes_on_after_words_that_were_not_understood_is_heard(windows: int) -> None:
    heard = await paused(windows, "")
    assert heard.types.count("stt-resumed") == 1
    assert "error" not in heard.types
    assert heard.remembered[-2:] == [WHOLE, f"You said {WHOLE}"]


@pytest.mark.parametrize(
    ("text", "breaks", "more", "seconds"),
    [
        ("", "", {}, 1.5),
        ("", "", {"endpoint": {"repair_seconds": 1.2}}, 1.2),
        ("", "", {"endpoint": {"repair_seconds": 0}}, 0.5),
        ("", "", {"listens_on": False}, 0.5),
        (FIRST, "stt", {}, 0.5),
        (FIRST, "chat", {}, 0.5),
    ],
)
async def test_only_words_that_were_not_understood_are_listened_through(
    text: str, breaks: str, more: dict[str, Any], seconds: float
) -> None:
    heard = await converse(engine({0: text}, breaks=breaks), speech(40), **{"listens_on": True} | more)
    assert [step.type for _, step in heard.steps if isinstance(step, RunFailed)] == ["error"]
    assert heard.at(RunFailed) - heard.speech_ended_at == pytest.approx(seconds, abs=0.15)


async def test_what_was_done_is_not_done_again() -> None:
    done: list[str] = []
    heard = await paused(25, LIGHTS, responders=[acting(done)])
    assert done == [LIGHTS]
    assert "stt-resumed" not in heard.types


@pytest.mark.slow
@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(8, 30), st.integers(1, LONGEST_PAUSE)), min_size=1, max_size=4))
async def test_whatever_pauses_are_shorter_than_the_window_the_whole_is_answered(parts: list[tuple[int, int]]) -> None:
    spoken = sum(windows for windows, _ in parts)
    model = engine({count: f"Sentence {count}." for count in range(spoken + 1)})
    said = (part for spoken, silent in parts for part in (speech(spoken), silence(silent)))
    heard = await converse(model, *said, listens_on=True)
    assert heard.remembered[-2:] == [f"Sentence {spoken}.", f"You said Sentence {spoken}."]
    assert len(heard.remembered) <= 3


async def test_text_is_answered_without_waiting_for_more() -> None:
    heard = await converse(engine({0: FIRST}), start=Stage.CHAT, text=FIRST, listens_on=True)
    assert heard.remembered[-2:] == [FIRST, f"You said {FIRST}"]


async def test_who_pauses_in_most_commands_is_waited_for() -> None:
    stages = scripted_stages(engine({0: FIRST, SPOKEN + 5: WHOLE}))
    ends = []
    for _ in range(6):
        heard = await converse_with(stages, speech(SPOKEN), silence(20), speech(SPOKEN), listens_on=True)
        ends.append(heard.types.count("stt-resumed"))
    assert ends == [1, 1, 1, 1, 1, 0]
