"""The conversation agent for a client: a `transcript` or `intent`, and the answer to it."""

from contextlib import aclosing
from typing import Any

from wyoming.handle import Handled, HandledChunk, HandledStart, HandledStop, NotHandled

from satellite.engines.protocols import ChatDelta
from satellite.errors import ChatRejected, ProtocolError, SatelliteError
from satellite.pipeline.clauses import finished, is_finished
from satellite.pipeline.dialogue import Question
from satellite.pipeline.phrases import Phrase, phrase
from satellite.pipeline.stages import Stages
from satellite.services.peer import Peer
from satellite.system.logs import log_words

_LONGEST_NAME = 200


async def answer(peer: Peer, stages: Stages, text: str, context: dict[str, Any] | None, language: str | None) -> None:
    """Send the answer to `text` as it comes, and whole in `handled`, empty for silence; `not-handled` for no text.

    The conversation is that of the context's `conversation_id`, else of its `satellite_id` or `device_id`. The context
    is returned with the provider that answered and its figures. A failure is `not-handled`, with the answer until then
    and an apology, since Home Assistant speaks its text word for word; code and reason are in additional fields. A
    stream that was begun always ends with `handled-stop`.
    """
    if not text.strip():
        await peer.send(NotHandled(text="", context=context))
        return
    answer_ = _HandledAnswer(peer, stages, context)
    error = await peer.attempt(answer_.send(text, language))
    if isinstance(error, ProtocolError):
        raise error  # the client does not read: it cannot be answered
    if error is not None:
        await _apologise(peer, stages, error, context, language, answered=answer_.text)
    if answer_.started:
        await peer.send(HandledStop())


class _HandledAnswer:
    """The answer to one question."""

    def __init__(self, peer: Peer, stages: Stages, context: dict[str, Any] | None) -> None:
        self.started = False
        self.text = ""
        """The answer so far."""

        self._peer = peer
        self._stages = stages
        self._context = context

    async def send(self, text: str, language: str | None) -> None:
        """Send the whole answer."""
        stages, context = self._stages, self._context
        if len(text) > stages.config.wyoming.max_text_characters:
            raise ChatRejected(f"a question of {len(text)} characters is too long", kind="too-long")
        device, satellite = _named(context, "device_id"), _named(context, "satellite_id")
        question = Question(text, _conversation(context), None, language, device=device, satellite=satellite)
        prompt = stages.dialogue.prompt(question)
        last: ChatDelta | None = None
        async with aclosing(stages.read_ahead(stages.answer(question, prompt))) as deltas:
            async for last in deltas:
                if not self.started:
                    self.started = True
                    await self._peer.send(HandledStart(context=context))
                self.text += last.text
                if last.text:
                    await self._peer.send(HandledChunk(text=last.text))
        assert last is not None
        stats = last.stats
        self.text = finished(self.text) if stats and stats.truncated else self.text.strip()
        log_words(self._peer.name, text, self.text)
        figures = {"provider": last.provider, **(stats.described() if stats else {})}
        await self._peer.send(Handled(text=self.text, context={**(context or {}), **figures}))
        # Only after it was sent: an answer that the client never got is not part of the conversation.
        stages.remember(question, prompt, self.text)


async def _apologise(
    peer: Peer,
    stages: Stages,
    error: SatelliteError,
    context: dict[str, Any] | None,
    language: str | None,
    *,
    answered: str,
) -> None:
    """Log `error`, and answer with the complete sentences so far and an apology."""
    peer.log(error)
    said = finished(answered)
    occasion = Phrase.INTERRUPTED if answered.strip() else Phrase.UNAVAILABLE
    apology = phrase(stages.config.phrases, occasion, language)
    event = NotHandled(text=f"{said} {apology}" if is_finished(said) else apology, context=context).event()
    event.data |= {"code": error.code, "detail": str(error)}
    await peer.send(event)


def _conversation(context: dict[str, Any] | None) -> str | None:
    """Return the name of the conversation that a client refers to."""
    for key, kind in (("conversation_id", "conversation"), ("satellite_id", "room"), ("device_id", "room")):
        if (name := _named(context, key)) is not None:
            return f"{kind} {name}"
    return None


def _named(context: dict[str, Any] | None, key: str) -> str | None:
    """Return a name in the context, if it is a valid one."""
    name = (context or {}).get(key)
    return name if isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME else None
