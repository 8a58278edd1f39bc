"""What was measured where and when: a figure without it means nothing."""

import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from satellite.system.process import processor


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine under the measurement."""

    processor: str
    cores: int
    """Those that this process may use."""

    memory_gib: float
    python: str

    def described(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "processor": self.processor,
            "cores": self.cores,
            "memory_gib": round(self.memory_gib, 1),
            "python": self.python,
        }


def this_machine() -> Machine:
    """Return the machine this runs on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Machine(processor(), len(os.sched_getaffinity(0)), memory, platform.python_version())


def load() -> tuple[float, float, float]:
    """Return how many processes wanted a core on average over the last 1, 5 and 15 minutes."""
    return os.getloadavg()


def now() -> str:
    """Return the time as people and programs read it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
