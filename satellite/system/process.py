"""What the daemon asks of the operating system, and of Python, for its own process."""

import asyncio
import ctypes
import logging
import platform
import resource
import time
from importlib import import_module
from pathlib import Path
from typing import Any

_LOGGER = logging.getLogger(__name__)

_TIME_ZONE_SECONDS = 2.0
"""How long after a change of the time zone the old one may still be told."""


_OTHER_FILES = 128
"""Files that are open beside connections, or may be for a moment."""

_LEAST_CONNECTIONS = 8


def allow_many_connections() -> None:
    """Lift the soft limit of open files, often 1024, to the hard one: every connection is an open file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def affordable_connections(wanted: int) -> int:
    """Return how many of the `wanted` connections a server may have: half of the open files that are left for them.

    Beyond the limit of open files nothing would be accepted any more, and asyncio would fill the log with that.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY:
        return wanted
    affordable = min(wanted, max(_LEAST_CONNECTIONS, (hard - _OTHER_FILES) // 2))
    if affordable < wanted:
        _LOGGER.warning("of %d connections %d can be had: this process may open %d files", wanted, affordable, hard)
    return affordable


def return_freed_memory() -> None:
    """Give memory that was freed back to the system; takes some milliseconds.

    By itself glibc keeps what it takes for useful, after a few sentences and commands more than 100 MB.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except AttributeError:
        _LOGGER.debug("this C library has no malloc_trim")
        return
    trim(0)


async def follow_time_zone() -> None:
    """Let this process tell the time of the machine's zone, also when that is changed, until cancelled.

    The C library reads /etc/localtime at the first use and, in what Python calls, never looks again by itself.
    """
    while True:
        time.tzset()  # looks at the file, and reads it when it is another one
        await asyncio.sleep(_TIME_ZONE_SECONDS)


def processor() -> str:
    """Return the processor's name as the kernel gives it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


async def imported(name: str) -> Any:
    """Return the module `name`, imported in a thread: a large library takes tenths of a second, and others wait."""
    return await asyncio.to_thread(import_module, name)
