"""What was seen of a model, told once: its state, how often it came into each, and a line in the log for people."""

import logging
import time
from collections import Counter
from collections.abc import Sequence

from satellite.engines.chat.keepalive.loaded_models import Residency
from satellite.engines.chat.ollama_client import OllamaApi

_LOGGER = logging.getLogger(__name__)

_REPEAT_SECONDS = 3600.0
"""What was set right and comes again sooner than this is only counted."""

_WORDS = {
    Residency.UNKNOWN: "{model} has not been looked at yet",
    Residency.WARM: "{model} is loaded and ready ({detail})",
    Residency.RELEASED: "{model} is unloaded until it is needed, as keepalive.when says",
    Residency.NOT_LOADED: "{model} was not loaded; it took {detail}",
    Residency.UNLOADED: "{model} was unloaded by another client, or is being loaded by it; it is loaded again "
    "in a moment",
    Residency.LOADING: "{model} is being loaded",
    Residency.OTHER_NAME: "{model} answers, but Ollama lists it under another name, that of a model which shares its "
    "file, or not at all; nothing is wrong",
    Residency.FOREIGN_KEEP_ALIVE: "another client had set {model} to be unloaded; it is set to stay again",
    Residency.OTHER_CONTEXT: "another client has loaded {model} with a shorter context; it is loaded again, with "
    "{context}, when somebody is about to ask. To end this, give both the same: num_ctx here, the context window there",
    Residency.PARTLY_ON_CPU: "{model} does not fit on the GPU and is slow ({detail}); free GPU memory, or choose a "
    "smaller model or num_ctx",
    Residency.ON_CPU: "{model} runs on the CPU though there is a GPU: restart Ollama",
    Residency.RUNNER_DIED: "{model} had died though {server} listed it; it took {detail}",
    Residency.UNREACHABLE: "{detail}",
    Residency.SILENT: "{detail}; if this lasts, restart Ollama",
    Residency.MODEL_MISSING: "{detail}",
    Residency.FAILING: "{detail}",
    Residency.REFUSED: "{detail}",
    Residency.MISCONFIGURED: "{detail}",
    Residency.SLOW: "{detail}",
}

_LEVELS = {
    Residency.UNKNOWN: logging.DEBUG,
    Residency.LOADING: logging.DEBUG,
    Residency.UNLOADED: logging.DEBUG,
    Residency.WARM: logging.INFO,
    Residency.RELEASED: logging.INFO,
    Residency.NOT_LOADED: logging.INFO,
    Residency.OTHER_NAME: logging.INFO,
}


class Sightings:
    """The present state of one model, and the past ones in numbers."""

    def __init__(self, api: OllamaApi) -> None:
        self.state = Residency.UNKNOWN
        self.since = time.monotonic()
        self.detail = ""
        self.seen: Counter[Residency] = Counter()
        """How often each state was come into."""

        self.present: set[Residency] = set()
        """What is the matter with the loaded model."""

        self._api = api
        self._logged_at: dict[Residency, float] = {}

    @property
    def words(self) -> str:
        """The present state, for an administrator."""
        return self._explain(self.state, self.detail)

    def enter(self, state: Residency, detail: str = "") -> None:
        """Come into `state`; counted and logged unless it is the present one."""
        self.detail = detail
        if state is self.state:
            return
        self.state, self.since = state, time.monotonic()
        if state not in self.present:
            self.seen[state] += 1
            self._log(state, detail, always=state is not Residency.WARM)

    def passed(self, state: Residency, detail: str) -> None:
        """Note a state that was there and has been set right."""
        self.seen[state] += 1
        self._log(state, detail)

    def find(self, findings: Sequence[Residency], detail: str = "") -> None:
        """Note what is the matter; what already was is not told again."""
        for finding in findings:
            if finding not in self.present:
                self.seen[finding] += 1
                self._log(finding, detail)
        self.present = set(findings)

    def _log(self, state: Residency, detail: str, *, always: bool = False) -> None:
        now = time.monotonic()
        level = _LEVELS.get(state, logging.WARNING)
        if not always and now - self._logged_at.get(state, float("-inf")) < _REPEAT_SECONDS:
            level = logging.DEBUG
        else:
            self._logged_at[state] = now
        if level >= logging.WARNING:  # after bad news good news is news again
            self._logged_at.pop(Residency.WARM, None)
        _LOGGER.log(level, "chat: %s", self._explain(state, detail))

    def _explain(self, state: Residency, detail: str) -> str:
        api = self._api
        return _WORDS[state].format(model=api.model, server=api.server, context=api.context_tokens, detail=detail)
