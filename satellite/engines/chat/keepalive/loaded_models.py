"""Ollama's list of loaded models, `/api/ps`, and what it means for the configured one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from satellite.errors import ChatError
from satellite.net.provider_states import STATES, state_after

_FOR_EVER = timedelta(days=3650)
"""Ollama writes "for ever" as a date some 292 years ahead."""

_LOST_SHARE = 0.05
"""Loss of GPU memory, as a share of the model, at which it is loaded again."""


class ModelState(StrEnum):
    """Where the model is, and the worst that is known to be wrong with it."""

    UNKNOWN = "unknown"
    WARM = "warm"
    RELEASED = "released"
    NOT_LOADED = "not-loaded"
    UNLOADED = "unloaded"
    LOADING = "loading"
    OTHER_NAME = "other-name"
    FOREIGN_KEEP_ALIVE = "foreign-keep-alive"
    OTHER_CONTEXT = "other-context"
    PARTLY_ON_CPU = "partly-on-cpu"
    ON_CPU = "on-cpu"
    RUNNER_DIED = "runner-died"
    UNREACHABLE = "unreachable"
    SILENT = "silent"
    MODEL_MISSING = "model-missing"
    FAILING = "failing"
    REFUSED = "refused"
    MISCONFIGURED = "misconfigured"
    SLOW = "slow"

    @classmethod
    def after(cls, error: ChatError) -> "ModelState":
        """Return what a failed request says of the model."""
        state = state_after(error)
        return cls(state) if state in list(cls) else cls.FAILING


def _those(model: str) -> frozenset[ModelState]:
    return frozenset(state for state in ModelState if STATES[state].get("model") == model)


LOADED = _those("loaded")
"""The states in which a question is answered without loading the model."""

AWAY = _those("away")
"""The states in which a question is not answered."""

COLD = _those("cold")
"""The states in which a question is answered once the model has been loaded."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """One entry of the list."""

    name: str
    size: int
    """Bytes of the loaded model."""

    size_vram: int
    """How many of them are on a GPU."""

    context_tokens: int | None
    expires_at: datetime | None

    def stays(self, now: datetime) -> bool:
        """Return whether it stays loaded for ever."""
        return self.expires_at is None or self.expires_at - now > _FOR_EVER

    @property
    def gpu_share(self) -> float:
        """Share of it that is on a GPU, 0 to 1."""
        return min(1.0, self.size_vram / self.size) if self.size else 0.0

    @property
    def described(self) -> str:
        """Where it runs and how much it can read, for people."""
        where = f"{self.gpu_share:.0%} on the GPU" if self.size_vram > 0 or not self.size else "on the CPU"
        return where + (f", context {self.context_tokens}" if self.context_tokens else "")


def full_name(model: str) -> str:
    """Return `model` as Ollama lists it: with its tag, without the registry and folder that are the default."""
    name = model.removeprefix("registry.ollama.ai/").removeprefix("library/").casefold()
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def find(loaded: Sequence[LoadedModel], model: str) -> LoadedModel | None:
    """Return the entry of `model`."""
    return next((entry for entry in loaded if full_name(entry.name) == full_name(model)), None)


def findings(entry: LoadedModel, least_tokens: int, *, expects_gpu: bool = True) -> list[ModelState]:
    """Return what is wrong with a loaded model, the worst first; it is to have a context of `least_tokens`.

    Without a GPU to expect it on, nothing is wrong with a model on the CPU.
    """
    found = []
    if entry.context_tokens is not None and entry.context_tokens < least_tokens:
        found.append(ModelState.OTHER_CONTEXT)
    if not entry.stays(datetime.now(UTC)):
        found.append(ModelState.FOREIGN_KEEP_ALIVE)
    # Without a size nothing is known of where it runs.
    if entry.size and entry.size_vram <= 0:
        found += [ModelState.ON_CPU] if expects_gpu else []
    elif entry.size_vram < entry.size:
        found.append(ModelState.PARTLY_ON_CPU)
    return found


class GpuShare:
    """Remembers the largest share of a model that was on the GPU; once it is lost, a reload is worth one try."""

    def __init__(self) -> None:
        self.tried = False
        """Whether it was loaded again since it was last at its best."""

        self._best_share = 0.0

    @property
    def was_used(self) -> bool:
        """Whether any of the model was ever on a GPU."""
        return self._best_share > 0

    def is_lost(self, entry: LoadedModel) -> bool:
        """Return whether less is on the GPU than once was, and loading it again has not been tried."""
        if not entry.size:
            return False
        if entry.gpu_share >= self._best_share - _LOST_SHARE:
            self._best_share = max(self._best_share, entry.gpu_share)
            self.tried = False
        return entry.gpu_share < self._best_share - _LOST_SHARE and not self.tried
