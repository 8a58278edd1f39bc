"""What an answer cost the provider that gave it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChatStats:
    """Figures of one answer; None where the provider does not tell."""

    prompt_tokens: int | None = None
    """Tokens of the whole conversation that was sent."""

    cached_tokens: int | None = None
    """How many of them it still knew from an earlier request."""

    answer_tokens: int | None = None

    load_seconds: float | None = None
    """Loading the model; large when it was cold."""

    prompt_seconds: float | None = None
    answer_seconds: float | None = None

    @property
    def tokens_per_second(self) -> float | None:
        """Pace of the answer once it had begun."""
        if not self.answer_tokens or not self.answer_seconds:
            return None
        return self.answer_tokens / self.answer_seconds
