"""How much of a prompt Ollama still knew, from what it tells of the work it did."""

from typing import Any


class PrefixGauge:
    """Learns from one cold reading of the prompt's beginning what reading costs, and judges later ones by it.

    Releases differ in what `prompt_eval_count` counts. Up to 0.29 only tokens that were read, since 0.30 all of the
    prompt (ollama/ollama#16428), and the newest tell the known ones apart, in `prompt_eval_cached_count`.
    """

    def __init__(self) -> None:
        self.prefix_tokens: int | None = None
        """Tokens of the prompt's unchanging beginning, once it was read cold."""

        self._seconds_per_token = 0.0

    def learn(self, part: Any) -> None:
        """Note the figures of a prompt that was read by a model just loaded."""
        if part.prompt_eval_count:
            self.prefix_tokens = part.prompt_eval_count
            self._seconds_per_token = (part.prompt_eval_duration or 0) / 1e9 / part.prompt_eval_count

    def reused(self, part: Any) -> int | None:
        """Return how many tokens were not read again; None when that cannot be told.

        Exact where the server says it. Else at least what is missing from the count; else, by the time it took.
        """
        told = getattr(part, "prompt_eval_cached_count", None)
        if isinstance(told, int):
            return told
        count, prefix = part.prompt_eval_count, self.prefix_tokens
        if prefix is None or count is None:
            return None
        if count < prefix:
            return prefix - int(count)
        if not self._seconds_per_token or part.prompt_eval_duration is None:
            return None
        read = part.prompt_eval_duration / 1e9 / self._seconds_per_token
        return max(0, int(count - read))
