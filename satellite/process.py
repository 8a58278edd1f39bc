"""What the daemon asks of the operating system for its own process."""

import ctypes
import logging
import resource

_LOGGER = logging.getLogger(__name__)

# From glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

_LARGE_BYTES = 1 << 20
_KEPT_BYTES = 16 << 20


def allow_many_connections() -> None:
    """Lift the soft limit of open files, often 1024, to the hard one: every connection is an open file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def return_freed_memory() -> None:
    """Let freed memory go back to the system: the engines' large buffers at once, the rest past 16 MiB.

    By itself glibc raises its thresholds to the largest buffer ever freed and keeps some 130 MB for good.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        _LOGGER.debug("this C library has no mallopt")
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
    mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
