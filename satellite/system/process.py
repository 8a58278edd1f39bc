"""The daemon's own process: open files, memory, time zone, processor, and imports off the event loop."""

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
"""How long after a change of the time zone the old one may still be used."""


_OTHER_FILES = 128
"""Open files that are not connections, with a reserve."""

_LEAST_CONNECTIONS = 8


def allow_many_connections() -> None:
    """Raise the soft limit of open files, often 1024, to the hard one: every connection is an open file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def affordable_connections(wanted: int) -> int:
    """Return how many of the `wanted` connections a server may have, so that two servers share the open files."""
    # At the limit of open files nothing can be accepted, and asyncio logs that for every attempt.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY:
        return wanted
    # Two servers, Wyoming and HTTP, share what is left.
    affordable = min(wanted, max(_LEAST_CONNECTIONS, (hard - _OTHER_FILES) // 2))
    if affordable < wanted:
        _LOGGER.warning("max_connections %d is reduced to %d: this process may open %d files", wanted, affordable, hard)
    return affordable


def return_freed_memory() -> None:
    """Return freed memory to the system; takes some milliseconds."""
    # glibc keeps freed memory by itself: more than 100 MB after a few sentences and commands.
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except AttributeError:
        _LOGGER.debug("this C library has no malloc_trim")
        return
    trim(0)


async def follow_time_zone() -> None:
    """Keep to the machine's time zone when it is changed, until cancelled."""
    # The C library reads /etc/localtime once, and never again in the functions that Python calls.
    while True:
        time.tzset()  # reads the file only if it has changed
        await asyncio.sleep(_TIME_ZONE_SECONDS)


def processor() -> str:
    """Return the processor's name from the kernel, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


async def imported(name: str) -> Any:
    """Return the module `name`, imported in a thread, since a large library takes tenths of a second."""
    return await asyncio.to_thread(import_module, name)
