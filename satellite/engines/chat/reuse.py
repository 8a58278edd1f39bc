"""How much of a prompt Ollama still knew, from what it tells of the work it did."""

from collections.abc import Sequence
from typing import Any

from satellite.engines import Message

_ALL = 0.8
"""A count below this part of what the prompt should have is one of the tokens that were read only."""

_MOST = 0.5
"""The same where the model's tokens were never counted, and their number is a rule of thumb."""

_BYTES_PER_TOKEN = 4.3
"""Of English, with today's vocabularies."""


class PrefixGauge:
    """Learns from one cold reading of the prompt's beginning what reading costs, and judges later ones by it.

    Releases differ in what `prompt_eval_count` counts. Up to 0.29 only tokens that were read, since 0.30 all of the
    prompt (ollama/ollama#16428), and the newest tell the known ones apart, in `prompt_eval_cached_count`.
    """

    def __init__(self) -> None:
        self.prefix_tokens: int | None = None
        """Tokens of the prompt's unchanging beginning, once it was read cold."""

        self._prefix_bytes = 0
        self._seconds_per_token = 0.0

    def learn(self, prefix: Sequence[Message], part: Any) -> None:
        """Note the figures of a prompt that was read by a model just loaded."""
        if part.prompt_eval_count and prefix:
            self.prefix_tokens = part.prompt_eval_count
            self._prefix_bytes = _bytes(prefix)
            self._seconds_per_token = (part.prompt_eval_duration or 0) / 1e9 / part.prompt_eval_count

    def reused(self, prompt: Sequence[Message], part: Any) -> int | None:
        """Return how many tokens of `prompt` were not read again; None when that cannot be told.

        Exact where the server says it. Else an estimate: what is missing from the count, if that is of the tokens
        that were read, by the bytes of a token of the beginning; if it is of all, by the time that reading took.
        """
        told = getattr(part, "prompt_eval_cached_count", None)
        if isinstance(told, int):
            return told
        count = part.prompt_eval_count
        if count is None:
            return None
        if not self.prefix_tokens:  # a daemon that was started again finds a model that knows everything
            total = _bytes(prompt) / _BYTES_PER_TOKEN
            return int(total - count) if count < _MOST * total else None
        total = self.prefix_tokens * _bytes(prompt) / self._prefix_bytes
        if count < _ALL * total:
            return int(total - count)
        if not self._seconds_per_token or part.prompt_eval_duration is None:
            return None
        read = part.prompt_eval_duration / 1e9 / self._seconds_per_token
        return max(0, int(count - read))


def _bytes(messages: Sequence[Message]) -> int:
    return sum(len(message.whole.encode()) for message in messages)
