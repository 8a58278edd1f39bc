"""An estimate of a conversation's tokens, without the model's tokenizer, and how to make it fit."""

from collections.abc import Sequence

from satellite.engines.protocols import Message

_BYTES_PER_TOKEN = 3
"""UTF-8 bytes, a low estimate: English has about 4.3 with current vocabularies, Chinese 3."""

_TOKENS_AROUND = 8
"""Added by a chat template around each message."""


def estimated_tokens(text: str) -> int:
    """Estimate the most tokens that `text` may have."""
    return -(-len(text.encode(errors="surrogatepass")) // _BYTES_PER_TOKEN)


def conversation_tokens(messages: Sequence[Message]) -> int:
    """Estimate the most tokens that a conversation may have."""
    return sum(estimated_tokens(message.whole) + _TOKENS_AROUND for message in messages)


def fitting(messages: Sequence[Message], budget_tokens: int) -> list[Message]:
    """Return `messages` without as many of the oldest turns as exceed the budget.

    The system prompt and the last question are always kept, even if they do not fit.
    """
    kept = list(messages)
    first = next((index for index, message in enumerate(kept) if message.role != "system"), len(kept))
    while conversation_tokens(kept) > budget_tokens and len(kept) > first + 1:
        del kept[first]
        # Never begin with an answer whose question is gone: chat templates refuse that.
        while len(kept) > first + 1 and kept[first].role != "user":
            del kept[first]
    return kept
