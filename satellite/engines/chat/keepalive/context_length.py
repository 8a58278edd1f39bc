"""The context length of Ollama's model, which other clients change too."""

import logging
import time
from collections import Counter

from satellite.engines.chat.keepalive.loaded_models import LoadedModel
from satellite.engines.chat.ollama_client import OllamaApi

_LOGGER = logging.getLogger(__name__)

_REMEMBERED_SECONDS = 3600.0
"""How long the longer context of another client is still requested, after it was last seen."""


class ContextLength:
    """The context length that requests name: that of the loaded model if it suffices.

    Ollama reloads a model for every request that names another length, so that two clients with different lengths
    would keep each other waiting. The longest that any client wants serves all.
    """

    def __init__(self, api: OllamaApi) -> None:
        self.least_tokens = api.context_tokens
        """What suffices: num_ctx, or all that the model allows."""

        self._api = api
        self._num_ctx = api.context_tokens
        self._is_known = False
        self._longer_tokens = 0
        self._longer_at = float("-inf")

    async def learn(self, requests: Counter[str]) -> None:
        """Ask how much the model allows, once; raises `ChatError`."""
        if not self._is_known:
            requests["show"] += 1
            trained = await self._api.trained_tokens()
            self.least_tokens = min(self._num_ctx, trained or self._num_ctx)
            self._is_known = True

    def forget(self) -> None:
        """Ask again: another model may have taken the name."""
        self._is_known = False

    def suffices(self, entry: LoadedModel) -> bool:
        """Return whether the model has been loaded with enough context."""
        return entry.context_tokens is None or entry.context_tokens >= self.least_tokens

    def follow(self, entry: LoadedModel | None) -> None:
        """From now on request the length of `entry` if it suffices, else, or without an entry, the configured one."""
        now = time.monotonic()
        if entry is None or entry.context_tokens is None or not self.suffices(entry):
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
            # Requested for a while even if the model is unloaded: the other client would reload it with this length.
            self._longer_tokens, self._longer_at = entry.context_tokens, now
        self._api.context_tokens = entry.context_tokens

    def described(self, entry: LoadedModel) -> str:
        """Return what people should know of the length; empty when it is the configured one."""
        if entry.context_tokens is None or entry.context_tokens <= self._num_ctx:
            return ""
        return f", which another client wanted: num_ctx is {self._num_ctx} here"
