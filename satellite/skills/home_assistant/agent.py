"""Home Assistant as a responder: asked first, given up soon, never asked twice."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any
from uuid import uuid4

from satellite.config.home_assistant import HomeAssistantSettings
from satellite.config.secrets import home_assistant_token
from satellite.errors import ChatError, ChatUnavailable
from satellite.net.circuit_breaker import Breaker, BreakerState
from satellite.pipeline.dialogue import Question
from satellite.pipeline.responder import Reply
from satellite.skills.home_assistant.api import Api, Departure
from satellite.skills.home_assistant.areas import Found, Places
from satellite.skills.home_assistant.orders import is_order
from satellite.skills.home_assistant.problems import Trouble, cause, sentence
from satellite.skills.home_assistant.response import Answer, what_to_say
from satellite.skills.home_assistant.supported_languages import Languages
from satellite.tasks import begin_task, end_tasks

_LOGGER = logging.getLogger(__name__)

_CONVERSATIONS = 256
"""Conversations whose name there is remembered; the one unused longest goes. Home Assistant forgets after 300 s."""

_LONGEST_CHARACTERS = 500
"""What is longer is no command, and would keep Home Assistant busy for seconds."""

_LATE_SECONDS = 30.0
"""How long a request may go on that nobody waits for any more."""

_LOOK_AGAIN_SECONDS = 1.0
_REFUSED_SECONDS = 6 * 3600.0
"""When a refused token is tried again: Home Assistant counts, reports to its users, and may ban for ever."""

_TOUCH_SECONDS = 30.0
"""How long without a sign of life is looked at."""

_FIRST_SECONDS = 5.0
"""Deadline of the first sentence in a language since Home Assistant came up, which compiles it only then."""

_BUILT_IN = "conversation.home_assistant"


class HomeAssistantResponder:
    """A `Responder`. Whatever goes wrong, `respond` answers within the deadline, and log and status say so.

    What failed is None, but for an order: the chat model would pretend, so whoever gave it hears why nothing was done.
    A request that has left is never repeated, nor hung up on: Home Assistant would stop halfway through an action.
    """

    name = "home_assistant"

    def __init__(
        self,
        settings: HomeAssistantSettings,
        *,
        interval_seconds: float = 0.5,
        touch_seconds: float = _TOUCH_SECONDS,
        late_seconds: float = _LATE_SECONDS,
        breaker: Breaker | None = None,
        first_seconds: float = _FIRST_SECONDS,
        languages: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        """Raises `ConfigError` for a certificate that cannot be used; `settings.url` must be set.

        `languages` are those that are likely to be spoken, such as `fr`; the first answer in one may take
        `first_seconds`.
        """
        self._settings = settings
        self._first_seconds = first_seconds
        self._token = home_assistant_token(settings).find_or_explain()
        self._api = Api(settings, self._token)
        self._interval_seconds = interval_seconds
        self._touch_seconds = touch_seconds
        self._late_seconds = late_seconds
        self._breaker = breaker or Breaker()
        self._poked = asyncio.Event()
        self._contact_at = 0.0
        self._version: str | None = None
        self._trouble = Trouble.SILENT
        """Why it is down, while it is."""

        self.places = Places(self._api)
        """Where our rooms are in Home Assistant."""

        self._languages = Languages(self._api, languages)
        self._warned: set[str] = set()
        self._requests: set[asyncio.Task[Answer | ChatError]] = set()
        self._under_way: list[str] = []
        self._conversations: OrderedDict[str, str] = OrderedDict()
        self._answered = self._not_understood = self._failed = 0

    def deadline_seconds(self, question: Question) -> float:
        """Return how long it may take: longer for the first question in a language."""
        wanted = self._settings.deadline_seconds
        is_known = self._settings.agent_id != _BUILT_IN or self._languages.has(question.language)
        return wanted if is_known else max(wanted, self._first_seconds)

    async def concerns(self, question: Question) -> bool:
        """Return whether it would be asked, since only asking can tell what it understands; or would have been."""
        if len(question.text) > _LONGEST_CHARACTERS or self._comes_from_us(question):
            return False
        return self._up or is_order(question.text, question.language)

    async def respond(self, question: Question) -> Reply | None:
        """Ask, once; None for what is not understood, and for a question that is not answered by the deadline."""
        if not await self.concerns(question):
            return None
        if not self._up:
            return self._excuse(question)
        deadline_seconds = self.deadline_seconds(question)
        departure = Departure()
        request = begin_task(self._ask(question, departure), "home_assistant question")
        self._requests.add(request)
        request.add_done_callback(self._requests.discard)
        try:
            await asyncio.wait([request], timeout=deadline_seconds)
        finally:
            if not request.done():
                self._leave(request, question, departure)
        outcome = request.result() if request.done() and not request.cancelled() else self._late(deadline_seconds)
        if isinstance(outcome, ChatError):
            self._failed += 1
            self._note_failure(outcome)
            self._poked.set()
            return self._excuse(question)
        self._note_answer(question, outcome)
        if outcome.is_unspeakable:
            _LOGGER.warning("home_assistant: %r: %s", question.text, outcome.speech)
        said = what_to_say(outcome, question.text, question.language)
        if said is None:
            self._not_understood += 1
            return None
        self._answered += 1
        return Reply(said, self.name)

    @property
    def details(self) -> dict[str, Any]:
        """Return its state for the status."""
        return {
            "state": self._state,
            "up": self._up,
            "words": self._words,
            "answered": self._answered,
            "not_understood": self._not_understood,
            "failed": self._failed,
        }

    async def watch(self) -> None:
        """Tell whether it is there; then look whether it is back while it is not, and rarely while it is."""
        if not self._token.value:
            _LOGGER.warning("home_assistant: %s", self._words)
            return
        if self._api.leaves_house:
            _LOGGER.warning("home_assistant: %s is outside this house, and receives what people say", self._api.server)
        await self._api.load()
        await self._look()
        if self._breaker.up:
            _LOGGER.info("home_assistant: %s", self._words)
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval_seconds):
                    await self._poked.wait()
            self._poked.clear()
            silent = time.monotonic() - self._contact_at >= self._touch_seconds
            if self._breaker.due or (self._breaker.up and silent):
                await self._look()
            if self._breaker.up and self.places.due:
                await self.places.look()

    async def close(self) -> None:
        """Hang up; may be called twice."""
        await self._languages.close()
        requests = list(self._requests)
        await end_tasks(*requests)
        await self._api.close()

    @property
    def _up(self) -> bool:
        return bool(self._token.value) and self._breaker.up

    @property
    def _state(self) -> str:
        if not self._token.value:
            return Trouble.NO_TOKEN
        if self._breaker.state is not BreakerState.CLOSED:
            return str(self._breaker.state) if self._breaker.up else self._trouble
        return "untried" if self._version is None and not self._contact_at else "ready"

    @property
    def _words(self) -> str:
        if not self._token.value:
            return f"{self._api.server} is not asked: no token was found ({self._token.source})"
        if self._breaker.state is BreakerState.HALF_OPEN:
            return f"{self._api.server} is back; the next question tells if it answers; before: {self._breaker.reason}"
        if self._breaker.state is BreakerState.OPEN:
            return self._breaker.reason
        if self._state == "untried":
            return f"{self._api.server} has not been asked yet"
        return f"{self._api.server} answers" + (f" (version {self._version})" if self._version else "")

    async def _ask(self, question: Question, departure: Departure) -> Answer | ChatError:
        """Return what came of asking; an error is returned, for perhaps nobody is there any more to catch it."""
        conversation = self._conversation_of(question)
        self._under_way.append(conversation)
        try:
            async with asyncio.timeout(self.deadline_seconds(question) + self._late_seconds):
                where = self._where(question)
                return await self._api.converse(question.text, question.language, conversation, departure, where)
        except TimeoutError:
            return self._late(self._settings.deadline_seconds)
        except ChatError as error:
            return error
        finally:
            self._under_way.remove(conversation)

    def _where(self, question: Question) -> Found:
        """Return the device that it was said to, or what stands for the room in Home Assistant."""
        if question.device or question.satellite:
            return Found(question.device, question.satellite)
        return self.places.of(question.place)

    def _excuse(self, question: Question) -> Reply | None:
        """Return what is said to an order that Home Assistant cannot be given."""
        if not is_order(question.text, question.language):
            return None
        trouble = self._trouble if self._token.value else Trouble.NO_TOKEN
        return Reply(sentence(trouble, question.language), self.name)

    def _came_up(self) -> None:
        """Find everything anew; an agent with a language model compiles nothing, and might take a word for an order."""
        self.places.forget()
        if self._settings.agent_id == _BUILT_IN:
            self._languages.warm_up()

    def _late(self, deadline_seconds: float) -> ChatError:
        silence = f"{self._api.server} gave no answer within {deadline_seconds:g} s"
        return ChatUnavailable(silence, kind="timeout")

    def _leave(self, request: asyncio.Task[Answer | ChatError], question: Question, departure: Departure) -> None:
        """Go without the answer; what has not left by now must not: the light would turn on when nobody expects it."""
        departure.barred = True

        def came(done: asyncio.Task[Answer | ChatError]) -> None:
            if not done.cancelled() and isinstance(answer := done.result(), Answer):
                _LOGGER.debug("home_assistant: the answer came too late: %r", answer.speech)
                self._remember(question, answer)
                self._breaker.excuse()  # it is slow, but there
                self._poked.set()

        request.add_done_callback(came)

    async def _look(self) -> None:
        """See how it is, and note it."""
        was_up, was_met = self._breaker.up, self._version is not None
        try:
            self._version = await self._api.look()
        except ChatError as error:
            self._note_failure(error, looked=True)
            return
        self._contact_at = time.monotonic()
        if not (was_up and was_met):
            self._came_up()
        if was_up:
            self._warned &= {"circle"}
            return
        self._breaker.probed(None)
        if "back" not in self._warned:
            _LOGGER.info("home_assistant: %s is back", self._api.server)
            self._warned.add("back")

    def _note_failure(self, error: ChatError, *, looked: bool = False) -> None:
        self._contact_at = time.monotonic()
        self._trouble = cause(error)
        if self._trouble is not Trouble.SILENT:
            self._languages.forget()
        if self._trouble is Trouble.REFUSED:
            self._breaker.rest(_REFUSED_SECONDS, str(error))
        elif looked:
            self._breaker.rest(_LOOK_AGAIN_SECONDS, str(error))
        else:
            self._breaker.failed(error)
        kind = "refused" if self._trouble is Trouble.REFUSED else "down"
        level = logging.DEBUG if kind in self._warned else logging.WARNING
        self._warned.add(kind)
        _LOGGER.log(level, "home_assistant: %s; orders are not carried out, the chat model answers the rest", error)

    def _note_answer(self, question: Question, answer: Answer) -> None:
        self._contact_at = time.monotonic()
        self._warned &= {"circle"}
        self._languages.answered(question.language)
        self._breaker.succeeded()
        self._remember(question, answer)

    def _conversation_of(self, question: Question) -> str:
        """Return the conversation's name there; Home Assistant keeps one that is not of its own making."""
        known = self._conversations.get(question.conversation) if question.conversation else None
        return known or uuid4().hex

    def _remember(self, question: Question, answer: Answer) -> None:
        if question.conversation and answer.conversation:
            self._conversations[question.conversation] = answer.conversation
            self._conversations.move_to_end(question.conversation)
            while len(self._conversations) > _CONVERSATIONS:
                self._conversations.popitem(last=False)

    def _comes_from_us(self, question: Question) -> bool:
        """Tell whether Home Assistant passes on what it is just being asked: its agent is this daemon."""
        if question.conversation is None or question.conversation.rpartition(" ")[2] not in self._under_way:
            return False
        if "circle" not in self._warned:
            self._warned.add("circle")
            remedy = "set home_assistant.agent_id to conversation.home_assistant"
            _LOGGER.warning("home_assistant: %s asks this daemon itself; %s", self._api.server, remedy)
        return True
