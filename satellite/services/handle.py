"""Text in, an answer out: the conversation agent."""

from __future__ import annotations  # Session is only a type here; importing it would be a circle

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from wyoming.handle import Handled, HandledChunk, HandledStart, HandledStop, NotHandled

from satellite.errors import ChatRejected, StageError

if TYPE_CHECKING:
    from satellite.services.session import Session


async def answer(session: Session, text: str, context: dict[str, Any] | None) -> None:
    """Send the chat model's answer to `text` as it comes, and whole in `handled`; `not-handled` for no text.

    The `context` is returned as it came, with the provider that answered. After a failure the stream that was
    begun is ended with `handled-stop` behind the `error` event.
    """
    if not text.strip():
        await session.connection.send(NotHandled(text="", context=context))
        return
    if len(text) > session.stages.config.wyoming.max_text_characters:
        raise ChatRejected(f"a question of {len(text)} characters is too long", kind="too-long")
    started = False
    try:
        whole = provider = ""
        async with aclosing(session.stages.chat(text)) as deltas:
            async for delta in deltas:
                if not started:
                    started = True
                    await session.connection.send(HandledStart(context=context))
                whole += delta.text
                provider = delta.provider
                if delta.text:
                    await session.connection.send(HandledChunk(text=delta.text))
        await session.connection.send(Handled(text=whole.strip(), context={**(context or {}), "provider": provider}))
    except StageError as error:
        await session.fail(error)
    if started:
        await session.connection.send(HandledStop())
