"""What an answer cost the provider that gave it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChatStats:
    """Figures of one answer; None where the provider does not tell."""

    first_token_seconds: float | None = None
    """From the question to the first word, whoever was asked before."""

    switch_reason: str = ""
    """Why it was not the first provider that answered; empty when it was."""

    truncated: bool = False
    """Whether the answer was cut at its longest."""

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

    def described(self) -> dict[str, object]:
        """Return what an answer carries for those who want to know where the time went; times in milliseconds."""
        rounded = {
            "first_token_ms": _ms(self.first_token_seconds),
            "tokens_per_second": None if self.tokens_per_second is None else round(self.tokens_per_second, 1),
            "load_ms": _ms(self.load_seconds),
            "prompt_tokens": self.prompt_tokens,
            "reused_tokens": self.cached_tokens,
            "answer_tokens": self.answer_tokens,
            "switch_reason": self.switch_reason or None,
        }
        return {name: value for name, value in rounded.items() if value is not None}


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
