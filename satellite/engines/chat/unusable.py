"""A provider that cannot be built, in its place: the others answer, and the status says what is wrong with it."""

import time
from collections.abc import AsyncGenerator, Sequence

from satellite.engines.chat.status import ProviderStatus, provider_status
from satellite.engines.protocols import AS_CONFIGURED, ChatDelta, Message, Sampling
from satellite.errors import ChatUnavailable
from satellite.net.provider_states import ProviderHealth


class UnusableChat:
    """A `ChatModel` that never answers, for the reason that it is given."""

    context_tokens: int | None = None
    leaves_house = False

    def __init__(self, provider: str, model: str, reason: str) -> None:
        self.provider = provider
        self.model = model
        self._reason = reason
        self._since = time.monotonic()

    @property
    def health(self) -> ProviderHealth:
        """Return why it must not be asked."""
        return ProviderHealth("misconfigured", False, self._reason, forbidden=True, since=self._since)

    @property
    def status(self) -> ProviderStatus:
        """Return its state."""
        return provider_status(self)

    async def stream(
        self, messages: Sequence[Message], sampling: Sampling = AS_CONFIGURED
    ) -> AsyncGenerator[ChatDelta, None]:
        """Raise `ChatUnavailable`."""
        raise self._error()
        yield  # what makes this an answer

    def prepare(self, messages: Sequence[Message]) -> None:
        """Do nothing."""

    async def load(self) -> None:
        """Raise `ChatUnavailable`."""
        raise self._error()

    async def warm_up(self) -> None:
        """Raise `ChatUnavailable`."""
        raise self._error()

    async def watch(self) -> None:
        """Look after nothing."""

    async def close(self) -> None:
        """Hold nothing; may be called twice."""

    def _error(self) -> ChatUnavailable:
        return ChatUnavailable(self._reason, kind="misconfigured")
