"""Answers commands without a model: timers, the time, the date, never mind, stop, and repeat."""

from __future__ import annotations  # Answers is only a type here; its libraries come with the first grammar

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from satellite.pipeline.dialogue import Question
from satellite.pipeline.responder import Reply, ResponderStatus
from satellite.skills.grammars import Grammars
from satellite.skills.intents import Command, Intent
from satellite.skills.timers.clock import Clockwork
from satellite.skills.timers.matching import Miss, Wanted, find_all, find_here, find_one
from satellite.skills.timers.timer import Timer, TimerState
from satellite.skills.timers.timers import TimerRefused
from satellite.skills.timers.wording import refusal

if TYPE_CHECKING:
    from satellite.skills.grammar import Grammar
    from satellite.skills.sentences import Answers

_SILENT = ""
_READ_TEXTS = 16
_NO_TIMERS_THERE = "no_timer_support"

_DEADLINE_SECONDS = 1.0
_FIRST_DEADLINE_SECONDS = 5.0

_KEPT_LANGUAGES = 4
"""Languages of the house that are compiled before anybody speaks them; two more find room beside them."""

_LOOK_AGAIN_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class CommandsStatus(ResponderStatus):
    """The commands of the house."""

    timers: Mapping[str, int]
    """How many there are in each state."""

    languages: tuple[str, ...]
    """Languages whose grammars are loaded."""


class CommandResponder:
    """Understands by grammar, strictly: what is not wholly a command is left to others."""

    name = "commands"

    def __init__(
        self,
        clockwork: Clockwork,
        *,
        language: str | None = None,
        languages: Callable[[], Sequence[str]] = tuple,
        rooms: Mapping[str, str] | None = None,
        home_assistant: bool = False,
        last_answer: Callable[[Question], str | None] = lambda _: None,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        """Set and end the timers of `clockwork`; `rooms` are the names of rooms with the places that they are.

        `language` is that of questions which do not say theirs, and is loaded first, then `languages`: those of the
        house. With `home_assistant`, which is asked next, what was said to a device of its own is left to it, unless it
        is about a timer of ours. `last_answer` returns what was said last in the conversation of a question, by
        whomever.
        """
        self.clockwork = clockwork
        self._language = language or "en"
        self._languages = languages
        self._home_assistant = home_assistant
        self._rooms: Mapping[str, str] = rooms or {}
        self._last_answer = last_answer
        self._now = now
        self._grammars = Grammars()
        self._read: OrderedDict[tuple[str, str], tuple[Command | None, Mapping[str, str]]] = OrderedDict()
        """What the latest texts mean, with the rooms by which they were read: a run asks three times about its own."""

    @property
    def status(self) -> CommandsStatus:
        """Return how many timers there are, and which languages are understood at the moment."""
        timers = self.clockwork.timers.all()
        states = {state.value: sum(timer.state is state for timer in timers) for state in TimerState}
        told = ", ".join(f"{count} {state}" for state, count in states.items() if count)
        summary = f"timers: {told}" if told else "no timers"
        return CommandsStatus(self.name, "ready", True, summary, states, tuple(self._grammars.languages))

    def deadline_seconds(self, question: Question) -> float:
        """Return how long it may take: longer for the first question in a language, whose grammar is compiled first."""
        is_there = self._grammars.has(question.language or self._language)
        return _DEADLINE_SECONDS if is_there else _FIRST_DEADLINE_SECONDS

    async def concerns(self, question: Question) -> bool:
        """Return whether the question is a command."""
        return await self._understood(question.text, question.language) is not None

    async def respond(self, question: Question) -> Reply | None:
        """Return the answer to a command, None for whatever else was said."""
        understood = await self._understood(question.text, question.language)
        if understood is None:
            return None
        command, grammar = understood
        await self.clockwork.open()
        language = question.language or self._language
        from satellite.skills.sentences import Answers  # imported with the first grammar

        text = self._answered(command, question, Answers(grammar), language)
        return None if text is None else Reply(text, self.name)

    def configure(self, rooms: Mapping[str, str]) -> None:
        """Use `rooms`, places by the names of rooms, from now on."""
        self._rooms = rooms

    async def means_stop(self, text: str, language: str | None) -> bool:
        """Return whether `text` says no more than that an answer shall stop."""
        understood = await self._understood(text, language)
        return understood is not None and understood[0].intent in (Intent.STOP, Intent.NEVERMIND)

    async def is_command(self, text: str, language: str | None) -> bool:
        """Return whether `text` is a command that does not go on; what is not known yet is not waited for."""
        if not self._grammars.has(language or self._language):
            self._grammars.load(language or self._language)
            return False
        understood = await self._understood(text, language)
        return understood is not None and understood[0].is_closed

    async def _understood(self, text: str, language: str | None) -> tuple[Command, Grammar] | None:
        grammar = await self._grammars.get(language or self._language)
        if grammar is None:
            return None
        key, rooms = (grammar.language, text), self._rooms
        known = self._read.get(key)
        if known is None or known[1] is not rooms:
            known = self._read[key] = await asyncio.to_thread(grammar.understand, text, rooms), rooms
            if len(self._read) > _READ_TEXTS:
                self._read.popitem(last=False)
        command = known[0]
        return None if command is None else (command, grammar)

    async def watch(self) -> None:
        """Load the languages of the house, and let timers end on time, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_languages(), name="grammars")
            tasks.create_task(self.clockwork.watch(), name="timers")

    async def _keep_languages(self) -> None:
        """Have the grammars of the house at hand: the usual one at once, the others one by one."""
        self._grammars.load(self._language)
        while True:
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
            for language in list(dict.fromkeys([self._language, *self._languages()]))[:_KEPT_LANGUAGES]:
                if (loading := self._grammars.load(language)) is not None:
                    await asyncio.wait([loading])

    async def close(self) -> None:
        """Write down what timers there are; may be called twice."""
        await self._grammars.close()
        await self.clockwork.close()

    def _answered(self, command: Command, question: Question, answers: Answers, language: str) -> str | None:
        """Do what a command says, and return what to say; None for what is a command in another situation only."""
        match command.intent:
            case Intent.CURRENT_TIME:
                return answers.time(self._now())
            case Intent.CURRENT_DATE:
                return answers.date(self._now())
            case Intent.NEVERMIND:
                self.clockwork.timers.silence(question.place)
                return _SILENT
            case Intent.STOP:
                # What rings in another room is heard here as well.
                _ = self.clockwork.timers.silence(question.place) or self.clockwork.timers.silence()
                return _SILENT
            case Intent.DISMISS:
                return _SILENT if self.clockwork.timers.silence(question.place) else None
            case Intent.REPEAT:
                return self._last_answer(question)
            case Intent.START_TIMER:
                return self._started(command, question, answers, language)
            case Intent.CANCEL_ALL_TIMERS:
                return self._cancelled(command, question, answers)
            case Intent.TIMER_STATUS:
                return self._status(command, question, answers)
            case _:
                return self._changed(command, question, answers, language)

    def _passed_on(self, question: Question) -> bool:
        """Return whether Home Assistant, which is asked next, has timers where this was said."""
        return self._home_assistant and bool(question.device or question.satellite)

    def _started(self, command: Command, question: Question, answers: Answers, language: str) -> str | None:
        """Set a timer, to ring in the room that was named, or here; where nothing of ours could ring, there is none."""
        wanted = command.wanted
        place = question.place if wanted.place is None else wanted.place
        if place not in self._rooms.values():
            return None if self._passed_on(question) else answers.error(_NO_TIMERS_THERE)
        try:
            timer = self.clockwork.timers.start(
                command.duration,
                place=place,
                name=wanted.name,
                room=question.room if wanted.place is None else wanted.room,
                language=language,
            )
        except TimerRefused as error:
            return refusal(error.limit, language) or answers.error("handle_error")
        return answers.started(timer)

    def _cancelled(self, command: Command, question: Question, answers: Answers) -> str | None:
        """Cancel the timers of the house, or of one room."""
        timers = self.clockwork.timers
        silenced = timers.silence(question.place) if command.wanted.room is None else []
        found = find_all(timers.pending(), command.wanted)
        for timer in found:
            timers.cancel(timer)
        if silenced and not found:
            return _SILENT
        if not found and self._passed_on(question):
            return None
        return answers.cancelled(len(found), command.wanted.room)

    def _status(self, command: Command, question: Question, answers: Answers) -> str | None:
        timers = self.clockwork.timers
        found = find_here(timers.pending(), command.wanted, question.place)
        if not found and (not command.about_timers or self._passed_on(question)):
            return None
        if not found and not command.wanted.anything and timers.pending():
            return answers.error(Miss.NOT_FOUND)
        return answers.status([(timer, timers.left(timer)) for timer in found], here=question.place)

    def _changed(self, command: Command, question: Question, answers: Answers, language: str) -> str | None:
        """Cancel, pause, resume, extend or shorten one timer."""
        timers = self.clockwork.timers
        if command.intent in (Intent.CANCEL_TIMER, Intent.PAUSE_TIMER) and self._hushed(command.wanted, question.place):
            return _SILENT
        found = find_one(self._candidates(command.intent), command.wanted, question.place)
        if isinstance(found, Miss):
            passed_on = not command.about_timers or self._passed_on(question)
            nobodys = found is Miss.NOT_FOUND and passed_on
            return None if nobodys else answers.error(found)
        match command.intent:
            case Intent.CANCEL_TIMER:
                timers.cancel(found)
            case Intent.PAUSE_TIMER:
                timers.pause(found)
            case Intent.UNPAUSE_TIMER:
                timers.resume(found)
            case _:
                return self._moved(command, found, answers, language)
        return answers.done(command.intent)

    def _candidates(self, intent: Intent) -> list[Timer]:
        state = {Intent.PAUSE_TIMER: TimerState.RUNNING, Intent.UNPAUSE_TIMER: TimerState.PAUSED}.get(intent)
        return [timer for timer in self.clockwork.timers.pending() if state in (None, timer.state)]

    def _hushed(self, wanted: Wanted, place: str) -> bool:
        """End the ringing here, else anywhere, if that is the timer that is meant; returns whether it was."""
        timers = self.clockwork.timers
        for where in (place, None):
            if find_all(timers.ringing(where), wanted):
                timers.silence(where)
                return True
            if find_all(timers.pending(), wanted):
                return False
        return False

    def _moved(self, command: Command, timer: Timer, answers: Answers, language: str) -> str:
        """Extend or shorten a timer."""
        seconds = command.duration.total_seconds
        try:
            timer = self.clockwork.timers.add(timer, seconds if command.intent is Intent.INCREASE_TIMER else -seconds)
        except TimerRefused as error:
            return refusal(error.limit, language) or answers.error("handle_error")
        return answers.changed(command.intent, command.duration, timer, self.clockwork.timers.left(timer))
