"""Text in, an answer out: the conversation agent."""

from __future__ import annotations  # Session is only a type here; importing it would be a circle

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from wyoming.handle import Handled, HandledChunk, HandledStart, HandledStop, NotHandled

from satellite.errors import ChatRejected, StageError
from satellite.turn.clauses import finished
from satellite.turn.dialogue import Question
from satellite.turn.phrases import Phrase, phrase

if TYPE_CHECKING:
    from satellite.engines.stats import ChatStats
    from satellite.services.session import Session

_LONGEST_NAME = 200


async def answer(session: Session, text: str, context: dict[str, Any] | None, language: str | None) -> None:
    """Send the answer to `text` as it comes, and whole in `handled`, empty for silence; `not-handled` for no text.

    What was said before is known by the `conversation_id` of the context, else by its `satellite_id` or `device_id`.
    The context is returned as it came, with the provider that answered and what it took. After a failure the stream
    that was begun is ended with `handled-stop` behind the `error` event, whose text is a sentence that can be spoken.
    """
    if not text.strip():
        await session.connection.send(NotHandled(text="", context=context))
        return
    if len(text) > session.stages.config.wyoming.max_text_characters:
        raise ChatRejected(f"a question of {len(text)} characters is too long", kind="too-long")
    dialogue = session.stages.dialogue
    question = Question(text, _conversation(context), None, language)
    prompt = dialogue.prompt(question)
    started = False
    try:
        whole = provider = ""
        stats: ChatStats | None = None
        async with aclosing(session.stages.answer(question, prompt)) as deltas:
            async for delta in deltas:
                if not started:
                    started = True
                    await session.connection.send(HandledStart(context=context))
                whole += delta.text
                provider, stats = delta.provider, delta.stats
                if delta.text:
                    await session.connection.send(HandledChunk(text=delta.text))
        whole = finished(whole) if stats and stats.truncated else whole.strip()
        told = {**(context or {}), "provider": provider, **(stats.described() if stats else {})}
        await session.connection.send(Handled(text=whole, context=told))
        dialogue.remember(question, prompt, whole)
    except StageError as error:
        occasion = Phrase.INTERRUPTED if started else Phrase.UNAVAILABLE
        await session.fail(error, spoken=phrase(session.stages.config.phrases, occasion, language))
    if started:
        await session.connection.send(HandledStop())


def _conversation(context: dict[str, Any] | None) -> str | None:
    """Return which conversation a client means."""
    for key, kind in (("conversation_id", "conversation"), ("satellite_id", "room"), ("device_id", "room")):
        name = (context or {}).get(key)
        if isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME:
            return f"{kind} {name}"
    return None
