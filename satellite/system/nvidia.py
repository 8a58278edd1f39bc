"""Name, load, memory and power of the NVIDIA GPUs of this machine."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

_LOGGER = logging.getLogger(__name__)


# Once: `nvmlInit` loads the driver's library.
@cache
def _nvml() -> Any:
    """Return NVIDIA's management library, initialised; None without a driver."""
    import pynvml  # type: ignore[import-untyped]

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        _LOGGER.debug("no NVIDIA driver: %s", error)
        return None
    return pynvml


def driver() -> str:
    """Return the driver's version and the newest CUDA version that it runs; empty if unknown."""
    nvml = _nvml()
    if nvml is None:
        return ""
    try:
        cuda = nvml.nvmlSystemGetCudaDriverVersion()
        return f"{nvml.nvmlSystemGetDriverVersion()}, CUDA up to {cuda // 1000}.{cuda % 1000 // 10}"
    except nvml.NVMLError as error:
        _LOGGER.debug("the driver's version is unknown: %s", error)
        return ""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU; None is what it does not report."""

    name: str | None = None
    load: float | None = None
    """0 to 1."""

    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    watts: float | None = None


def gpus() -> list[Gpu]:
    """Return every GPU of this machine.

    Takes some milliseconds, the first time more.
    """
    nvml = _nvml()
    if nvml is None:
        return []
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError as error:
        _LOGGER.debug("the GPUs cannot be listed: %s", error)
        return []
    return [_queried(nvml, handle) for handle in handles]


def _queried(nvml: Any, handle: Any) -> Gpu:
    questions: dict[str, Callable[[], Any]] = {
        "name": lambda: nvml.nvmlDeviceGetName(handle),
        "load": lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
        "memory_used_bytes": lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used,
        "memory_total_bytes": lambda: nvml.nvmlDeviceGetMemoryInfo(handle).total,
        "watts": lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000,
    }
    values: dict[str, Any] = {}
    for name, ask in questions.items():
        try:
            values[name] = ask()
        except nvml.NVMLError as error:  # each card keeps something to itself
            _LOGGER.debug("a GPU does not report its %s: %s", name, error)
    return Gpu(**values)
