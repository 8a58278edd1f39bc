"""Text in, an answer out: the conversation agent."""

import logging
from contextlib import aclosing
from typing import Any

from wyoming.handle import Handled, HandledChunk, HandledStart, HandledStop, NotHandled

from satellite.engines.chat.usage import ChatStats
from satellite.errors import ChatRejected, ProtocolError, SatelliteError, in_words
from satellite.pipeline.clauses import finished, is_finished
from satellite.pipeline.dialogue import Question
from satellite.pipeline.phrases import Phrase, phrase
from satellite.pipeline.stages import Stages
from satellite.services.peer import Peer
from satellite.system.logs import log_words

_LOGGER = logging.getLogger(__name__)

_LONGEST_NAME = 200


async def answer(peer: Peer, stages: Stages, text: str, context: dict[str, Any] | None, language: str | None) -> None:
    """Send the answer to `text` as it comes, and whole in `handled`, empty for silence; `not-handled` for no text.

    What was said before is known by the `conversation_id` of the context, else by its `satellite_id` or `device_id`.
    The context is returned as it came, with the provider that answered and what it took. A failure is `not-handled`
    with what was answered until then and a sentence that can be spoken, as Home Assistant does word for word; its code
    and our own words stand beside them. A stream that was begun is ended with `handled-stop` in any case.
    """
    if not text.strip():
        await peer.send(NotHandled(text="", context=context))
        return
    dialogue = stages.dialogue
    device, satellite = _named(context, "device_id"), _named(context, "satellite_id")
    question = Question(text, _conversation(context), None, language, device=device, satellite=satellite)
    started = False
    whole = provider = ""
    try:
        if len(text) > stages.config.wyoming.max_text_characters:
            raise ChatRejected(f"a question of {len(text)} characters is too long", kind="too-long")
        prompt = dialogue.prompt(question)
        stats: ChatStats | None = None
        async with aclosing(stages.read_ahead(stages.answer(question, prompt))) as deltas:
            async for delta in deltas:
                if not started:
                    started = True
                    await peer.send(HandledStart(context=context))
                whole += delta.text
                provider, stats = delta.provider, delta.stats
                if delta.text:
                    await peer.send(HandledChunk(text=delta.text))
        whole = finished(whole) if stats and stats.truncated else whole.strip()
        log_words(peer.name, text, whole)
        told = {**(context or {}), "provider": provider, **(stats.described() if stats else {})}
        await peer.send(Handled(text=whole, context=told))
        stages.remember(question, prompt, whole)
    except (ConnectionError, ProtocolError):
        raise  # nobody is there to be told
    except SatelliteError as error:
        await _apologise(peer, stages, error, context, language, answered=whole)
    except Exception as error:  # the request boundary: whoever asked must hear of it, whatever broke
        _LOGGER.exception("%s: a question failed unexpectedly", peer.name)
        unexpected = SatelliteError(in_words(error))
        await _apologise(peer, stages, unexpected, context, language, answered=whole)
    if started:
        await peer.send(HandledStop())


async def _apologise(
    peer: Peer,
    stages: Stages,
    error: SatelliteError,
    context: dict[str, Any] | None,
    language: str | None,
    *,
    answered: str,
) -> None:
    """Log `error`, and answer with the sentences that were complete and one that says that there are no more."""
    peer.log(error)
    said = finished(answered)
    occasion = Phrase.INTERRUPTED if answered.strip() else Phrase.UNAVAILABLE
    apology = phrase(stages.config.phrases, occasion, language)
    told = NotHandled(text=f"{said} {apology}" if is_finished(said) else apology, context=context).event()
    told.data |= {"code": error.code, "detail": str(error)}
    await peer.send(told)


def _conversation(context: dict[str, Any] | None) -> str | None:
    """Return which conversation a client means."""
    for key, kind in (("conversation_id", "conversation"), ("satellite_id", "room"), ("device_id", "room")):
        if (name := _named(context, key)) is not None:
            return f"{kind} {name}"
    return None


def _named(context: dict[str, Any] | None, key: str) -> str | None:
    """Return a name in the context, if there is one and it looks like one."""
    name = (context or {}).get(key)
    return name if isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME else None
