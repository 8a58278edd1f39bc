"""From a model's raw pieces of text to the deltas of one answer; the same for every provider."""

import logging
import time
from dataclasses import replace

from satellite.engines.chat.thinking import ThinkFilter
from satellite.engines.protocols import ChatDelta, ChatStats
from satellite.errors import ChatUnavailable

_LOGGER = logging.getLogger(__name__)

_SURE = 2
"""So many answers in a row that close a thought which they had not opened are no accident."""


class ChatReplies:
    """Begins a provider's answers, and remembers between them whether its model begins with a thought.

    One that closes a thought which no tag had opened may do so always, so that the next answer is held back until its
    thought is closed; one that closes none ends that.
    """

    def __init__(self, provider: str) -> None:
        self.provider = provider
        self.always_thinks = False
        """Whether it is known that the model's prompt opens a thought."""

        self._thoughts = 0
        """Answers in a row that closed one which they had not opened."""

    @property
    def thinks_first(self) -> bool:
        """Whether the next answer is held back until a thought is closed."""
        return self.always_thinks or self._thoughts > 0

    @property
    def is_sure(self) -> bool:
        """Whether an answer that closes no thought was cut off amid one."""
        return self.always_thinks or self._thoughts >= _SURE

    def begin(self, *, may_be_empty: bool = False) -> "ChatReply":
        """Begin an answer; its time to the first word counts from now."""
        return ChatReply(self, may_be_empty=may_be_empty)

    def note(self, *, closed: bool) -> None:
        """Note whether an answer closed a thought which it had not opened."""
        before, self._thoughts = self.thinks_first, self._thoughts + 1 if closed else 0
        if self.thinks_first and not before:
            _LOGGER.info(
                "chat: %s closed a thought that it had not opened: answers wait for such an end",
                self.provider,
            )
        elif before and not self.thinks_first:
            _LOGGER.info("chat: %s does not think aloud: its answers are spoken as they come again", self.provider)


class ChatReply:
    """One answer on its way: without thoughts, beginning with a word, and never without one unless it may be empty."""

    def __init__(self, replies: ChatReplies, *, may_be_empty: bool = False) -> None:
        self._replies = replies
        self._may_be_empty = may_be_empty
        self._filter = ThinkFilter(thinking=replies.thinks_first)
        self._began = time.monotonic()
        self._first_token_seconds: float | None = None

    @property
    def has_begun(self) -> bool:
        """Whether there was anything to say yet."""
        return self._first_token_seconds is not None

    def delta(self, raw: str) -> ChatDelta | None:
        """Return what there is to say after `raw`, None when that is nothing yet."""
        text = self._words(self._filter.feed(raw))
        return ChatDelta(text, self._replies.provider) if text else None

    def rest(self) -> ChatDelta | None:
        """Return what was held back of an answer that has broken off, None when that is nothing, or a thought."""
        text = self._words(self._filter.flush() + ("" if self._replies.is_sure else self._filter.presumed()))
        return ChatDelta(text, self._replies.provider) if text else None

    def end(self, stats: ChatStats | None = None) -> ChatDelta:
        """Return the last delta, often without text, with what the answer cost; raises `ChatUnavailable`(empty)."""
        stats = stats or ChatStats()
        is_thought = stats.truncated and self._replies.is_sure
        text = self._filter.flush()
        text = self._words(text + ("" if is_thought else self._filter.presumed()))
        if not is_thought:
            self._replies.note(closed=self._filter.unopened)
        provider = self._replies.provider
        if not self.has_begun and not self._may_be_empty:
            raise ChatUnavailable(f"{provider} gave an empty answer", kind="empty")
        return ChatDelta(text, provider, replace(stats, first_token_seconds=self._first_token_seconds))

    def _words(self, text: str) -> str:
        if self._first_token_seconds is None:
            text = text.lstrip()
            if text:
                self._first_token_seconds = time.monotonic() - self._began
        return text
