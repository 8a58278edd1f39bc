"""What C libraries say on standard error without being asked."""

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOCK = threading.Lock()


@contextmanager
def without(notice: bytes) -> Iterator[None]:
    """Keep `notice` out of what C libraries write to standard error inside; everything else comes at the end.

    For the libraries that have no setting for it. C's `stderr` is replaced, and not the descriptor: neither Python nor
    the children that another thread may be starting see anything of that.
    """
    libc = ctypes.CDLL(None)
    try:
        errors = ctypes.c_void_p.in_dll(libc, "stderr")
    except ValueError:  # a C library where it is no variable
        yield
        return
    libc.open_memstream.restype, libc.fflush.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    text, size = ctypes.c_char_p(), ctypes.c_size_t()
    with _LOCK:
        # Never closed: a thread that has just fetched it may still write to it.
        memory, usual = libc.open_memstream(ctypes.byref(text), ctypes.byref(size)), errors.value
        errors.value = memory
        try:
            yield
        finally:
            errors.value = usual
            libc.fflush(memory)
            rest = ctypes.string_at(text, size.value).replace(notice, b"")
            if rest:
                os.write(2, rest)
            _KEPT.append((text, size))


_KEPT: list[tuple[ctypes.c_char_p, ctypes.c_size_t]] = []
"""Where those streams write to."""
