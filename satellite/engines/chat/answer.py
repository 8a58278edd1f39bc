"""From a model's raw pieces of text to the deltas of one answer; the same for every provider."""

from satellite.engines import ChatDelta
from satellite.engines.chat.stats import ChatStats
from satellite.engines.chat.thinking import ThinkFilter
from satellite.errors import ChatUnavailable


class Answer:
    """One answer on its way: without thoughts, beginning with a word, and never without one."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._filter = ThinkFilter()
        self._begun = False

    def delta(self, raw: str) -> ChatDelta | None:
        """Return what there is to say after `raw`, None when that is nothing yet."""
        text = self._words(self._filter.feed(raw))
        return ChatDelta(text, self._provider) if text else None

    def end(self, stats: ChatStats | None = None) -> ChatDelta:
        """Return the last delta, often without text, with what the answer cost; raises `ChatUnavailable`(empty)."""
        text = self._words(self._filter.flush())
        if not self._begun:
            raise ChatUnavailable(f"{self._provider} gave an empty answer", kind="empty")
        return ChatDelta(text, self._provider, stats)

    def _words(self, text: str) -> str:
        if not self._begun:
            text = text.lstrip()
            self._begun = bool(text)
        return text
