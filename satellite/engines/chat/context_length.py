"""How long a context Ollama's model should have, when other clients have a say in it too."""

import logging
import time
from collections import Counter

from satellite.engines.chat.keepalive.loaded_models import Loaded
from satellite.engines.chat.ollama_client import OllamaApi

_LOGGER = logging.getLogger(__name__)

_ASK_SECONDS = 3.0
_REMEMBERED_SECONDS = 3600.0
"""How long what another client wanted is still loaded for it."""


class ContextLength:
    """What requests name as context length: what is loaded, if that is enough, since anything else would reload it.

    Ollama loads a model again for every request that names another length, so that two clients that want different
    ones would keep each other waiting. The longest that anybody wants serves all.
    """

    def __init__(self, api: OllamaApi) -> None:
        self.least_tokens = api.context_tokens
        """What is enough for us: num_ctx, or all that the model allows."""

        self._api = api
        self._num_ctx = api.context_tokens
        self._is_known = False
        self._longer_tokens = 0
        self._longer_at = float("-inf")

    async def learn(self, requests: Counter[str]) -> None:
        """Ask how much the model allows, once; raises `ChatError`."""
        if not self._is_known:
            requests["show"] += 1
            trained = await self._api.trained_tokens(_ASK_SECONDS)
            self.least_tokens = min(self._num_ctx, trained or self._num_ctx)
            self._is_known = True

    def forget(self) -> None:
        """Ask again: it may be another model by that name."""
        self._is_known = False

    def is_enough(self, entry: Loaded) -> bool:
        """Tell whether the model has been loaded with all that we want."""
        return entry.context_tokens is None or entry.context_tokens >= self.least_tokens

    def take(self, entry: Loaded | None) -> None:
        """Name what is loaded from now on, if it is enough; else, or without an `entry`, what we want ourselves."""
        now = time.monotonic()
        if entry is None or entry.context_tokens is None or not self.is_enough(entry):
            is_recent = now - self._longer_at < _REMEMBERED_SECONDS
            self._api.context_tokens = max(self._num_ctx, self._longer_tokens if is_recent else 0)
            return
        if entry.context_tokens > self._num_ctx:
            if entry.context_tokens != self._api.context_tokens:
                _LOGGER.info(
                    "chat: another client has loaded %s with a context of %d tokens; it is left as it is, since %d "
                    "would do here",
                    self._api.model,
                    entry.context_tokens,
                    self._num_ctx,
                )
            self._longer_tokens, self._longer_at = entry.context_tokens, now
        self._api.context_tokens = entry.context_tokens

    def described(self, entry: Loaded) -> str:
        """Return what people should know of the length, empty when it is what we asked for."""
        if entry.context_tokens is None or entry.context_tokens <= self._num_ctx:
            return ""
        return f", which another client wanted: num_ctx is {self._num_ctx} here"
