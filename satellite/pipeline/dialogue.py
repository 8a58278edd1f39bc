"""What a chat model is sent: the system prompt, what was said before, and the question with the moment behind it.

The prompt is the same byte for byte from its beginning up to the new question, so that a server which keeps what it has
read (llama.cpp's prefix cache, and so Ollama's) reads only that. What changes, time and room, stands last.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from satellite.config.chat import ChatSettings
from satellite.engines.chat.tokens import conversation_tokens
from satellite.engines.protocols import Message

_CONVERSATIONS = 256
"""Conversations that are remembered at once; the one unused longest goes."""

_QUESTION_TOKENS = 200
"""What a question may take of the context."""


@dataclass(frozen=True, slots=True)
class Question:
    """Something to be answered."""

    text: str
    conversation: str | None = None
    """Which conversation it belongs to; None for one that nobody will refer to."""

    room: str | None = None
    """The room as a person calls it, if it has a name."""

    language: str | None = None

    persona: str | None = None
    """What the model is told first instead of the usual system prompt."""

    place: str = ""
    """Where it was asked, for what belongs to a place, such as timers: a room, a satellite, or a connection."""

    device: str | None = None
    """Home Assistant's id of the device that it was said to, if it comes from there."""

    satellite: str | None = None
    """Home Assistant's id of the satellite that it was said to, such as `assist_satellite.kitchen`."""


@dataclass(slots=True)
class _Conversation:
    messages: list[Message] = field(default_factory=list)
    answer: str = ""
    """The last one, whole, also where nothing else is remembered."""

    used_at: float = 0.0


class Dialogue:
    """Makes prompts, and remembers conversations by their names, for a while."""

    def __init__(
        self,
        chat: ChatSettings,
        context_tokens: int | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        """Remember up to `chat.history_tokens`, less where a context of `context_tokens` has no room for them."""
        self._chat = chat
        self._clock = clock
        self._now = now
        self._budget_tokens = chat.history_tokens
        self._conversations: OrderedDict[str, _Conversation] = OrderedDict()
        if context_tokens is not None:
            taken = conversation_tokens(self.beginning(None)) + chat.max_tokens + _QUESTION_TOKENS
            self._budget_tokens = min(self._budget_tokens, max(0, context_tokens - taken))

    def beginning(self, conversation: str | None, persona: str | None = None) -> list[Message]:
        """Return how the next prompt of a conversation begins."""
        system = self._chat.system_prompt if persona is None else persona
        return [*([Message("system", system)] if system else []), *self._recalled(conversation)]

    def prompt(self, question: Question) -> list[Message]:
        """Return what the model is sent; the question is the last message."""
        beginning = self.beginning(question.conversation, question.persona)
        return [*beginning, Message("user", question.text, self._moment(question))]

    def remember(self, question: Question, prompt: list[Message], answer: str, whole: str = "") -> bool:
        """Add a turn: the question as it was sent, and what of the answer was heard; `whole` is all of it.

        Returns whether older turns had to go for it, so that the next prompt begins as none before.
        """
        if question.conversation is None or not (answer or whole):
            return False
        turns = list(self._recalled(question.conversation))
        if answer:
            turns += [prompt[-1], Message("assistant", answer)]
        is_too_long = conversation_tokens(turns) > self._budget_tokens
        if is_too_long:
            # Half goes at once: each time that something goes, the model has to read the rest again.
            while turns and conversation_tokens(turns) > self._budget_tokens // 2:
                del turns[:2]
        self._conversations[question.conversation] = _Conversation(turns, whole or answer, self._clock())
        self._conversations.move_to_end(question.conversation)
        while len(self._conversations) > _CONVERSATIONS:
            self._conversations.popitem(last=False)
        return is_too_long

    def last_answer(self, question: Question) -> str | None:
        """Return what was said last in the conversation of a question, by whomever."""
        self._expire()
        found = self._conversations.get(question.conversation) if question.conversation else None
        return found.answer if found else None

    def _recalled(self, conversation: str | None) -> list[Message]:
        """Return the turns of a conversation that has not expired."""
        self._expire()
        found = self._conversations.get(conversation) if conversation else None
        return found.messages if found else []

    def _expire(self) -> None:
        """Forget what is too old; the oldest stand in front."""
        limit = self._clock() - self._chat.history_seconds
        while self._conversations and next(iter(self._conversations.values())).used_at < limit:
            self._conversations.popitem(last=False)

    def _moment(self, question: Question) -> str:
        told = []
        if "time" in self._chat.tell:
            now = self._now()
            told.append(f"It is {now:%A}, {now.day} {now:%B %Y}, {now:%H:%M}")
        if "room" in self._chat.tell and question.room:
            told.append(f"room: {question.room}")
        if "language" in self._chat.tell and question.language:
            told.append(f"language: {question.language}")
        return "; ".join(told)
