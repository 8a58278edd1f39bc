"""The state of a model over time: the present one, how often it entered each, and log lines that do not repeat."""

import logging
import time
from collections import Counter
from collections.abc import Sequence

from satellite.engines.chat.keepalive.loaded_models import ModelState
from satellite.engines.chat.ollama_client import OllamaApi

_LOGGER = logging.getLogger(__name__)

_REPEAT_SECONDS = 3600.0
"""A state that comes back sooner than this is counted, and logged at debug level only."""

_TEXTS = {
    ModelState.UNKNOWN: "{model} has not been looked at yet",
    ModelState.WARM: "{model} is loaded and ready ({detail})",
    ModelState.RELEASED: "{model} is unloaded until it is needed, as keepalive.when says",
    ModelState.NOT_LOADED: "{model} was not loaded; it took {detail}",
    ModelState.UNLOADED: "another client has unloaded {model} or is loading it; it is loaded again in a moment",
    ModelState.LOADING: "{model} is being loaded",
    ModelState.OTHER_NAME: "{model} answers, but Ollama lists it under another name, that of a model which shares its "
    "file; nothing is wrong",
    ModelState.FOREIGN_KEEP_ALIVE: "another client had set {model} to be unloaded; it stays loaded again",
    ModelState.OTHER_CONTEXT: "another client has loaded {model} with a shorter context; it is loaded again, with "
    "{context}, before the next question. To end this, give both the same: num_ctx here, the context window there",
    ModelState.PARTLY_ON_CPU: "{model} does not fit on the GPU and is slow ({detail}); free GPU memory, or choose a "
    "smaller model or num_ctx",
    ModelState.ON_CPU: "{model} runs on the CPU although there is a GPU: restart Ollama",
    ModelState.RUNNER_DIED: "{model} had died though {server} listed it; it took {detail}",
    ModelState.SILENT: "{detail}; if this lasts, restart Ollama",
}
"""What each state means to an administrator; the others are failures that explain themselves."""

_DEBUG = (ModelState.UNKNOWN, ModelState.LOADING, ModelState.UNLOADED)
_INFO = (ModelState.WARM, ModelState.RELEASED, ModelState.NOT_LOADED, ModelState.OTHER_NAME)
"""The states that are no reason to warn."""


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
        level = logging.DEBUG if state in _DEBUG else logging.INFO if state in _INFO else logging.WARNING
        if not always and now - self._logged_at.get(state, float("-inf")) < _REPEAT_SECONDS:
            level = logging.DEBUG
        else:
            self._logged_at[state] = now
        if level >= logging.WARNING:  # so that the recovery from it is logged as well
            self._logged_at.pop(ModelState.WARM, None)
        _LOGGER.log(level, "chat: %s", self._explain(state, detail))

    def _explain(self, state: ModelState, detail: str) -> str:
        api = self._api
        return _TEXTS.get(state, "{detail}").format(
            model=api.model, server=api.server, context=api.context_tokens, detail=detail
        )
