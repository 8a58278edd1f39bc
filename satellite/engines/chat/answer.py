"""From a model's raw pieces of text to the deltas of one answer; the same for every provider."""

import time
from dataclasses import replace

from satellite.engines import ChatDelta
from satellite.engines.chat.thinking import ThinkFilter
from satellite.engines.stats import ChatStats
from satellite.errors import ChatUnavailable


class Answers:
    """Begins a provider's answers, and remembers between them whether its model begins with a thought."""

    def __init__(self, provider: str) -> None:
        self.provider = provider
        self.thinks_first = False

    def begin(self, *, may_be_empty: bool = False) -> "Answer":
        """Begin an answer; its time to the first word counts from now."""
        return Answer(self, may_be_empty=may_be_empty)


class Answer:
    """One answer on its way: without thoughts, beginning with a word, and never without one unless it may be empty."""

    def __init__(self, answers: Answers, *, may_be_empty: bool = False) -> None:
        self._answers = answers
        self._may_be_empty = may_be_empty
        self._filter = ThinkFilter(thinking=answers.thinks_first)
        self._began = time.monotonic()
        self._first_token_seconds: float | None = None

    def delta(self, raw: str) -> ChatDelta | None:
        """Return what there is to say after `raw`, None when that is nothing yet."""
        text = self._words(self._filter.feed(raw))
        return ChatDelta(text, self._answers.provider) if text else None

    def end(self, stats: ChatStats | None = None) -> ChatDelta:
        """Return the last delta, often without text, with what the answer cost; raises `ChatUnavailable`(empty)."""
        stats = stats or ChatStats()
        text = self._words(self._filter.flush(truncated=stats.truncated))
        self._answers.thinks_first = self._answers.thinks_first or self._filter.unopened
        provider = self._answers.provider
        if self._first_token_seconds is None and not self._may_be_empty:
            raise ChatUnavailable(f"{provider} gave an empty answer", kind="empty")
        return ChatDelta(text, provider, replace(stats, first_token_seconds=self._first_token_seconds))

    def _words(self, text: str) -> str:
        if self._first_token_seconds is None:
            text = text.lstrip()
            if text:
                self._first_token_seconds = time.monotonic() - self._began
        return text
