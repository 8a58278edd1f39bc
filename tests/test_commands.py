"""Commands answered without a model: what is said to them, in which room, and what is left to others."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime
from functools import lru_cache
from pathlib import Path

import pytest

from satellite.pipeline.dialogue import Question
from satellite.pipeline.responder import ResponderChain
from satellite.skills import grammars
from satellite.skills.commands import CommandResponder, CommandsStatus
from satellite.skills.timers.scheduler import TimerScheduler
from satellite.skills.timers.timers import Duration, TimerState

ROOMS = {"kitchen": "kitchen", "bedroom": "bedroom", "parents": "bedroom"}
NOW = datetime(2026, 11, 23, 17, 5)  # local time, as the daemon's


class Commands:
    def __init__(self, folder: Path) -> None:
        self.now = 1000.0
        self.last_answer: str | None = None
        self.scheduler = TimerScheduler(folder, clock=lambda: self.now)
        self.timers = self.scheduler.timers
        self.responder = CommandResponder(
            self.scheduler, rooms=ROOMS, last_answer=lambda _: self.last_answer, now=lambda: NOW
        )

    async def said(self, text: str, place: str = "kitchen", language: str | None = "en") -> str | None:
        """Return what is answered; None where another shall answer."""
        reply = await self.responder.respond(Question(text, f"room {place}", place, language, place=place))
        assert reply is None or reply.provider == "commands"
        return None if reply is None else reply.text

    def later(self, seconds: float) -> None:
        self.now += seconds
        self.timers.tick()


@pytest.fixture(scope="module", autouse=True)
def _compiled_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grammars, "_compiled", lru_cache(grammars._compiled))
        yield


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Commands]:
    built = Commands(tmp_path)
    yield built
    await built.responder.close()
    await built.responder.close()


async def test_a_command_is_read_once(house: Commands) -> None:
    text = "Set a timer for ten minutes in the kitchen."
    read = house.responder._recent
    assert await house.responder.concerns(Question(text, language="en"))
    (first,) = read.values()
    await house.responder.is_command(text, "en")
    assert await house.said(text) == "Timer set for 10 minutes"
    assert list(read.values()) == [first]
    assert read["en", text] is first
    house.responder.configure(dict(ROOMS))
    assert await house.responder.concerns(Question(text, language="en"))
    assert read["en", text] is not first
    for number in range(20):
        assert not await house.responder.is_command(f"Text {number}", "en")
    assert len(read) <= 16


async def test_the_life_of_a_timer(house: Commands) -> None:
    assert await house.said("Set a pizza timer for ten minutes.") == "Timer set for 10 minutes named pizza"
    house.later(61)
    assert await house.said("How long left on the pizza timer?") == "9 minutes left."
    assert await house.said("Pause the pizza timer.") == "Timer paused"
    house.later(1000)
    assert house.timers.left(house.timers.all()[0]) == 539
    assert await house.said("Resume the timer.") == "Timer resumed"
    assert "15 minutes" in str(await house.said("Add six minutes to the timer."))
    assert "5 minutes" in str(await house.said("Take 10 minutes off the pizza timer."))
    assert await house.said("Cancel the timer.") == "Timer cancelled"
    assert house.timers.all() == []
    assert await house.said("How long left on the timer?") == "No timers."


async def test_several_timers_at_once_are_told_apart(house: Commands) -> None:
    for text in ("Set a pizza timer for 10 minutes", "Set a 5 minute timer", "Set a timer for 3 minutes"):
        await house.said(text)
    await house.said("Set a timer for 7 minutes", "bedroom")
    assert await house.said("Cancel the timer.") == "Sorry, I am unable to target multiple timers"
    assert await house.said("Cancel the pasta timer.") == "Sorry, I couldn't find that timer"
    assert len(house.timers.all()) == 4
    await house.said("Cancel the timer.", "bedroom")
    await house.said("Cancel the 5 minute timer.")
    await house.said("Cancel my second timer")
    assert [timer.name for timer in house.timers.all()] == ["pizza"]
    await house.said("Set a timer for 20 minutes in parents.")
    assert await house.said("How much time is left?", "bedroom") == "20 minutes left."
    assert await house.said("How much time is left on the timers?", "") == (
        "2 running timers. 10 minutes left on 10 minute pizza timer."
    )
    assert [timer.place for timer in house.timers.all()] == ["kitchen", "bedroom"]
    assert await house.said("Cancel all timers.") is not None
    assert house.timers.all() == []


async def test_where_nothing_could_ring_there_is_no_timer(house: Commands) -> None:
    for place in ("", "127.0.0.1:4321"):
        refused = await house.said("Set a timer for 5 minutes.", place)
        assert refused == "Sorry, timers are not supported on this device"
    assert house.timers.all() == []
    assert "5 minutes" in str(await house.said("Set a timer for 5 minutes in the kitchen.", ""))
    assert await house.said("How long left on the timer?", "") == "5 minutes left."
    assert await house.said("Cancel the timer.", "") == "Timer cancelled"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        *((text, "kitchen") for text in ("Stop.", "Thank you.", "Never mind.", "Cancel all timers.")),
        *((text, place) for text in ("Stop!", "Stop the timer.") for place in ("kitchen", "bedroom")),
    ],
)
async def test_what_rings_is_silenced(house: Commands, text: str, place: str) -> None:
    await house.said("Set a timer for one minute.")
    house.later(60)
    assert [timer.state for timer in house.timers.all()] == [TimerState.RINGING]
    assert await house.said(text, place) == ""
    assert house.timers.all() == []


@pytest.mark.parametrize(
    ("language", "text"),
    [("pl", "Przestań."), ("ja", "止めて。"), ("hi", "रुको।"), ("no", "Stopp!"), ("zh-Hant", "停下來")],
)
async def test_a_word_silences_in_languages_without_sentences_of_ours(
    house: Commands, language: str, text: str
) -> None:
    await house.said("Set a timer for one minute.")
    house.later(60)
    assert await house.responder.means_stop(text, language)
    assert await house.said(text, "bedroom", language) == ""
    assert house.timers.all() == []


@pytest.mark.parametrize(
    ("text", "language", "answer"),
    [
        ("Cancel the timer.", "en", "Timer cancelled"),
        ("Cancel all timers.", "en", "Canceled 1 timer."),
        ("Annule le minuteur.", "fr", "Minuteur supprimé"),
        ("Brich den Timer ab.", "de", "Timer gestoppt"),
    ],
)
async def test_a_timer_that_was_silenced_just_now_counts_as_cancelled(
    house: Commands, text: str, language: str, answer: str
) -> None:
    for later in (9, 11):
        await house.said("Set a timer for one minute.")
        house.later(60)
        house.timers.silence("kitchen")  # as the wake word does before the command
        house.later(later)
        assert (await house.said(text, language=language) == answer) == (later == 9)


async def test_one_that_runs_is_cancelled_by_whoever_says_it_again(house: Commands) -> None:
    await house.said("Set a timer for one minute.")
    await house.said("Set a timer for two minutes.")
    house.later(60)
    house.timers.silence("kitchen")
    assert await house.said("Cancel the two minute timer.") == "Timer cancelled"
    assert house.timers.all() == []
    await house.said("Set a timer for two minutes.")
    for left in (1, 0):
        assert await house.said("Cancel the timer.") == "Timer cancelled"
        assert len(house.timers.all()) == left


async def test_what_rings_elsewhere_is_not_meant_while_a_timer_runs_here(house: Commands) -> None:
    await house.said("Set a timer for one minute.")
    house.later(60)
    assert await house.said("Thank you.", "bedroom") is None
    await house.said("Set a tea timer for two minutes.", "bedroom")
    assert await house.said("Stop the timer.", "bedroom") == "Timer cancelled"
    assert len(house.timers.ringing("kitchen")) == 1


@pytest.mark.parametrize(
    ("language", "text", "answer"),
    [
        ("en", "Stop.", ""),  # to somebody who speaks
        ("en", "Never mind.", ""),
        ("en", "Thank you.", None),
        ("en", "What time is it?", "5:05 PM"),
        (None, "What time is it?", "5:05 PM"),
        ("en", "What is the date?", "Monday, November 23rd, 2026"),
        ("de", "Wie spät ist es?", "Es ist 17:05"),
        ("en", "Set a timer for 30 hours.", "A timer can run for a day at most."),
        # What is no command is left to others.
        ("en", "What time does the sun rise?", None),
        ("en", "Stop the war.", None),
        ("en", "How much time is left?", None),
        ("en", "5 more minutes.", None),
        ("en", "", None),
        ("de", "Wie lange dauert der Film?", None),
        ("tlh", "Set a timer for 5 minutes.", None),
    ],
)
async def test_what_is_said_without_a_timer(
    house: Commands, language: str | None, text: str, answer: str | None
) -> None:
    assert await house.said(text, language=language) == answer
    assert house.timers.all() == []


async def test_the_last_answer_is_repeated(house: Commands) -> None:
    assert await house.said("Say that again.") is None
    house.last_answer = "Paris."
    assert await house.said("Say that again.") == "Paris."


async def test_timers_are_the_same_in_other_languages(house: Commands) -> None:
    said = await house.said("Stell einen Pizza-Timer auf zehn Minuten.", language="de-DE")
    assert {"10", "Minuten", "Pizza"} <= set(re.findall(r"\w+", str(said)))
    assert "10 minutes" in str(await house.said("Combien de temps reste-t-il sur le minuteur ?", language="fr"))
    assert await house.said("Brich den Timer ab.", language="de") is not None
    assert house.timers.all() == []


async def test_what_cannot_be_a_timer(house: Commands) -> None:
    await house.said("Set a timer for 20 hours.")
    assert await house.said("Add ten hours to the timer.") == "A timer can run for a day at most."
    for _ in range(49):
        house.timers.start(Duration(minutes=5), place="kitchen")
    assert await house.said("Set a timer for 5 minutes.") == "There are too many timers already."


async def test_the_status_tells_of_timers_and_languages(house: Commands) -> None:
    assert house.responder.status.message == "no timers"
    await house.said("Set a timer for 5 minutes.")
    await house.said("Set a timer for 1 minute.")
    await house.said("Pause the 5 minute timer.")
    house.later(60)
    assert house.responder.status == CommandsStatus(
        responder="commands",
        state="ready",
        up=True,
        message="timers: 1 paused, 1 ringing",
        timers={"running": 0, "paused": 1, "ringing": 1, "missed": 0},
        languages=("en",),
    )


@pytest.mark.virtual_clock
async def test_the_languages_of_the_house_are_compiled_before_they_are_spoken(tmp_path: Path) -> None:
    spoken = ["fr"]
    responder = CommandResponder(TimerScheduler(tmp_path), languages=["en"], likely_languages=lambda: spoken)
    watch = asyncio.create_task(responder.watch())
    for language in ("en", "fr", "de"):
        await asyncio.sleep(11)
        assert language in responder.status.languages
        assert responder.deadline_seconds(Question("x", language=language)) == 5
        spoken[1:] = ["de"]
    assert responder.deadline_seconds(Question("x", language="nl")) == 15
    assert responder.deadline_seconds(Question("x", language="tlh")) == 5  # there is none to wait for
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)
    await responder.close()


@pytest.mark.virtual_clock
async def test_the_configured_languages_are_compiled_at_the_start_and_stay(tmp_path: Path) -> None:
    house = ["en", "fr", "de", "nl", "it", "es", "pt"]
    responder = CommandResponder(TimerScheduler(tmp_path), languages=house, likely_languages=lambda: ["sv"])
    watch = asyncio.create_task(responder.watch())
    for seconds in (9, 60):
        await asyncio.sleep(seconds)
        assert responder.status.languages == tuple(house)
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)
    await responder.close()


@pytest.mark.virtual_clock
@pytest.mark.parametrize(("compiling_seconds", "answered"), [(12, True), (20, False)])
async def test_the_first_sentence_in_a_language_is_answered_late_but_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiling_seconds: float, answered: bool
) -> None:
    to_thread = asyncio.to_thread

    async def on_a_slow_board(function: Callable[..., object], *arguments: object) -> object:
        if function is grammars._compiled:
            await asyncio.sleep(compiling_seconds)
        return await to_thread(function, *arguments)

    monkeypatch.setattr(asyncio, "to_thread", on_a_slow_board)
    responder = CommandResponder(TimerScheduler(tmp_path), rooms=ROOMS)
    question = Question("Stelle einen Timer auf fünf Minuten.", language="de", place="kitchen")
    reply = await ResponderChain([responder]).answer(question, None)
    assert (reply is not None) is answered
    assert asyncio.get_running_loop().time() < 16
    await responder.close()


async def test_the_end_of_a_command_does_not_wait_for_a_language(house: Commands) -> None:
    assert not await house.responder.is_command("Arrête.", "fr")
    assert await house.responder.concerns(Question("Arrête.", language="fr"))
    assert await house.responder.is_command("Arrête.", "fr")


async def test_what_was_said_to_a_device_of_home_assistants_is_left_to_it(house: Commands) -> None:
    def asking(text: str) -> Question:
        return Question(text, language="en", device="d-kitchen")

    home = CommandResponder(house.scheduler, rooms=ROOMS, home_assistant=True)
    refused = await house.responder.respond(asking("Set a timer for five minutes."))
    assert refused is not None
    assert "not supported" in refused.text
    for text in ("Set a timer for five minutes.", "Cancel the timer.", "Cancel all timers.", "How long is left?"):
        assert await home.respond(asking(text)) is None
    assert not house.timers.all()
    for text in ("Set a timer for five minutes in the kitchen.", "Cancel the timer.", "What time is it?"):
        assert await home.respond(asking(text)) is not None
    assert not house.timers.all()
    await home.close()
