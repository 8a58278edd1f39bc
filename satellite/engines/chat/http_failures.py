"""What an HTTP status of a chat server means to a run."""

from satellite.errors import ChatError, ChatRejected, ChatUnavailable, shown

_LONGEST_REASON = 200
"""Characters of a server's explanation that are kept: some repeat the whole request."""


class RateLimited(ChatUnavailable):
    """The provider has had enough requests for now."""

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message, kind="rate-limited")
        self.retry_after_seconds = retry_after_seconds
        """When it will answer again, if it says so."""


def failure(server: str, status: int, reason: str, *, retry_after_seconds: float | None = None) -> ChatError:
    """Return the error for an answer of `server` with an HTTP `status` of 400 or more."""
    reason = shown(reason, _LONGEST_REASON)
    message = f"{server} answered {status}: {reason}"
    if status == 429 or (status == 503 and retry_after_seconds is not None):
        return RateLimited(message, retry_after_seconds=retry_after_seconds)
    if status in (401, 403):
        return ChatRejected(message, kind="refused")
    if status == 404:
        return ChatUnavailable(message, kind="unknown-model")
    if status in (408, 504):
        return ChatUnavailable(message, kind="timeout")
    if status in (413, 400) and _is_too_long(reason):
        return ChatRejected(message, kind="too-long")
    if 400 <= status < 500:
        return ChatRejected(message)
    return ChatUnavailable(message, kind="busy" if status == 503 else "failed")


def _is_too_long(reason: str) -> bool:
    """Tell whether a server's explanation is that the conversation does not fit into the model's context."""
    reason = reason.lower()
    return "context" in reason and any(word in reason for word in ("exceed", "length", "long", "large"))
