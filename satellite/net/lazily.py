"""An attribute that is made at its first use, once, also when two threads use it first."""

import threading
from functools import cached_property
from typing import Any, TypeVar

T = TypeVar("T")

_LOCK = threading.RLock()


class made_once(cached_property[T]):  # a decorator, named as one
    """`functools.cached_property`, which since Python 3.12 may make the value twice: a client would never be closed."""

    def __get__(self, instance: Any, owner: type[Any] | None = None) -> Any:
        """Return the value."""
        with _LOCK:
            return super().__get__(instance, owner)
