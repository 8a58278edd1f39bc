"""Turns a model's raw pieces of text into the deltas of one reply; the same for every provider."""

import logging
import time
from dataclasses import replace

from satellite.engines.chat.thinking import ThoughtFilter
from satellite.engines.protocols import ChatDelta, ChatStats
from satellite.errors import ChatUnavailable

_LOGGER = logging.getLogger(__name__)

_CERTAIN = 2
"""Replies in a row that close a thought which they did not open, after which that is no accident."""


class ChatReplies:
    """Begins a provider's replies, and remembers whether its model begins them with a thought.

    A reply that closes a thought without having opened one was a thought up to there, which the listener has heard. The
    next reply is therefore held back until its thought is closed; one that closes none ends that.
    """

    def __init__(self, provider: str) -> None:
        self.provider = provider
        self.always_thinks = False
        """Whether the model's prompt is known to open a thought."""

        self._thoughts = 0
        """Replies in a row that closed a thought which they had not opened."""

    @property
    def thinks_first(self) -> bool:
        """Whether the next reply is held back until a thought is closed."""
        return self.always_thinks or self._thoughts > 0

    @property
    def is_certain(self) -> bool:
        """Whether a reply that closes no thought was cut off within one."""
        return self.always_thinks or self._thoughts >= _CERTAIN

    def begin(self, *, may_be_empty: bool = False) -> "ChatReply":
        """Begin a reply; its time to the first word starts now."""
        return ChatReply(self, may_be_empty=may_be_empty)

    def record(self, *, closed: bool) -> None:
        """Record whether a reply closed a thought which it had not opened."""
        before, self._thoughts = self.thinks_first, self._thoughts + 1 if closed else 0
        if self.thinks_first and not before:
            _LOGGER.info(
                "chat: %s closed a thought that it had not opened; its replies are held back until they do",
                self.provider,
            )
        elif before and not self.thinks_first:
            _LOGGER.info("chat: %s does not think aloud; its replies are no longer held back", self.provider)


class ChatReply:
    """One reply in progress: without thoughts or leading white space, and not empty unless it may be."""

    def __init__(self, replies: ChatReplies, *, may_be_empty: bool = False) -> None:
        self._replies = replies
        self._may_be_empty = may_be_empty
        self._filter = ThoughtFilter(thinking=replies.thinks_first)
        self._began = time.monotonic()
        self._first_token_seconds: float | None = None

    @property
    def has_begun(self) -> bool:
        """Whether there was any text yet."""
        return self._first_token_seconds is not None

    def delta(self, raw: str) -> ChatDelta | None:
        """Return the text that `raw` adds, None when that is nothing yet."""
        text = self._started(self._filter.feed(raw))
        return ChatDelta(text, self._replies.provider) if text else None

    def rest(self) -> ChatDelta | None:
        """Return what was held back of a reply that broke off, None when that is nothing or a thought."""
        text = self._started(self._filter.flush() + ("" if self._replies.is_certain else self._filter.presumed()))
        return ChatDelta(text, self._replies.provider) if text else None

    def end(self, stats: ChatStats) -> ChatDelta:
        """Return the last delta, often without text, with the reply's figures; raises `ChatUnavailable`(empty)."""
        # At the length limit a thought may be cut off before its end: it is not spoken, if the model is known for it.
        is_thought = stats.truncated and self._replies.is_certain
        text = self._filter.flush()
        text = self._started(text + ("" if is_thought else self._filter.presumed()))
        if not is_thought:
            self._replies.record(closed=self._filter.unopened)
        provider = self._replies.provider
        if not self.has_begun and not self._may_be_empty:
            raise ChatUnavailable(f"{provider} gave an empty answer", kind="empty")
        return ChatDelta(text, provider, replace(stats, first_token_seconds=self._first_token_seconds))

    def _started(self, text: str) -> str:
        """Return `text`, without white space before the first word, whose time is taken."""
        if self._first_token_seconds is None:
            text = text.lstrip()
            if text:
                self._first_token_seconds = time.monotonic() - self._began
        return text
