"""Prompts for the chat model: the system prompt, the conversation so far, and the question with its context.

A prompt is identical, byte for byte, to the one before up to the new question, so that a server with a prefix cache
(llama.cpp, and so Ollama) reads only what is new. What changes, time and room, therefore comes with the question, and
before its words: the model reads all but these while the speaker speaks.
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
"""Conversations that are remembered; the least recently used is dropped."""

_QUESTION_TOKENS = 200
"""Room for a question in the context."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and what is known of its circumstances."""

    text: str
    conversation: str | None = None
    """The conversation that it belongs to; None for one that is not remembered."""

    room: str | None = None
    """The room's name as people use it, if it has one."""

    language: str | None = None

    persona: str | None = None
    """System prompt in place of the usual one."""

    place: str = ""
    """Where it was asked, which timers belong to: a room, a satellite, or a connection."""

    device: str | None = None
    """Home Assistant's ID of the device that heard it, if it comes from there."""

    satellite: str | None = None
    """Home Assistant's ID of the satellite that heard it, such as `assist_satellite.kitchen`."""

    recording: Callable[[], bytes] | None = field(default=None, compare=False)
    """Returns the canonical audio in which it was asked; None where it was typed."""


@dataclass(slots=True)
class _Conversation:
    messages: list[Message] = field(default_factory=list)
    answer: str = ""
    """The latest answer, whole, even if nothing of it was heard."""

    used_at: float = 0.0


class Dialogue:
    """Makes prompts, and remembers conversations by name for `chat.history_seconds`."""

    def __init__(
        self,
        chat: ChatSettings,
        context_tokens: int | None = None,
        *,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        """Remember up to `chat.history_tokens`, or what fits into a context of `context_tokens`."""
        self._chat = chat
        self._now = now
        self._budget_tokens = chat.history_tokens
        self._conversations: OrderedDict[str, _Conversation] = OrderedDict()
        if context_tokens is not None:
            taken = conversation_tokens(self.beginning(None)) + chat.max_tokens + _QUESTION_TOKENS
            self._budget_tokens = min(self._budget_tokens, max(0, context_tokens - taken))

    def beginning(self, conversation: str | None, persona: str | None = None) -> list[Message]:
        """Return the beginning of a conversation's next prompt."""
        system = self._chat.system_prompt if persona is None else persona
        return [*([Message("system", system)] if system else []), *self._recalled(conversation)]

    def prompt(self, question: Question) -> list[Message]:
        """Return the prompt; the question is its last message."""
        beginning = self.beginning(question.conversation, question.persona)
        return [*beginning, Message("user", question.text, self._moment(question))]

    def remember(self, question: Question, prompt: list[Message], answer: str, whole: str = "") -> bool:
        """Add a turn: the question as it was sent, and the part of the `whole` answer that was heard.

        Return whether older turns were dropped for it, so that the next prompt begins differently from the last.
        """
        if question.conversation is None or not (answer or whole):
            return False
        turns = list(self._recalled(question.conversation))
        if answer:
            turns += [prompt[-1], Message("assistant", answer)]
        is_too_long = conversation_tokens(turns) > self._budget_tokens
        if is_too_long:
            # Half is dropped at a time: each time, the model has to read the rest again.
            while turns and conversation_tokens(turns) > self._budget_tokens // 2:
                del turns[:2]
        self._conversations[question.conversation] = _Conversation(turns, whole or answer, time.monotonic())
        self._conversations.move_to_end(question.conversation)
        while len(self._conversations) > _CONVERSATIONS:
            self._conversations.popitem(last=False)
        return is_too_long

    def last_answer(self, question: Question) -> str | None:
        """Return the latest answer in the conversation of a question, of whatever responder."""
        self._expire()
        found = self._conversations.get(question.conversation) if question.conversation else None
        return found.answer if found else None

    def _recalled(self, conversation: str | None) -> list[Message]:
        """Return the turns of a conversation that has not expired."""
        self._expire()
        found = self._conversations.get(conversation) if conversation else None
        return found.messages if found else []

    def _expire(self) -> None:
        """Forget old conversations; they are ordered by their last use."""
        limit = time.monotonic() - self._chat.history_seconds
        while self._conversations and next(iter(self._conversations.values())).used_at < limit:
            self._conversations.popitem(last=False)

    def _moment(self, question: Question) -> str:
        context = []
        if "time" in self._chat.tell:
            now = self._now()
            context.append(f"It is {now:%A}, {now.day} {now:%B %Y}, {now:%H:%M}")
        if "room" in self._chat.tell and question.room:
            context.append(f"room: {question.room}")
        if "language" in self._chat.tell and question.language:
            context.append(f"language: {question.language}")
        return "; ".join(context)
