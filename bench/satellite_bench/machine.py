"""The machine of a measurement: figures mean nothing without it."""

import os
import platform
from dataclasses import dataclass

import psutil

from satellite.system.process import processor


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine under the measurement."""

    processor: str
    cores: int
    """Those that this process may use."""

    memory_gib: float
    python: str


def this_machine() -> Machine:
    """Return the machine this runs on."""
    memory = psutil.virtual_memory().total / 2**30
    return Machine(processor(), len(os.sched_getaffinity(0)), memory, platform.python_version())
