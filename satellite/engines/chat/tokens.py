"""How long a conversation is for a model, without asking its tokenizer, and how to make it fit."""

from collections.abc import Sequence

from satellite.engines.protocols import Message

_BYTES_PER_TOKEN = 3
"""Of UTF-8, on the safe side: English has some 4.3 with today's vocabularies, Chinese 3."""

_TOKENS_AROUND = 8
"""What a chat template puts around each message."""


def estimated_tokens(text: str) -> int:
    """Return how many tokens `text` has at most, by a rule of thumb."""
    return -(-len(text.encode(errors="surrogatepass")) // _BYTES_PER_TOKEN)


def conversation_tokens(messages: Sequence[Message]) -> int:
    """Return how many tokens a conversation has at most, by a rule of thumb."""
    return sum(estimated_tokens(message.whole) + _TOKENS_AROUND for message in messages)


def fitting(messages: Sequence[Message], budget_tokens: int) -> list[Message]:
    """Return `messages` without the oldest whole turns, as many as must go to stay within the budget.

    What the system says and the last question always stay, whether they fit or not.
    """
    kept = list(messages)
    first = next((index for index, message in enumerate(kept) if message.role != "system"), len(kept))
    while conversation_tokens(kept) > budget_tokens and len(kept) > first + 1:
        del kept[first]
        while len(kept) > first + 1 and kept[first].role != "user":
            del kept[first]
    return kept
