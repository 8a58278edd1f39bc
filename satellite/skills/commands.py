"""Answers commands without a model: timers, rooms, the time, the date, never mind, stop, and repeat."""

from __future__ import annotations  # Responses is only a type here; its libraries come with the first grammar

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from satellite.pipeline.dialogue import Question
from satellite.pipeline.responder import Reply, ResponderStatus
from satellite.skills.grammars import Grammars
from satellite.skills.house_commands import House, HouseCommands
from satellite.skills.intents import OF_ROOMS, Command, Intent
from satellite.skills.timers.matching import NoMatch, TimerQuery, find_all, find_here, find_one
from satellite.skills.timers.scheduler import TimerScheduler
from satellite.skills.timers.timers import Timer, TimerRefused, TimerState
from satellite.skills.timers.wording import refusal

if TYPE_CHECKING:
    from satellite.skills.grammar import Grammar
    from satellite.skills.responses import Responses

_SILENCE = ""
_RECENT_TEXTS = 16
_DEADLINE_SECONDS = 5.0
"""Takes milliseconds, or over a second beside Whisper on a small board, where a model would answer in its place."""

_FIRST_DEADLINE_SECONDS = 15.0
"""Deadline of a sentence whose grammar is being compiled: on a small, busy board a late answer, but not a model's."""

_COMPILED_LANGUAGES = 4
"""Languages that are compiled in advance, or as many as are configured."""

_OTHER_LANGUAGES = 2
"""Languages beside them that are kept."""

_LANGUAGES_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class CommandsStatus(ResponderStatus):
    """Status of the commands."""

    timers: Mapping[str, int]
    """How many there are in each state."""

    languages: tuple[str, ...]
    """Languages whose grammars are compiled."""


class CommandResponder:
    """A `Responder` that answers only what is wholly a command; anything else is left to the next one."""

    name = "commands"

    def __init__(
        self,
        scheduler: TimerScheduler,
        *,
        languages: Sequence[str] = (),
        likely_languages: Callable[[], Sequence[str]] = tuple,
        rooms: Mapping[str, str] | None = None,
        home_assistant: bool = False,
        last_answer: Callable[[Question], str | None] = lambda _: None,
        house: Callable[[], House | None] = lambda: None,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        """Set and end the timers of `scheduler`; `rooms` are places by the names of rooms.

        `languages` are those of the house, of which the first is that of questions without one: they are compiled at
        the start, and a little later the first of `likely_languages`.
        With `home_assistant`, which is asked next, what was said to a device of Home Assistant's is left to it unless
        it is about a timer here. `last_answer` returns the previous answer in the conversation of a question, and
        `house` the rooms, if commands may be about them.
        """
        self.scheduler = scheduler
        self._languages = languages or ("en",)
        self._likely_languages = likely_languages
        self._home_assistant = home_assistant
        self._rooms: Mapping[str, str] = rooms or {}
        self._last_answer = last_answer
        self._house = house
        self._now = now
        self._most_compiled = max(_COMPILED_LANGUAGES, len(self._languages))
        self._grammars = Grammars(self._most_compiled + _OTHER_LANGUAGES)
        # A run asks up to three times about the same text. The rooms by which it was read are kept beside the command,
        # which a change of the configuration makes obsolete.
        self._recent: OrderedDict[tuple[str, str], tuple[Command | None, Mapping[str, str]]] = OrderedDict()

    @property
    def status(self) -> CommandsStatus:
        """Return how many timers there are, and which languages are compiled."""
        timers = self.scheduler.timers.all()
        states = {state.value: sum(timer.state is state for timer in timers) for state in TimerState}
        counts = ", ".join(f"{count} {state}" for state, count in states.items() if count)
        message = f"timers: {counts}" if counts else "no timers"
        return CommandsStatus(self.name, "ready", True, message, states, tuple(self._grammars.languages))

    def deadline_seconds(self, question: Question) -> float:
        """Return how long it may take: longer where the grammar of the language has to be compiled first."""
        is_compiled = self._grammars.has(question.language or self._languages[0])
        return _DEADLINE_SECONDS if is_compiled else _FIRST_DEADLINE_SECONDS

    async def concerns(self, question: Question) -> bool:
        """Return whether the question is a command."""
        return await self._understood(question.text, question.language) is not None

    async def acts(self, question: Question) -> bool:
        """Return whether the command sets or changes a timer."""
        understood = await self._understood(question.text, question.language)
        return understood is not None and understood[0].acts

    async def respond(self, question: Question) -> Reply | None:
        """Return the answer to a command, None for anything else."""
        understood = await self._understood(question.text, question.language)
        if understood is None:
            return None
        command, grammar = understood
        # A command may come before `watch` has restored the timers.
        await self.scheduler.open()
        from satellite.skills.responses import Responses  # imported with the first grammar

        responses = Responses(grammar)
        if command.intent in OF_ROOMS:
            house = self._house()
            text = await HouseCommands(house).answer(command, question, responses, self._rooms) if house else None
        else:
            text = self._answer(command, question, responses, question.language or self._languages[0])
        return None if text is None else Reply(text, self.name)

    def configure(self, rooms: Mapping[str, str]) -> None:
        """Use `rooms`, places by the names of rooms, from now on."""
        self._rooms = rooms

    async def means_stop(self, text: str, language: str | None) -> bool:
        """Return whether `text` asks for nothing but that what sounds stops, such as an answer or a call."""
        understood = await self._understood(text, language)
        return understood is not None and understood[0].intent in (Intent.STOP, Intent.NEVERMIND, Intent.HANG_UP)

    async def is_command(self, text: str, language: str | None) -> bool:
        """Return whether `text` is a whole command, to which nothing can be added."""
        if not self._grammars.has(language or self._languages[0]):
            # The end of a command is waiting for the result: compile for the next one instead.
            self._grammars.load(language or self._languages[0])
            return False
        understood = await self._understood(text, language)
        return understood is not None and understood[0].is_closed

    async def watch(self) -> None:
        """Compile the languages of the house and run the timers, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_languages(), name="grammars")
            tasks.create_task(self.scheduler.watch(), name="timers")

    async def close(self) -> None:
        """Save the timers; may be called twice."""
        await self._grammars.close()
        await self.scheduler.close()

    async def _keep_languages(self) -> None:
        await self._compile(self._languages)
        while True:
            await asyncio.sleep(_LANGUAGES_SECONDS)
            known = dict.fromkeys([*self._languages, *self._likely_languages()])
            await self._compile(list(known)[: self._most_compiled])

    async def _compile(self, languages: Sequence[str]) -> None:
        # One at a time: each holds Python's lock for long stretches.
        for language in languages:
            if (loading := self._grammars.load(language)) is not None:
                await asyncio.wait([loading])

    async def _understood(self, text: str, language: str | None) -> tuple[Command, Grammar] | None:
        grammar = await self._grammars.get(language or self._languages[0])
        if grammar is None:
            return None
        key, rooms = (grammar.language, text), self._rooms
        known = self._recent.get(key)
        if known is None or known[1] is not rooms:
            # Matching takes milliseconds, and up to seconds for the worst texts.
            known = self._recent[key] = await asyncio.to_thread(self._read, grammar, text, rooms), rooms
            if len(self._recent) > _RECENT_TEXTS:
                self._recent.popitem(last=False)
        command = known[0]
        return None if command is None else (command, grammar)

    def _read(self, grammar: Grammar, text: str, rooms: Mapping[str, str]) -> Command | None:
        house = self._house()
        command = grammar.understand(text, rooms, house.media() if house else None)
        return command if house or command is None or command.intent not in OF_ROOMS else None

    def _answer(self, command: Command, question: Question, responses: Responses, language: str) -> str | None:
        """Do what a command says, and return what to say; None where it is no command in this situation."""
        timers = self.scheduler.timers
        match command.intent:
            case Intent.CURRENT_TIME:
                return responses.time(self._now())
            case Intent.CURRENT_DATE:
                return responses.date(self._now())
            case Intent.NEVERMIND:
                timers.silence(question.place)
                return _SILENCE
            case Intent.STOP:
                # What rings in another room can be heard here as well.
                _ = timers.silence(question.place) or timers.silence()
                return _SILENCE
            case Intent.DISMISS:
                return _SILENCE if timers.silence(question.place) else None
            case Intent.REPEAT:
                return self._last_answer(question)
            case Intent.START_TIMER:
                return self._start(command, question, responses, language)
            case Intent.CANCEL_ALL_TIMERS:
                return self._cancel_all(command, question, responses)
            case Intent.TIMER_STATUS:
                return self._status(command, question, responses)
            case _:
                return self._change(command, question, responses, language)

    def _is_left_to_home_assistant(self, question: Question) -> bool:
        """Return whether Home Assistant, which is asked next, may have timers where this was said."""
        return self._home_assistant and bool(question.device or question.satellite)

    def _start(self, command: Command, question: Question, responses: Responses, language: str) -> str | None:
        """Set a timer in the room that was named, else in this one; refused where it could not ring."""
        named = command.timer
        place = question.place if named.place is None else named.place
        if place not in self._rooms.values():
            return None if self._is_left_to_home_assistant(question) else responses.error("no_timer_support")
        house = self._house()
        if place is not None and house is not None and not house.rings(place):
            return responses.error("no_timer_support")
        room = question.room if named.place is None else named.room
        try:
            timer = self.scheduler.timers.start(
                command.duration, place=place, name=named.name, room=room, language=language
            )
        except TimerRefused as error:
            return refusal(error.limit, language) or responses.error("handle_error")
        return responses.started(timer)

    def _cancel_all(self, command: Command, question: Question, responses: Responses) -> str | None:
        """Cancel the timers of the house, or of one room."""
        timers = self.scheduler.timers
        silenced = timers.silence(question.place) if command.timer.room is None else []
        found = find_all(timers.pending(), command.timer)
        for timer in found:
            timers.cancel(timer)
        if silenced and not found:
            return _SILENCE
        if not found and (silenced_lately := find_all(timers.silenced_lately(None), command.timer)):
            timers.forget_silenced_lately()
            return responses.cancelled(len(silenced_lately), command.timer.room)
        if not found and self._is_left_to_home_assistant(question):
            return None
        return responses.cancelled(len(found), command.timer.room)

    def _status(self, command: Command, question: Question, responses: Responses) -> str | None:
        timers = self.scheduler.timers
        found = find_here(timers.pending(), command.timer, question.place)
        if not found and (not command.mentions_timer or self._is_left_to_home_assistant(question)):
            return None
        if not found and command.timer != TimerQuery() and timers.pending():
            return responses.error(NoMatch.NOT_FOUND)
        return responses.status([(timer, timers.left(timer)) for timer in found], here=question.place)

    def _change(self, command: Command, question: Question, responses: Responses, language: str) -> str | None:
        """Cancel, pause, resume, extend or shorten one timer."""
        timers = self.scheduler.timers
        intent = command.intent
        if intent in (Intent.CANCEL_TIMER, Intent.PAUSE_TIMER) and self._silence(command.timer, question.place):
            return _SILENCE
        if intent is Intent.CANCEL_TIMER and self._is_over(command.timer, question.place):
            timers.forget_silenced_lately()
            return responses.done(intent)
        state = {Intent.PAUSE_TIMER: TimerState.RUNNING, Intent.UNPAUSE_TIMER: TimerState.PAUSED}.get(intent)
        candidates = [timer for timer in timers.pending() if state in (None, timer.state)]
        found = find_one(candidates, command.timer, question.place)
        if isinstance(found, NoMatch):
            is_left = not command.mentions_timer or self._is_left_to_home_assistant(question)
            return None if found is NoMatch.NOT_FOUND and is_left else responses.error(found)
        match intent:
            case Intent.CANCEL_TIMER:
                timers.cancel(found)
            case Intent.PAUSE_TIMER:
                timers.pause(found)
            case Intent.UNPAUSE_TIMER:
                timers.resume(found)
            case _:
                return self._extend(command, found, responses, language)
        return responses.done(intent)

    def _silence(self, query: TimerQuery, place: str) -> bool:
        """Silence what rings here, else anywhere, if that is the timer that is meant; return whether it was."""
        timers = self.scheduler.timers
        for where in (place, None):
            if find_all(timers.ringing(where), query):
                timers.silence(where)
                return True
            # A timer that still runs is more likely to be meant than one that rings in another room.
            if find_all(timers.pending(), query):
                return False
        return False

    def _is_over(self, query: TimerQuery, place: str) -> bool:
        """Return whether a timer is meant that has just rung here, or elsewhere if none runs that could be meant.

        The wake word before the command has silenced it, so that nothing is left to be cancelled.
        """
        timers = self.scheduler.timers
        if find_all(timers.silenced_lately(place), query):
            return True
        return bool(find_all(timers.silenced_lately(None), query)) and not find_all(timers.pending(), query)

    def _extend(self, command: Command, timer: Timer, responses: Responses, language: str) -> str:
        """Extend or shorten a timer."""
        timers = self.scheduler.timers
        seconds = command.duration.total_seconds
        try:
            timer = timers.add(timer, seconds if command.intent is Intent.INCREASE_TIMER else -seconds)
        except TimerRefused as error:
            return refusal(error.limit, language) or responses.error("handle_error")
        return responses.changed(command.intent, command.duration, timer, timers.left(timer))
