"""Responders: what may answer a question before a chat model is asked."""

import logging
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from satellite.engines.protocols import ChatDelta, ChatStats
from satellite.pipeline.dialogue import Question
from satellite.pipeline.speculation import CommitBuffer
from satellite.tasks import attempt

_LOGGER = logging.getLogger(__name__)

_GRACE_SECONDS = 0.25
"""How much longer than its own deadline a responder may take before it is cancelled."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete answer."""

    text: str
    """What to say; empty for an answer that is silence, such as that to "never mind"."""

    provider: str
    """The name of the responder, such as `commands` or `home_assistant`."""


@dataclass(frozen=True, slots=True)
class ResponderStatus:
    """Whether a responder works."""

    responder: str
    state: str
    """One word for programs."""

    up: bool
    """False when asking it would be waiting for nothing."""

    message: str
    """The state as a sentence."""


class Responder(Protocol):
    """Answers what it understands, at once and without guessing."""

    @property
    def name(self) -> str:
        """Return its name in logs, answers and the status."""

    def deadline_seconds(self, question: Question) -> float:
        """Return how long `respond` may take; longer where something has to be prepared first, such as a language."""

    async def concerns(self, question: Question) -> bool:
        """Return whether it may answer, without doing anything; True where only `respond` can find out."""

    async def acts(self, question: Question) -> bool:
        """Return whether `respond` changes something that more words would have changed otherwise."""

    async def respond(self, question: Question) -> Reply | None:
        """Return the answer, None for a question that is not for this one, or when it cannot be answered in time."""

    @property
    def status(self) -> ResponderStatus:
        """Return its present state; a subclass says more."""

    async def watch(self) -> None:
        """Maintain it until cancelled."""

    async def close(self) -> None:
        """Release what it holds; may be called twice."""


class Commands(Protocol):
    """Recognises commands that need no model, before anything acts on them."""

    async def means_stop(self, text: str, language: str | None) -> bool:
        """Return whether `text` asks for nothing but that what sounds stops, such as an answer or a call."""

    async def is_command(self, text: str, language: str | None) -> bool:
        """Return whether `text` is a whole command, to which nothing can be added."""


class ResponderChain:
    """Responders, asked in order, each within its deadline; one that fails is skipped, and logged once."""

    def __init__(self, responders: Sequence[Responder]) -> None:
        self.all = responders
        self._failing: set[str] = set()

    async def answer(self, question: Question, output: CommitBuffer | None) -> ChatDelta | None:
        """Return the first answer, whole; None without one.

        While the command may go on, a responder that may be concerned has to wait: for the commit of `output` to
        answer, and until that cannot be withdrawn to act.
        """
        for responder in self.all:
            if output is not None and not output.settled:
                # Asked first, so that a question for the chat model does not wait for the end of the command.
                if not await self._may(responder.concerns(question), responder, question):
                    continue
                if await self._may(responder.acts(question), responder, question):
                    await output.wait_to_act()
                else:
                    await output.wait_committed()
            began = time.monotonic()
            reply = await self._reply(responder, question)
            if reply is not None:
                seconds = time.monotonic() - began
                _LOGGER.info("chat: %s answered in %.0f ms", reply.provider, 1000 * seconds)
                stats = ChatStats(first_token_seconds=seconds, prompt_tokens=0, answer_tokens=0)
                return ChatDelta(reply.text, reply.provider, stats)
        return None

    async def _may(self, found: Coroutine[Any, Any, bool], responder: Responder, question: Question) -> bool:
        """Return what a responder has `found` out; True for one that fails or is late, which `respond` will show."""
        result = await attempt(found, responder.name, responder.deadline_seconds(question))
        return isinstance(result, Exception) or result

    async def _reply(self, responder: Responder, question: Question) -> Reply | None:
        """Return a responder's answer; None also when it fails or is late."""
        name = responder.name
        result = await attempt(responder.respond(question), name, responder.deadline_seconds(question) + _GRACE_SECONDS)
        if not isinstance(result, Exception):
            self._failing.discard(name)
            return result
        level = logging.DEBUG if name in self._failing else logging.WARNING
        self._failing.add(name)
        if isinstance(result, TimeoutError):
            _LOGGER.log(level, "chat: %s is too slow, and is skipped", name)
        else:
            _LOGGER.log(level, "chat: %s failed, and is skipped", name, exc_info=result)
        return None
