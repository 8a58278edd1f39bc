"""What Ollama's list of loaded models, `/api/ps`, means for ours."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from satellite.errors import ChatError
from satellite.net.provider_states import state_after

_FOR_EVER = timedelta(days=3650)
"""Ollama writes "for ever" as a date some 292 years ahead."""

_LOST_SHARE = 0.05
"""How much less of the model on the GPU is worth loading it again."""


class Residency(StrEnum):
    """Where the model is; the worst that is known."""

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
    def after(cls, error: ChatError) -> "Residency":
        """Return what a failed request says of the model."""
        state = state_after(error)
        return cls(state) if state in list(cls) else cls.FAILING


RESIDENT = frozenset(
    {
        Residency.WARM,
        Residency.OTHER_NAME,
        Residency.FOREIGN_KEEP_ALIVE,
        Residency.PARTLY_ON_CPU,
        Residency.ON_CPU,
    }
)
"""The states in which a question is answered without loading anything."""

AWAY = frozenset(
    {
        Residency.UNREACHABLE,
        Residency.SILENT,
        Residency.MODEL_MISSING,
        Residency.FAILING,
        Residency.REFUSED,
        Residency.MISCONFIGURED,
    }
)
"""The states in which it is not answered."""

COLD = frozenset({Residency.LOADING, Residency.RELEASED, Residency.UNLOADED, Residency.OTHER_CONTEXT})
"""The states in which it is answered once the model has been loaded."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """One entry of the list."""

    name: str
    size: int
    """Bytes of the loaded model."""

    size_vram: int
    """How many of them are on a GPU."""

    context_tokens: int | None
    expires_at: datetime | None

    def stays(self, now: datetime) -> bool:
        """Return whether it is to stay loaded for ever."""
        return self.expires_at is None or self.expires_at - now > _FOR_EVER

    @property
    def gpu_share(self) -> float:
        """Part of it that is on a GPU, 0 to 1."""
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


def find(loaded: Sequence[Loaded], model: str, alias: str | None) -> Loaded | None:
    """Return the entry of `model`, or of `alias`, the name it was loaded under."""
    by_name = {full_name(entry.name): entry for entry in loaded}
    found = by_name.get(full_name(model))
    return found if found or alias is None else by_name.get(full_name(alias))


def likely_alias(loaded: Sequence[Loaded], context_tokens: int) -> str | None:
    """Return under which name a model runs that answers but is not listed: models of one file share one runner.

    It is the one that our own request has just told to stay, with our context; None when several could be.
    """
    now = datetime.now(UTC)
    staying = [entry for entry in loaded if entry.stays(now)]
    with_our_context = [entry for entry in staying if entry.context_tokens == context_tokens]
    for candidates in (with_our_context, staying):
        if len(candidates) == 1:
            return candidates[0].name
    return None


def findings(entry: Loaded, model: str, least_tokens: int, *, expects_gpu: bool = True) -> list[Residency]:
    """Return what is not as it should be with a loaded model, the worst first; `least_tokens` of context are enough.

    With no GPU to expect it on, nothing is wrong with a model on the CPU.
    """
    found = []
    if entry.context_tokens is not None and entry.context_tokens < least_tokens:
        found.append(Residency.OTHER_CONTEXT)
    if not entry.stays(datetime.now(UTC)):
        found.append(Residency.FOREIGN_KEEP_ALIVE)
    if entry.size and entry.size_vram <= 0:
        found += [Residency.ON_CPU] if expects_gpu else []
    elif entry.size_vram < entry.size:
        found.append(Residency.PARTLY_ON_CPU)
    if full_name(entry.name) != full_name(model):
        found.append(Residency.OTHER_NAME)
    return found


class GpuMemory:
    """Remembers how much of a model was on the GPU at best, for which loading it again is worth one try."""

    def __init__(self) -> None:
        self.tried = False
        """Whether it was loaded again since."""

        self._best_share = 0.0

    @property
    def was_used(self) -> bool:
        """Whether any of the model was ever seen on a GPU."""
        return self._best_share > 0

    def is_lost(self, entry: Loaded) -> bool:
        """Tell whether less is on the GPU than once was, and nothing was tried."""
        if not entry.size:
            return False
        if entry.gpu_share >= self._best_share - _LOST_SHARE:
            self._best_share = max(self._best_share, entry.gpu_share)
            self.tried = False
        return entry.gpu_share < self._best_share - _LOST_SHARE and not self.tried
