"""Home Assistant as a responder: every question is sent to it at most once, before the chat model is asked."""

import asyncio
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from uuid import uuid4

from satellite.config.home_assistant import HomeAssistantSettings
from satellite.config.secrets import home_assistant_token
from satellite.errors import ChatError, ChatUnavailable
from satellite.net.circuit_breaker import BreakerState, CircuitBreaker
from satellite.pipeline.dialogue import Question
from satellite.pipeline.responder import Reply, ResponderStatus
from satellite.skills.home_assistant.api import Api, RoomTarget
from satellite.skills.home_assistant.areas import RoomTargets
from satellite.skills.home_assistant.compiled_languages import CompiledLanguages
from satellite.skills.home_assistant.failures import Failure, cause, is_order, sentence
from satellite.skills.home_assistant.response import ConversationResult, what_to_say
from satellite.tasks import begin_task, end_tasks

_LOGGER = logging.getLogger(__name__)

_CONVERSATIONS = 256
"""Conversations whose id there is remembered; the least recently used goes. Home Assistant forgets after 300 s."""

_LONGEST_CHARACTERS = 500
"""Longest question that is sent: a longer one is no command, and would keep Home Assistant busy for seconds."""

_LATE_SECONDS = 30.0
"""How long a request may go on after its deadline."""

_INTERVAL_SECONDS = 0.5
"""Time from one look at what is due to the next."""

_RETRY_SECONDS = 1.0
_REFUSED_SECONDS = 6 * 3600.0
"""Time until a refused token is tried again: Home Assistant counts and reports every attempt, and may ban for ever."""

_IDLE_SECONDS = 30.0
"""Time without an answer after which the server is probed."""

_FIRST_SECONDS = 5.0
"""Deadline of the first sentence in a language, which Home Assistant compiles only then."""

_BUILT_IN = "conversation.home_assistant"


@dataclass(frozen=True, slots=True)
class HomeAssistantStatus(ResponderStatus):
    """Home Assistant, and how many questions it has answered, not understood, or failed to answer."""

    answered: int
    not_understood: int
    failed: int


class HomeAssistantResponder:
    """A `Responder`. Whatever fails, `respond` returns within the deadline, and the log and the status say why.

    A failure is None, so that the chat model answers; after an order it is an apology, since the chat model would
    claim to have done it. A request that has left is never repeated and never hung up on: Home Assistant would do it
    twice, or stop halfway through an action.
    """

    name = "home_assistant"

    def __init__(self, settings: HomeAssistantSettings, *, languages: Callable[[], Sequence[str]] = tuple) -> None:
        """Raises `ConfigError` for a certificate that cannot be used; `settings.url` must be set.

        `languages` returns those of the household, such as `fr`.
        """
        self._settings = settings
        self._token = home_assistant_token(settings).find_or_explain()
        self._api = Api(settings, self._token)
        self._breaker = CircuitBreaker()
        self._probe_now = asyncio.Event()
        self._contact_at = -math.inf
        self._version: str | None = None
        self._failure = Failure.SILENT
        """Why it is down, while it is."""

        self.targets = RoomTargets(self._api)
        self._languages = CompiledLanguages(self._api, languages)
        self._warned: set[str] = set()
        self._requests: set[asyncio.Task[ConversationResult | ChatError]] = set()
        self._under_way: list[str] = []
        """Ids of the conversations in which a sentence is being answered."""

        self._conversations: OrderedDict[str, str] = OrderedDict()
        self._answered = self._not_understood = self._failed = 0

    def deadline_seconds(self, question: Question) -> float:
        """Return how long it may take: longer for the first question in a language."""
        seconds = self._settings.deadline_seconds
        is_compiled = self._settings.agent_id != _BUILT_IN or self._languages.has(question.language)
        return seconds if is_compiled else max(seconds, _FIRST_SECONDS)

    async def concerns(self, question: Question) -> bool:
        """Return whether the question would be sent, or is an order that cannot be carried out at present."""
        if len(question.text) > _LONGEST_CHARACTERS or self._comes_from_us(question):
            return False
        return self._up or is_order(question.text, question.language)

    async def acts(self, question: Question) -> bool:
        """Return whether the question is an order."""
        return is_order(question.text, question.language)

    async def respond(self, question: Question) -> Reply | None:
        """Ask once; None for what is not understood, and for a question without an answer by the deadline."""
        if not await self.concerns(question):
            return None
        if not self._up:
            return self._apology(question)
        deadline_seconds = self.deadline_seconds(question)
        given_up = asyncio.Event()
        request = begin_task(self._ask(question, given_up), "home_assistant question")
        self._requests.add(request)
        request.add_done_callback(self._requests.discard)
        try:
            await asyncio.wait([request], timeout=deadline_seconds)
        finally:
            # Also where the run was cancelled while it waited.
            if not request.done():
                self._give_up(request, question, given_up)
        outcome = request.result() if request.done() and not request.cancelled() else self._timed_out(deadline_seconds)
        if isinstance(outcome, ChatError):
            self._failed += 1
            self._record_failure(outcome)
            self._probe_now.set()
            return self._apology(question)
        self._record_answer(question, outcome)
        if outcome.is_unspeakable:
            _LOGGER.warning("home_assistant: %r: %s", question.text, outcome.speech)
        speech = what_to_say(outcome, question.text, question.language)
        if speech is None:
            self._not_understood += 1
            return None
        self._answered += 1
        return Reply(speech, self.name)

    @property
    def status(self) -> HomeAssistantStatus:
        """Return its present state."""
        return HomeAssistantStatus(
            self.name, self._state, self._up, self._description, self._answered, self._not_understood, self._failed
        )

    async def watch(self) -> None:
        """Log whether it is there; then probe it often while it is down, and rarely while it is up."""
        if not self._token.value:
            _LOGGER.warning("home_assistant: %s", self._description)
            return
        if self._api.leaves_house:
            _LOGGER.warning("home_assistant: %s is outside this house, and receives what people say", self._api.server)
        await self._api.load()
        await self._probe()
        if self._breaker.up:
            _LOGGER.info("home_assistant: %s", self._description)
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_INTERVAL_SECONDS):
                    await self._probe_now.wait()
            self._probe_now.clear()
            idle = time.monotonic() - self._contact_at >= _IDLE_SECONDS
            if self._breaker.due or (self._breaker.up and idle):
                await self._probe()
            if self._breaker.up and self.targets.due:
                await self.targets.look_up()

    async def close(self) -> None:
        """End all requests; may be called twice."""
        await self._languages.close()
        await end_tasks(*self._requests)
        await self._api.close()

    @property
    def _up(self) -> bool:
        return bool(self._token.value) and self._breaker.up

    @property
    def _state(self) -> str:
        if not self._token.value:
            return Failure.NO_TOKEN
        if self._breaker.state is not BreakerState.CLOSED:
            return str(self._breaker.state) if self._breaker.up else self._failure
        return "untried" if self._version is None and self._contact_at < 0 else "ready"

    @property
    def _description(self) -> str:
        if not self._token.value:
            return f"{self._api.server} is not asked: no token was found ({self._token.source})"
        if self._breaker.state is BreakerState.HALF_OPEN:
            return (
                f"{self._api.server} is back, and the next question will show whether it answers; "
                f"before: {self._breaker.reason}"
            )
        if self._breaker.state is BreakerState.OPEN:
            return self._breaker.reason
        if self._state == "untried":
            return f"{self._api.server} has not been asked yet"
        return f"{self._api.server} answers" + (f" (version {self._version})" if self._version else "")

    async def _ask(self, question: Question, given_up: asyncio.Event) -> ConversationResult | ChatError:
        """Return the result or the error; an error is not raised, since nobody may be left to catch it."""
        conversation = self._conversation_of(question)
        self._under_way.append(conversation)
        try:
            async with asyncio.timeout(self.deadline_seconds(question) + _LATE_SECONDS):
                target = self._target(question)
                return await self._api.converse(question.text, question.language, conversation, given_up, target)
        except TimeoutError:
            return self._timed_out(self._settings.deadline_seconds)
        except ChatError as error:
            return error
        finally:
            self._under_way.remove(conversation)

    def _target(self, question: Question) -> RoomTarget:
        """Return the device that the question was said to, or that of its room in Home Assistant."""
        if question.device or question.satellite:
            return RoomTarget(question.device, question.satellite)
        return self.targets.of(question.place)

    def _apology(self, question: Question) -> Reply | None:
        """Return why an order is not carried out; None for anything else."""
        if not is_order(question.text, question.language):
            return None
        failure = self._failure if self._token.value else Failure.NO_TOKEN
        return Reply(sentence(failure, question.language), self.name)

    def _timed_out(self, deadline_seconds: float) -> ChatError:
        return ChatUnavailable(f"{self._api.server} gave no answer within {deadline_seconds:g} s", kind="timeout")

    def _give_up(
        self, request: asyncio.Task[ConversationResult | ChatError], question: Question, given_up: asyncio.Event
    ) -> None:
        """Stop waiting. A request that has not left by now must not: the light would turn on unexpectedly."""
        given_up.set()

        def on_late_answer(done: asyncio.Task[ConversationResult | ChatError]) -> None:
            if not done.cancelled() and isinstance(result := done.result(), ConversationResult):
                _LOGGER.debug("home_assistant: the answer came too late: %r", result.speech)
                self._remember(question, result)
                self._breaker.outage_ended()  # it is slow, but not down
                self._probe_now.set()

        request.add_done_callback(on_late_answer)

    async def _probe(self) -> None:
        """Find out whether the server is ready, and record it."""
        was_up, was_known = self._breaker.up, self._version is not None
        try:
            self._version = await self._api.probe()
        except ChatError as error:
            self._record_failure(error, probed=True)
            return
        self._contact_at = time.monotonic()
        if not (was_up and was_known):
            # It may have been restarted, so devices and compiled languages may differ. An agent with a language model
            # compiles nothing, and might take the sentence that compiles a language for an order.
            self.targets.expire()
            if self._settings.agent_id == _BUILT_IN:
                self._languages.warm_up()
        # That the agent is this daemon is a mistake of the configuration, reported once in the life of the daemon.
        if was_up:
            self._warned &= {"circle"}
            return
        self._breaker.probe_succeeded()
        if "back" not in self._warned:
            _LOGGER.info("home_assistant: %s is back", self._api.server)
            self._warned.add("back")

    def _record_failure(self, error: ChatError, *, probed: bool = False) -> None:
        self._contact_at = time.monotonic()
        self._failure = cause(error)
        # A server that is only slow has not been restarted and keeps its languages.
        if self._failure is not Failure.SILENT:
            self._languages.forget()
        if self._failure is Failure.REFUSED:
            self._breaker.rest(_REFUSED_SECONDS, str(error))
        # The growing intervals of the breaker are for questions; probes are cheap.
        elif probed:
            self._breaker.rest(_RETRY_SECONDS, str(error))
        else:
            self._breaker.failed(error)
        kind = "refused" if self._failure is Failure.REFUSED else "down"
        level = logging.DEBUG if kind in self._warned else logging.WARNING
        self._warned.add(kind)
        _LOGGER.log(level, "home_assistant: %s; orders are not carried out, the chat model answers the rest", error)

    def _record_answer(self, question: Question, result: ConversationResult) -> None:
        self._contact_at = time.monotonic()
        self._warned &= {"circle"}
        self._languages.answered(question.language)
        self._breaker.succeeded()
        self._remember(question, result)

    def _conversation_of(self, question: Question) -> str:
        """Return the id of the conversation there; Home Assistant keeps one that it has not made itself."""
        known = self._conversations.get(question.conversation) if question.conversation else None
        return known or uuid4().hex

    def _remember(self, question: Question, result: ConversationResult) -> None:
        if question.conversation and result.conversation:
            self._conversations[question.conversation] = result.conversation
            self._conversations.move_to_end(question.conversation)
            while len(self._conversations) > _CONVERSATIONS:
                self._conversations.popitem(last=False)

    def _comes_from_us(self, question: Question) -> bool:
        """Return whether Home Assistant hands back a question of ours, because its agent is this daemon."""
        # Home Assistant passes on the conversation's id, which our service puts after the word "conversation".
        if question.conversation is None or question.conversation.rpartition(" ")[2] not in self._under_way:
            return False
        if "circle" not in self._warned:
            self._warned.add("circle")
            remedy = "set home_assistant.agent_id to conversation.home_assistant"
            _LOGGER.warning("home_assistant: %s asks this daemon itself; %s", self._api.server, remedy)
        return True
