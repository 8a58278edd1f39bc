"""The state of a model over time: the present one, how often it entered each, and log lines that do not repeat."""

import logging
import time
from collections import Counter
from collections.abc import Sequence

from satellite.engines.chat.keepalive.loaded_models import ModelState
from satellite.engines.chat.ollama_client import OllamaApi
from satellite.net.provider_states import STATES

_LOGGER = logging.getLogger(__name__)

_REPEAT_SECONDS = 3600.0
"""A state that comes back sooner than this is counted, and logged at debug level only."""


class StateLog:
    """The present state of one model, and the past ones in numbers."""

    def __init__(self, api: OllamaApi) -> None:
        self.state = ModelState.UNKNOWN
        self.since = time.monotonic()
        self.detail = ""
        self.seen: Counter[ModelState] = Counter()
        """How often each state was entered."""

        self.present: set[ModelState] = set()
        """What is wrong with the loaded model."""

        self._api = api
        self._logged_at: dict[ModelState, float] = {}

    @property
    def message(self) -> str:
        """The present state, for an administrator."""
        return self._explain(self.state, self.detail)

    def enter(self, state: ModelState, detail: str = "") -> None:
        """Enter `state`; counted and logged unless it is the present one."""
        self.detail = detail
        if state is self.state:
            return
        self.state, self.since = state, time.monotonic()
        if state not in self.present:
            self.record(state, detail, always=state is not ModelState.WARM)

    def found(self, findings: Sequence[ModelState], detail: str = "") -> None:
        """Record what is wrong with the loaded model, as far as it is new."""
        for finding in findings:
            if finding not in self.present:
                self.record(finding, detail)
        self.present = set(findings)

    def record(self, state: ModelState, detail: str, *, always: bool = False) -> None:
        """Count and log a state, which may have been corrected already; `always` even if it was logged lately."""
        self.seen[state] += 1
        now = time.monotonic()
        level = logging.getLevelNamesMapping()[STATES[state].get("log", "warning").upper()]
        if not always and now - self._logged_at.get(state, float("-inf")) < _REPEAT_SECONDS:
            level = logging.DEBUG
        else:
            self._logged_at[state] = now
        if level >= logging.WARNING:  # so that the recovery from it is logged as well
            self._logged_at.pop(ModelState.WARM, None)
        _LOGGER.log(level, "chat: %s", self._explain(state, detail))

    def _explain(self, state: ModelState, detail: str) -> str:
        api, text = self._api, str(STATES[state].get("text", "{detail}"))
        return text.format(model=api.model, server=api.server, context=api.context_tokens, detail=detail)
